//! What outlives a restart: the account, the certificate with its key, and when was asked. For the server's own user alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};

use crate::config::AcmeSettings;

/// Longest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Attempts that are remembered; of more the oldest are forgotten.
const ATTEMPTS_MAX: usize = 32;

/// Where everything is. Another authority or other names lead to other files, so that a change of settings needs no deletion.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    folder: PathBuf,
    account: PathBuf,
    certificate: PathBuf,
}

impl Kept {
    /// Below the directory of the store; nothing is made yet.
    pub(crate) fn new(dir: &Path, settings: &AcmeSettings) -> Self {
        let folder = dir.join("acme");
        let account = folder.join(format!("account-{}.json", short(&settings.directory)));
        let all = format!("{} {}", settings.directory, settings.domains.join(" "));
        let first = settings.domains.first().map_or("", String::as_str);
        let certificate = folder.join(format!("{first}-{}.pem", short(&all)));
        Kept { folder, account, certificate }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The chain and its key, in one file: they are replaced at once.
    pub(crate) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The account as it was written; `None` if there is none.
    pub(super) fn account(&self) -> Option<String> {
        read(&self.account).ok()
    }

    pub(super) fn write_account(&self, json: &str) -> io::Result<()> {
        self.write(&self.account, json)
    }

    /// After this the next attempt makes a new one.
    pub(super) fn forget_account(&self) -> io::Result<()> {
        fs::remove_file(&self.account)
    }

    pub(super) fn write_certificate(&self, pem: &str) -> io::Result<()> {
        self.write(&self.certificate, pem)
    }

    /// When was asked, Unix s, the oldest first; nothing of a file that is not there or not ours.
    pub(super) fn attempts(&self) -> Vec<i64> {
        read(&self.attempts_file()).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    }

    pub(super) fn note_attempts(&self, attempts: &[i64]) -> io::Result<()> {
        let late = &attempts[attempts.len().saturating_sub(ATTEMPTS_MAX)..];
        self.write(&self.attempts_file(), &late.iter().map(|at| format!("{at}\n")).collect::<String>())
    }

    fn attempts_file(&self) -> PathBuf {
        self.folder.join("attempts")
    }

    /// The whole text or, if something fails, what was there before.
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let new = path.with_added_extension("new");
        // What a crash has left there may have other rights.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// A short name for a long text.
fn short(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_for_their_owner_and_survive() {
        let dir = std::env::temp_dir().join(format!("lyceum-acme-{}", std::process::id()));
        let mut settings = AcmeSettings { domains: vec!["calls.school.example".to_owned()], ..Default::default() };
        let kept = Kept::new(&dir, &settings);
        assert_eq!((kept.account(), kept.attempts()), (None, vec![]));
        kept.write_account("{}").expect("a writable place");
        kept.note_attempts(&(0..100).collect::<Vec<_>>()).expect("a writable place");
        kept.write_certificate("one").expect("a writable place");
        kept.write_certificate("two").expect("a writable place");
        assert_eq!(fs::read_to_string(kept.certificate()).expect("it is there"), "two");
        assert_eq!(kept.attempts(), (100 - ATTEMPTS_MAX as i64..100).collect::<Vec<_>>());
        for file in fs::read_dir(kept.folder()).expect("it is there") {
            let mode = file.expect("an entry").metadata().expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(kept.folder()).expect("it is there").permissions().mode() & 0o777, 0o700);
        settings.domains.push("b.example".to_owned());
        let other = Kept::new(&dir, &settings);
        assert!(other.certificate() != kept.certificate() && other.account().as_deref() == Some("{}"));
        settings.directory = "https://other.example/".to_owned();
        assert_eq!(Kept::new(&dir, &settings).account(), None, "another authority knows another account");
        kept.forget_account().expect("it was there");
        assert_eq!(kept.account(), None);
        fs::remove_dir_all(&dir).expect("it is there");
    }
}
