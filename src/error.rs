//! Why the server does not start or cannot go on: one sentence each, saying what to change.

use std::fmt;
use std::io;

/// A reason to end the process with exit code 1.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A setting cannot be understood; the sentence names the key, where it came from and what is expected.
    Setting(String),
    /// A socket cannot be bound.
    Bind {
        /// What was to be bound, such as `127.0.0.1:3001`.
        address: String,
        /// The port, which the sentence names.
        port: u16,
        /// How to choose another.
        choose: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// What `lyceum doctor` found, whole; not a word more is to be said.
    Found(String),
    /// Something that we rely on broke; the sentence says what.
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Setting(sentence) | Failure::Broken(sentence) | Failure::Found(sentence) => f.write_str(sentence),
            Failure::Bind { address, port, choose, error } => match error.kind() {
                io::ErrorKind::AddrInUse => write!(f, "EADDRINUSE: port {port} is taken; choose another with {choose}"),
                io::ErrorKind::PermissionDenied => {
                    write!(
                        f,
                        "EACCES: port {port} needs privileges that this process lacks; choose one above 1023 with {choose}"
                    )
                }
                io::ErrorKind::AddrNotAvailable => {
                    write!(
                        f,
                        "EADDRNOTAVAIL: {address} is not an address of this machine; choose another with {choose}"
                    )
                }
                _ => write!(f, "cannot listen on {address}: {error}; choose another with {choose}"),
            },
        }
    }
}
