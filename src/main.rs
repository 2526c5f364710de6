//! The shell: owns every socket, thread and clock, and joins the pure machines to the world.
// The machines may not touch what this crate is there to own.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod addresses;
mod admin;
mod api;
mod applier;
mod ask;
mod assets;
mod auth;
mod certificate;
mod cli;
mod clock;
mod config;
mod control;
mod credit;
mod crossing;
mod doctor;
mod drain;
mod error;
mod heard;
mod held;
mod http;
mod ice;
mod joins;
mod journal;
mod origin;
mod outbound;
mod pipe;
mod ports;
mod pulse;
mod recent;
mod seldom;
mod serve;
mod socketio;
mod store;
mod stream;
mod tcp;
mod tls;
mod traces;
mod turn;
mod udp;
mod webhooks;
mod whip;
mod worker;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use signaling::{Lobby, WorkerId};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::addresses::Announced;
use crate::auth::{Auth, OwnKey};
use crate::config::{Loaded, LogFormat, Settings};
use crate::control::{Counts, INBOX_MAX};
use crate::drain::Drain;
use crate::error::Failure;
use crate::http::{Health, Relaying};
use crate::outbound::Outbound;
use crate::recent::Recent;
use crate::serve::proxied::Proxies;
use crate::tls::{Certificates, Kept};
use crate::turn::Turn;
use crate::webhooks::Deliverer;
use crate::worker::Worker;

/// How long, once calls are over, clients get to hear that their connection is closed, and the journal and deliveries to end.
const GOODBYE_MAX: Duration = Duration::from_secs(4);
/// How much of it the clients may take.
const CLOSE_MAX: Duration = Duration::from_millis(1_500);
/// How long tasks get to end after that.
const TASKS_MAX: Duration = Duration::from_millis(500);

/// Libraries that log whole websocket messages, tokens among them, when all is to be logged; and spans for traces.
const QUIET: [&str; 3] = ["tungstenite=info", "tokio_tungstenite=info", traces::NOT_LOGGED];

