//! Commands that know nothing of the settings of whoever runs the tests.

use std::process::Command;

/// How the names begin by which the server is set.
const OURS: [&str; 9] = [
    "LYCEUM",
    "TURN_",
    "SUPABASE_",
    "OTEL_",
    "JWT_SECRET",
    "DATABASE_URL",
    "SIGNALING_PORT",
    "NEXTAUTH_URL",
    "RUST_LOG",
];

/// The program, without them.
pub(crate) fn plain(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| OURS.iter().any(|our| name.starts_with(our))) {
        command.env_remove(name);
    }
    command
}
