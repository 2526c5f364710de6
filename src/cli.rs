//! What the binary does besides serving: short tasks of an operator, with the server's own settings.

mod meetings;

use std::io::Write as _;
use std::time::Duration;

use clap::Subcommand;

use crate::auth::cli::Wanted;
use crate::config::{Loaded, Settings};
use crate::error::Failure;
use crate::store::{Store, Tables, look};
use crate::tls::Certificates;
use crate::{applier, ask, auth, clock, config, doctor, webhooks};

/// How long the database gets to answer.
const STORE_MAX: Duration = Duration::from_secs(30);

/// How often it is looked whether a server has ended.
const WAIT_EVERY: Duration = Duration::from_millis(200);

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve calls: what happens without a word, too.
    Serve,
    /// Look at settings without serving.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Exit with 0 if the server with these settings is alive, else with 1.
    ///
    /// It asks the address of [admin] listen for /livez, and is meant for containers, whose images hold nothing else to ask with:
    /// the settings must come from the environment or the same --config, because flags of the server are not known here.
    Healthcheck,
    /// Look whether calls can work here: exit with 0, or with 1 if something is broken; each finding says what mends it.
    ///
    /// It looks at the announced addresses, the kernel's UDP buffers, disk, clock, ports, certificate, database and key set, speaks TLS as
    /// browsers do, and opens an allocation by each TURN URL that they are told. Run it with the settings of the server, while that runs.
    Doctor {
        /// A list of objects in place of text: about, state, says, mend.
        #[arg(long)]
        json: bool,
        /// Hold a WebSocket open through --url for so many seconds, 1 to 3,600: load balancers may cut it off.
        #[arg(long, value_name = "SECONDS", requires = "url", value_parser = clap::value_parser!(u64).range(1..=doctor::HOLD_MAX.as_secs()))]
        wait: Option<u64>,
        /// Where browsers reach the server, such as https://calls.school.example; for --wait.
        #[arg(long, requires = "wait")]
        url: Option<String>,
    },
    /// Let calls end, then the server: nobody new gets in, and who is here may stay for [admin] drain_s.
    ///
    /// As SIGTERM does, but over [admin] listen, with the admin key or the first API key pair of these settings. The next start
    /// continues meetings that were on. A signal after this ends the server at once.
    Drain {
        /// Return when the server has ended, and not before.
        #[arg(long)]
        wait: bool,
    },
    /// Print a join token, signed with the server's JWT_SECRET or its first API key pair.
    ///
    /// For trying things out: `lyceum token --session algebra --user ada --role instructor` gives what the call page takes after
    /// `/#token=`. Applications mint their own; docs/protocol.md says what stands in a token.
    Token {
        /// For which session.
        #[arg(long)]
        session: String,
        /// For which user.
        #[arg(long)]
        user: String,
        /// The name that others see.
        #[arg(long)]
        name: Option<String>,
        /// instructor, participant (the default) or observer.
        #[arg(long)]
        role: Option<String>,
        /// How long it is good, in seconds ([auth] token_ttl_s by default).
        #[arg(long, value_name = "SECONDS")]
        ttl: Option<u64>,
    },
    /// Try out receivers of webhooks.
    #[command(subcommand)]
    Webhook(Webhook),
    /// List meetings, newest first; or show who attended one.
    ///
    /// It reads the database of these settings, whether the server runs or not. Queries of your own: docs/attendance.md.
    Meetings(meetings::Wanted),
    /// Forget a person: a pseudonym takes their place everywhere, minutes of attendance stay.
    ///
    /// It changes the database of these settings, whether the server runs or not.
    Erase {
        /// Whom.
        #[arg(long)]
        user: String,
    },
}

/// What to look at.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show what holds, and where each value came from; secrets are hidden.
    ///
    /// What it prints is a settings file itself.
    Print {
        /// A list of objects in place of a file: section, name, value, origin, secret.
        #[arg(long)]
        json: bool,
    },
    /// Say whether the server would start with these settings: exit with 0, or with 1 and a line for each that is wrong.
    Check,
    /// Print a file with every setting, what it is about, and its default.
    Example,
}

/// What to do with webhooks.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Webhook {
    /// Send a signed test event to a receiver and show what it answers.
    Test {
        /// Its URL.
        url: String,
    },
}