fn main() -> ExitCode {
    let ended = config::load(std::env::args_os()).and_then(|loaded| match loaded.command.clone() {
        cli::Command::Serve => run(&loaded),
        other => cli::run(&loaded, other),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Found(text)) => {
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::FAILURE
        }
        Err(failure) => {
            // Standard error may be closed; the exit code says it all the same.
            let _ = writeln!(std::io::stderr(), "lyceum: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(loaded: &Loaded) -> Result<(), Failure> {
    let recent = Recent::default();
    let traces = start_log(&loaded.settings, recent.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Broken(format!("cannot start the runtime: {error}")))?;
    let ended = runtime.block_on(serve(loaded, recent, traces));
    runtime.shutdown_timeout(TASKS_MAX);
    ended
}

/// Starts everything, then waits for a signal or for something to break.
async fn serve(loaded: &Loaded, recent: Recent, traces: Option<traces::Sender>) -> Result<(), Failure> {
    let settings = &loaded.settings;
    let tracing = traces.map(traces::Sender::start);
    let http_listener = serve::listen(settings.http_listen, "SIGNALING_PORT or [http] listen")?;
    let certificates = certificates(settings)?;
    let https_listener =
        settings.tls_listen.map(|listen| serve::listen(listen, "LYCEUM__TLS__LISTEN or [tls] listen")).transpose()?;
    let admin_listener = serve::listen(settings.admin_listen, "LYCEUM__ADMIN__LISTEN or [admin] listen")?;
    let mut told = Told::new()?;
    let (inbox, inputs) = mpsc::channel(INBOX_MAX);
    let (ended, mut broken) = mpsc::unbounded_channel();
    // Before anything answers: who was promised something finds it kept.
    let history = applier::start(&settings.store, Duration::from_millis(settings.empty_timeout_ms), &inbox, &ended)?;
    let announced = announced(settings).await;
    let Media { workers, turn, ice } =
        start_media(settings, &announced.addresses, certificates.as_ref(), https_listener.as_ref(), &inbox, &ended)?;

    let own_key =
        if auth::needs_own_key(&settings.auth) { OwnKey::kept(&settings.store.dir)? } else { OwnKey::fleeting() };
    let outbound = Outbound::new(&[]);
    let auth = Auth::new(&settings.auth, own_key, &outbound);
    auth::warn(&settings.auth);
    tokio::spawn({
        let auth = auth.clone();
        async move { auth.warm().await }
    });
    let lobby_config = signaling::Config {
        workers: workers.len(),
        ice,
        grace_ms: settings.grace_ms,
        empty_timeout_ms: settings.empty_timeout_ms,
    };
    let mut lobby = Lobby::new(lobby_config, rand::random());
    lobby.set_room_settings(settings.rooms.0.clone());
    lobby.set_spread(settings.room_spread_at);
    let counts = Arc::new(Counts::default());
    let facts = history.journal.facts.clone();
    let control = control::run(lobby, inputs, workers.clone(), turn.clone(), facts, auth.clone(), counts.clone());
    let control = tokio::spawn(control);
    let here = match (turn.clone(), settings.turn_uris.is_empty()) {
        (Some(turn), _) => Relaying::Here(turn),
        (None, false) => Relaying::Outside,
        (None, true) => Relaying::Off,
    };
    let drain = Drain::new(settings.drain);
    let health = Health {
        workers: workers.clone(),
        counts: counts.clone(),
        turn: here,
        history: history.clone(),
        drain: drain.clone(),
    };
    let guard = origin::Guard::new(&settings.origins, !auth.is_required());
    let delivering = Deliverer::start(history.store.clone(), &history.journal.node, &settings.webhooks);
    let deliveries = delivering.tally.clone();
    let standing = doctor::Standing::look(settings, &announced.addresses);
    let admin = admin::Admin {
        standing: standing.clone(),
        deliveries,
        health: health.clone(),
        inbox: inbox.downgrade(),
        certificates: certificates.clone(),
        auth: auth.clone(),
        drain: drain.clone(),
        traces: tracing.as_ref().map(|sending| sending.tally.clone()),
        guard: guard.clone(),
    };
    let doctors = doctor::router(inbox.downgrade(), auth.clone(), guard.clone());
    let whip = whip::router(inbox.downgrade(), auth.clone());
    let tokens = api::token::router(auth.clone(), inbox.downgrade(), history.store.clone());
    let tokens = drain::refusing(tokens, drain.clone());
    let received = api::receive::router(history.store.clone(), settings.webhooks.receive_secret.clone());
    let api = api::router(api::Api::new(
        auth.clone(),
        inbox.downgrade(),
        history.store.clone(),
        &settings.webhooks.allow,
        settings.rooms.0.clone(),
        api::Here::new(health.clone(), recent, &config::print(settings, &loaded.origins, true)),
    ));
    let mut watch = api::Watch::new(history.store.clone(), settings.rooms.0.clone(), inbox.downgrade());
    watch.first_look().await;
    tokio::spawn(watch.run());
    let sessions = heard::Sessions::default();
    let last_words = inbox.downgrade();
    let (layer, sockets) = socketio::layer(inbox, sessions.clone(), auth);
    let router = http::router(health, whip.merge(tokens).merge(api).merge(received), guard, layer, sessions);
    let proxies = Proxies::new(&settings.trusted_proxies);
    let router = router.layer(axum::middleware::from_fn_with_state(proxies.clone(), serve::proxied::read));

    history.applying.first_answer().await;
    let address = |listener: &tokio::net::TcpListener, asked: SocketAddr| listener.local_addr().unwrap_or(asked);
    announce(
        settings,
        address(&http_listener, settings.http_listen),
        address(&admin_listener, settings.admin_listen),
        https_listener.as_ref().and_then(|listener| listener.local_addr().ok()),
        &workers,
        turn.as_ref(),
    );
    standing.log();
    let adopt = turn.map(|turn| -> serve::secure::Adopt {
        Arc::new(move |stream, remote, tls| turn.adopt(turn::Adopted { stream, remote, tls }))
    });
    let mut pages = vec![tokio::spawn(serve::serve(http_listener, router.clone(), proxies.clone()))];
    if let Some(certificates) = certificates {
        if let Some(listener) = https_listener {
            pages.push(tokio::spawn(serve::secure::serve(listener, router, proxies, certificates.clone(), adopt)));
        }
        look_after(certificates, settings, outbound)?;
    }
    tokio::spawn(serve::serve(admin_listener, admin::router(admin).merge(doctors), Proxies::default()));

    tokio::select! {
        () = told.it_is_time(&drain, &last_words, &counts) => {}
        Some(failure) = broken.recv() => return Err(failure),
        _ = control => return Err(Failure::Broken("the control task has ended".to_owned())),
    }
    pages.iter().for_each(|pages| pages.abort());
    let goodbye = async {
        let (done, written) = tokio::sync::oneshot::channel();
        let last = async {
            if let Some(inbox) = last_words.upgrade() {
                let _ = inbox.send(control::Input::Stop { done }).await;
            }
            let _ = written.await;
            history.journal.facts.flush().await;
        };
        // What a disk or an inbox that is full costs is how exactly it is known until when people were there.
        let _ = tokio::time::timeout(CLOSE_MAX, last).await;
        // Closing the transport, rather than a disconnect packet, makes clients come back to whoever follows us.
        let _ = tokio::time::timeout(CLOSE_MAX, sockets.close()).await;
        // What they said last, and who went without a join.
        history.journal.facts.flush().await;
        history.journal.facts.flush().await;
        delivering.end().await;
        if let Some(tracing) = tracing {
            tracing.end().await;
        }
    };
    tokio::select! {
        // Whoever was promised something is on disk, and what is due to webhooks in the store: the next start goes on.
        _ = tokio::time::timeout(GOODBYE_MAX, goodbye) => {}
        (name, _) = told.wait() => tracing::warn!(signal = name, "ended at once"),
    }
    Ok(())
}

/// Where media is offered; whoever was asked for it is named.
async fn announced(settings: &Settings) -> Announced {
    let copy = settings.clone();
    let asked = tokio::task::spawn_blocking(move || addresses::announced(&copy)).await;
    let announced = asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    tracing::debug!(addresses = ?announced.addresses, from = announced.from, "media is offered");
    announced
}

/// The operator's certificate, if there is one.
fn certificates(settings: &Settings) -> Result<Option<Certificates>, Failure> {
    match (&settings.tls_files, settings.acme.domains.first()) {
        ([Some(certificate), Some(key)], _) => Certificates::load(certificate, key).map(Some),
        (_, Some(domain)) => Certificates::kept(&Kept::new(&settings.store.dir, &settings.acme), domain).map(Some),
        _ => Ok(None),
    }
}

/// Looks after the certificate's files, or after the certificate that the server gets by itself.
fn look_after(certificates: Certificates, settings: &Settings, outbound: Outbound) -> Result<(), Failure> {
    let deaf = |error| Failure::Broken(format!("cannot listen for SIGHUP: {error}"));
    if settings.acme.domains.is_empty() {
        tokio::spawn(tls::Watch::new(certificates).map_err(deaf)?.run());
    } else {
        let kept = Kept::new(&settings.store.dir, &settings.acme);
        tokio::spawn(tls::Acme::new(&settings.acme, kept, certificates, outbound).map_err(deaf)?.run());
    }
    Ok(())
}

/// What carries media, and what clients are told of it.
struct Media {
    workers: Vec<Worker>,
    turn: Option<Turn>,
    ice: signaling::IceServers,
}

/// Starts the media workers and, if there is to be one, the TURN server whose clients cross to them. With HTTPS that server
/// is reached there too.
fn start_media(
    settings: &Settings,
    addresses: &[IpAddr],
    certificates: Option<&Certificates>,
    https: Option<&tokio::net::TcpListener>,
    inbox: &mpsc::Sender<control::Input>,
    ended: &mpsc::UnboundedSender<Failure>,
) -> Result<Media, Failure> {
    let certificate = Arc::new(certificate::generate(clock::now().unix_ms)?);
    let port = |index: usize| match settings.media_port {
        0 => 0,
        base => base + u16::try_from(index).expect("settings check that the ports of all workers exist"),
    };
    let bound = settings.has_turn_server().then(|| turn::bind(&settings.turn, certificates)).transpose()?;
    let (mut workers, mut crossings) = (Vec::new(), Vec::new());
    let waiting = (0..settings.workers).map(|i| worker::Waiting::new(WorkerId(i))).collect::<Result<Vec<_>, _>>()?;
    let wakers: Vec<_> = waiting.iter().map(|waiting| waiting.waker.clone()).collect();
    for ((i, mut waiting), pipes) in waiting.into_iter().enumerate().zip(pipe::mesh(&wakers)) {
        let reach = worker::Reach { port: port(i), tcp: settings.tcp, addresses };
        let waker = bound.as_ref().map(turn::Bound::waker);
        waiting.pipes = pipes;
        let (worker, end) =
            worker::start(WorkerId(i), reach, waiting, certificate.clone(), inbox.clone(), ended.clone(), waker)?;
        crossings.extend(end.map(|end| (worker.candidates.clone(), end)));
        workers.push(worker);
    }
    let Some(bound) = bound else { return Ok(Media { workers, turn: None, ice: ice::servers(settings, None) }) };
    let secret = ice::secret(settings);
    let config = turn_server::Config {
        realm: turn::REALM.to_owned(),
        secret: secret.clone(),
        relayed: addresses.to_vec(),
        media: workers.iter().flat_map(|worker| worker.candidates.clone()).collect(),
        own: addresses::all_of_this_machine(),
        listed: settings.turn.peers.clone(),
        relay_ports: settings.turn.relay_ports.clone(),
        limits: settings.turn.limits,
    };
    let turn = bound.start(config, crossings, ended.clone())?;
    // Networks that let little through let the port of HTTPS through.
    let https_port = https.and_then(|listener| listener.local_addr().ok()).map(|address| address.port());
    let name = certificates.and_then(Certificates::name);
    let embedded = ice::Embedded {
        port: turn.port,
        tls: https_port.or(turn.tls_port).map(|port| (port, name.as_deref())),
        addresses,
        secret: &secret,
        has_peers: !settings.turn.peers.is_empty(),
    };
    let ice = ice::servers(settings, Some(embedded));
    Ok(Media { workers, turn: Some(turn), ice })
}

/// Gives what sends traces, if they are to be sent.
fn start_log(settings: &Settings, recent: Recent) -> Option<traces::Sender> {
    // The filter was checked when it was set.
    let mut filter = tracing_subscriber::EnvFilter::new(&settings.log_level);
    for quiet in QUIET {
        filter = filter.add_directive(quiet.parse().expect("a directive of ours"));
    }
    // Told of a line that could not be written, the library would say so on standard error, and panic if that is closed.
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let log = match settings.log_format {
        LogFormat::Text => log.with_ansi(false).boxed(),
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    };
    let (spans, sender) = (!settings.traces.url.0.is_empty()).then(|| traces::new(&settings.traces)).unzip();
    let spans = spans.map(|spans| spans.with_filter(filter_fn(traces::takes)));
    tracing_subscriber::registry().with(log.and_then(recent).with_filter(filter)).with(spans).init();
    sender
}

/// Says once where everything is.
fn announce(
    settings: &Settings,
    http: SocketAddr,
    admin: SocketAddr,
    https: Option<SocketAddr>,
    workers: &[Worker],
    turn: Option<&Turn>,
) {
    let shown_host = if http.ip().is_unspecified() {
        "localhost".to_owned()
    } else {
        SocketAddr::new(http.ip(), 0).to_string().trim_end_matches(":0").to_owned()
    };
    let url = format!("http://{shown_host}:{}/", http.port());
    let ports: Vec<String> = workers.iter().map(|w| w.port.to_string()).collect();
    let addresses: Vec<String> =
        workers.first().map(|w| w.candidates.iter().map(|c| c.ip().to_string()).collect()).unwrap_or_default();
    let turn = match turn {
        Some(Turn { port, tls_port: Some(tls_port), .. }) => format!("UDP and TCP {port}, TLS {tls_port}"),
        Some(Turn { port, .. }) => format!("UDP and TCP {port}"),
        None if settings.turn_uris.is_empty() => "off".to_owned(),
        None => settings.turn_uris.join(", "),
    };
    let open = "OPEN MODE: anybody near may join any session. Only this machine and its private network are served.";
    let mode = if settings.auth.is_required() { auth::describe(&settings.auth) } else { open.to_owned() };
    match settings.log_format {
        LogFormat::Json => {
            let https = https.map(tracing::field::display);
            tracing::info!(%url, %http, https, %admin, media_ports = ports.join(","), media_addresses = addresses.join(","), %turn, "listening");
            if settings.auth.is_required() {
                tracing::info!("{mode}");
            } else {
                tracing::warn!("{mode}");
            }
        }
        LogFormat::Text => {
            let https = https.map(|https| format!("  with TLS   https://{https}/\n")).unwrap_or_default();
            let block = format!(
                "\nLyceum {}\n  call page  {url}\n{https}  media      {} {} at {}\n  TURN       {turn}\n  metrics    http://{admin}/metrics\n  {mode}\n\n",
                env!("CARGO_PKG_VERSION"),
                if settings.tcp { "UDP and TCP" } else { "UDP" },
                ports.join(", "),
                addresses.join(", "),
            );
            // A closed standard error is the operator's choice.
            let _ = std::io::stderr().write_all(block.as_bytes());
        }
    }
}

/// The signals by which we are told to end.
struct Told {
    terminate: Signal,
    interrupt: Signal,
}

impl Told {
    fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::Broken(format!("cannot listen for signals: {error}")));
        Ok(Told { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// The next signal, and whether calls may go on until they are over: whoever sits at a terminal does not wait for that.
    async fn wait(&mut self) -> (&'static str, bool) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", true),
            _ = self.interrupt.recv() => ("SIGINT", false),
        }
    }

    /// Returns when it is time to end: calls are over or out of time after the first word, or there was a second one.
    async fn it_is_time(&mut self, drain: &Drain, inbox: &mpsc::WeakSender<control::Input>, counts: &Counts) {
        let over = drain.until_over(inbox, counts);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                (name, may_drain) = self.wait() => {
                    tracing::info!(signal = name, "ending");
                    let is_first = drain.deadline_ms().is_none();
                    if !(is_first && may_drain) {
                        return;
                    }
                    drain.begin();
                }
            }
        }
    }
}
