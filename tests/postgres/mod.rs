//! A PostgreSQL of its own for tests: Debian's binaries, a directory under the temporary one, a Unix socket in it and no port, so
//! that nothing outside sees it. It ends with the test process, however that ends.
#![allow(dead_code, reason = "each test needs a part of it")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long it may take to start, recovery after a kill included.
const START_MAX: Duration = Duration::from_secs(120);
/// Small, and quick: a test kills the server, never the machine.
const SETTINGS: [&str; 6] = [
    "fsync=off",
    "logging_collector=off",
    "max_connections=200",
    "max_wal_senders=0",
    "max_wal_size=64MB",
    "wal_level=minimal",
];
/// It runs the server until its own input ends, as it does when the test ends or is killed; then it takes all away.
const KEEPER: &str = r#"
dir=$1; shift
"$@" <&- &
pid=$!
exec 2>/dev/null
read -r word
[ "$word" = leave ] || kill -INT "$pid" 2>/dev/null
wait "$pid"
[ "$word" = leave ] || rm -rf "$dir"
"#;

/// A server that runs, or that a test stopped.
pub(crate) struct Postgres {
    dir: PathBuf,
    keeper: Option<Child>,
}

impl Postgres {
    /// A new one, started.
    pub(crate) fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("lyceum-pg-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).expect("the directory is ours");
        if is_root() {
            let user = std::fs::metadata("/var/lib/postgresql").expect("Debian's postgresql brings its home");
            std::os::unix::fs::chown(&dir, Some(user.uid()), Some(user.gid())).expect("root may give it away");
        }
        let made = unprivileged("initdb")
            .args(["--no-sync", "--no-locale", "-E", "UTF8", "-A", "trust", "-U", "postgres", "-D"])
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut server = Postgres { dir, keeper: None };
        server.start_again();
        server
    }

    /// Starts it again after [`Postgres::stop`] or [`Postgres::kill`]; what was committed is there.
    pub(crate) fn start_again(&mut self) {
        let begun = Instant::now();
        loop {
            match self.try_start() {
                Ok(keeper) => break self.keeper = Some(keeper),
                // Children of a killed server need a moment to notice.
                Err(said) => assert!(begun.elapsed() < START_MAX, "postgres does not start: {said}"),
            }
        }
    }

    fn try_start(&self) -> Result<Child, String> {
        let server = unprivileged("postgres");
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.dir)
            .arg(server.get_program())
            .args(server.get_args())
            .arg("-D")
            .arg(self.dir.join("data"))
            .arg("-k")
            .arg(&self.dir)
            .args(["-h", ""])
            .args(SETTINGS.iter().flat_map(|setting| ["-c", setting]))
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let log = BufReader::new(keeper.stderr.take().expect("its errors are piped"));
        let (ready, said) = mpsc::channel();
        // It reads on until the end, so that the server never waits for us.
        std::thread::spawn(move || {
            let mut all = String::new();
            let mut ready = Some(ready);
            for line in log.lines().map_while(Result::ok) {
                if ready.is_none() {
                    continue;
                }
                all.push_str(&line);
                all.push('\n');
                if line.contains("database system is ready to accept connections") {
                    let _ = ready.take().map(|ready| ready.send(Ok(())));
                }
            }
            let _ = ready.map(|ready| ready.send(Err(all)));
        });
        match said.recv_timeout(START_MAX).unwrap_or_else(|_| Err("it says nothing".to_owned())) {
            Ok(()) => Ok(keeper),
            Err(said) => {
                leave(keeper);
                Err(said)
            }
        }
    }

    /// Makes a database and gives its URL.
    pub(crate) fn database(&self, name: &str) -> String {
        self.psql("postgres", &format!("CREATE DATABASE \"{name}\""));
        self.url(name)
    }

    /// The URL of a database.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("postgres:///{name}?user=postgres&host={}", self.dir.display())
    }

    /// What psql prints for a script: rows by lines, columns by `|`.
    pub(crate) fn psql(&self, database: &str, script: &str) -> String {
        let output = Command::new(program("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"])
            .arg(&self.dir)
            .args(["-c", script])
            .stdin(Stdio::null())
            .output()
            .expect("psql runs");
        assert!(output.status.success(), "psql: {}\n{script}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("psql prints UTF-8").trim_end().to_owned()
    }

    /// The process of the server itself.
    pub(crate) fn pid(&self) -> u32 {
        let file = std::fs::read_to_string(self.dir.join("data/postmaster.pid")).expect("the server runs");
        file.lines().next().and_then(|line| line.parse().ok()).expect("the first line is its process")
    }

    /// Ends it as an operator does who is in a hurry; `start_again` brings it back.
    pub(crate) fn stop(&mut self) {
        self.signal("INT");
    }

    /// kill -9: no goodbye, no last write.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
    }

    fn signal(&mut self, signal: &str) {
        let Some(keeper) = self.keeper.take() else { return };
        let sent =
            Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).status().expect("kill runs");
        assert!(sent.success(), "the server runs");
        leave(keeper);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Tells the keeper to leave the directory alone when the server has ended, and waits for both.
fn leave(mut keeper: Child) {
    if let Some(mut stdin) = keeper.stdin.take() {
        let _ = stdin.write_all(b"leave\n");
    }
    let _ = keeper.wait();
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A program of the newest PostgreSQL that Debian installed.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed: tests/run --only tools");
    let newest = versions
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin").join(name).is_file())
        .max_by_key(|path| path.file_name().and_then(|v| v.to_str()?.parse::<u32>().ok()))
        .expect("postgresql is installed: tests/run --only tools");
    newest.join("bin").join(name)
}

/// The same, run as `postgres` where we are root, as which it refuses to run.
fn unprivileged(name: &str) -> Command {
    let program = program(name);
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(&program);
        command
    } else {
        Command::new(&program)
    };
    command.current_dir(Path::new("/"));
    command
}