/// Does it, and says on standard output what came of it.
pub(crate) fn run(loaded: &Loaded, command: Command) -> Result<(), Failure> {
    let settings = &loaded.settings;
    match command {
        Command::Serve => Ok(()),
        Command::Config(ConfigCommand::Print { json }) => say(&config::print(settings, &loaded.origins, json)),
        Command::Config(ConfigCommand::Check) => {
            if let [Some(certificate), Some(key)] = &settings.tls_files {
                Certificates::load(certificate, key)?;
            }
            say("All settings are good. `lyceum doctor` looks whether calls can work with them.")
        }
        Command::Config(ConfigCommand::Example) => say(&config::example()),
        Command::Healthcheck => {
            let answer = ask::admin(settings, "GET", "/livez", None)?;
            let alive = answer.status == 200;
            if alive { say(answer.body.trim_end()) } else { Err(Failure::Broken(answer.body.trim_end().to_owned())) }
        }
        Command::Doctor { json, wait, url } => {
            let held = wait.zip(url).map(|(time_s, url)| doctor::Wait { url, time: Duration::from_secs(time_s) });
            say(&self::wait(doctor::run(settings, json, held.as_ref()))?)
        }
        Command::Drain { wait } => drain(settings, wait),
        Command::Token { session, user, name, role, ttl: ttl_s } => {
            let wanted = Wanted { session, user, name, role, ttl_s };
            say(&auth::cli::token(&settings.auth, &wanted, clock::now().unix_ms)?)
        }
        Command::Webhook(Webhook::Test { url }) => {
            let secret = Some(&*settings.webhooks.secret.0).filter(|secret| !secret.is_empty());
            say(&wait(async { webhooks::cli::test(&url, secret).await.map_err(Failure::Broken) })?)
        }
        Command::Meetings(wanted) => {
            say(&wait(async {
                // Whoever only reads makes no tables, and no file that the server's user could not write.
                match look(&applier::url(&settings.store)?, STORE_MAX).await.map_err(unreachable)? {
                    Tables::Current => meetings::show(&store(settings).await?, &wanted, unreachable).await,
                    Tables::Older => Err(Failure::Broken(
                        "the database is that of an older version: start the server, which brings it up to date"
                            .to_owned(),
                    )),
                    Tables::None | Tables::NoFile => Ok(meetings::NONE.to_owned()),
                }
            })?)
        }
        Command::Erase { user } => {
            let erased = wait(async {
                let store = store(settings).await?;
                store.erase(&user, clock::now().unix_ms).await.map_err(unreachable)
            })?;
            let running = match erased.running {
                0 => String::new(),
                n => format!("{n} meetings are still on: run this again when they are over.\n"),
            };
            say(&format!(
                "{} meetings and {} chat messages were changed; the pseudonym is {}.\n{running}What was sent to webhooks is not ours to forget.",
                erased.meetings, erased.messages, erased.pseudonym
            ))
        }
    }
}

fn drain(settings: &Settings, wait: bool) -> Result<(), Failure> {
    let answer = ask::admin(settings, "POST", "/drain", ask::credentials(&settings.auth).as_deref())?;
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    if answer.status != 200 {
        let why = body["detail"].as_str().unwrap_or("it does not know /drain");
        return Err(Failure::Broken(format!("the server refuses ({}): {why}", answer.status)));
    }
    let left_s = body["deadline"].as_u64().unwrap_or_default().saturating_sub(clock::now().unix_ms) / 1_000;
    say(&format!("Draining: {} are here, and may stay for {left_s} s.", body["participants"]))?;
    while wait && ask::admin(settings, "GET", "/livez", None).is_ok() {
        std::thread::sleep(WAIT_EVERY);
    }
    Ok(())
}

/// The database of these settings.
async fn store(settings: &Settings) -> Result<Store, Failure> {
    Store::open(&applier::url(&settings.store)?, STORE_MAX).await.map_err(unreachable)
}

fn unreachable(error: crate::store::StoreError) -> Failure {
    Failure::Broken(format!("[store] url (DATABASE_URL): {error}"))
}

/// Runs a task to its end.
fn wait<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Broken(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(task)
}

fn say(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| Failure::Broken(format!("cannot write: {error}")))
}
