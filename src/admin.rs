//! The operator's routes, on a listener of their own: probes and metrics.

mod histogram;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use prometheus::{Counter, Encoder, Gauge, GaugeVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};
use sfu::{Counters, Drop, Durations};
use signaling::{Actor, ErrorCode, Refused};
use tokio::sync::mpsc;
use turn_server::Refusal;

use self::histogram::{Counted, Family};
use crate::applier::History;
use crate::auth::Auth;
use crate::clock;
use crate::control::{self, INBOX_MAX};
use crate::doctor::{Known, Served, Standing};
use crate::drain::Drain;
use crate::held::HELD_MAX;
use crate::http::{Health, Relaying};
use crate::journal;
use crate::origin::{self, Guard};
use crate::socketio::Source;
use crate::tls::Certificates;
use crate::traces;
use crate::turn;
use crate::webhooks::Tally;
use crate::whip::refuse;
use crate::worker::{REQUESTS_MAX, RUN_CLASSES, Report, SocketCounts};

/// What the operator's routes look at.
#[derive(Clone)]
pub(crate) struct Admin {
    /// Workers, for probes and counters.
    pub(crate) health: Health,
    /// What deliveries of webhooks came to.
    pub(crate) deliveries: Arc<Tally>,
    /// The control inbox, for how full it is. Weak: it must not keep control from ending.
    pub(crate) inbox: mpsc::WeakSender<control::Input>,
    /// The operator's certificate, if there is one.
    pub(crate) certificates: Option<Certificates>,
    /// Who is an operator.
    pub(crate) auth: Auth,
    /// What is not well of the machine, and whether that bars us.
    pub(crate) standing: Standing,
    /// Whether the server is about to end.
    pub(crate) drain: Drain,
    /// What became of spans, if they are sent to somebody.
    pub(crate) traces: Option<Arc<traces::Tally>>,
    /// Who may end it: in open mode a page elsewhere could else do so through a browser on this machine.
    pub(crate) guard: Guard,
}

/// The routes.
pub(crate) fn router(admin: Admin) -> Router {
    let drain = post(drain).layer(from_fn_with_state(admin.guard.clone(), origin::check));
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/drain", drain)
        .with_state(admin)
}

/// Alive: our own loops run. It looks at nothing else, so that what others break does not restart us.
async fn livez(State(admin): State<Admin>) -> Response {
    if admin.health.is_alive() {
        (StatusCode::OK, "alive\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "a media worker, the TURN server or the control task is stuck or has ended\n")
            .into_response()
    }
}

/// What the doctor is told of this server as it is now.
fn known(admin: &Admin) -> Known {
    let served = |held: &Certificates| Served { ends_s: held.ends_s(), name: held.name(), trouble: held.trouble() };
    let History { journal, applying, .. } = &admin.health.history;
    Known {
        certificate: admin.certificates.as_ref().map(served),
        has_database: applying.is_up(),
        is_recording: !journal.status.refusing.load(Ordering::Relaxed),
    }
}

/// Ready for calls, or why not; where media is reached, and what the doctor finds of a running server.
async fn readyz(State(admin): State<Admin>) -> Response {
    let reason = if !admin.health.is_alive() {
        Some("a media worker, the TURN server or the control task is stuck or has ended")
    } else if admin.inbox.strong_count() == 0 {
        Some("signaling has ended")
    } else if admin.drain.deadline_ms().is_some() {
        Some("draining: the server is about to stop, and nobody new gets in")
    } else {
        None
    };
    let stand = admin.standing.now(&known(&admin)).await;
    let reason = reason.map(str::to_owned).or_else(|| stand.unfit.clone());
    let ready = reason.is_none();
    let media: Vec<_> = admin
        .health
        .workers
        .iter()
        .map(|w| serde_json::json!({ "port": w.port, "candidates": w.candidates }))
        .collect();
    let body = serde_json::json!({
        "status": if ready { "ready" } else { "not ready" },
        "reason": reason,
        "media": media,
        "found": stand.json(),
    });
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(body)).into_response()
}

/// Begins to drain; answers until when, and how many are here. For operators only, as the API knows them.
async fn drain(State(admin): State<Admin>, Extension(source): Extension<Source>, headers: HeaderMap) -> Response {
    match admin.auth.actor(&headers, source.address.ip(), clock::now().unix_ms).await {
        Ok(Actor::Operator) => {}
        Ok(_) => {
            let message = "Only operators may stop the server: send the admin key.".to_owned();
            return refuse(&Refused { code: ErrorCode::Forbidden, message });
        }
        Err(why) => return refuse(&why),
    }
    let deadline = admin.drain.begin();
    let participants = admin.health.counts.participants.load(Ordering::Relaxed);
    Json(serde_json::json!({ "status": "draining", "deadline": deadline, "participants": participants }))
        .into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut text = Vec::new();
    let gathered = scrape(&admin).map(|registry| TextEncoder::new().encode(&registry.gather(), &mut text));
    match gathered {
        Ok(Ok(())) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Ok(Err(error)) | Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// A registry of its own for each scrape: the counters live in the workers and are summed here.
fn scrape(admin: &Admin) -> Result<Registry, prometheus::Error> {
    let page = Page(Registry::new_custom(Some("lyceum".to_owned()), None)?);
    let reports: Vec<Report> = admin.health.workers.iter().map(|worker| worker.report()).collect();
    media_counters(&page, &reports)?;
    media_gauges(&page, &reports)?;
    let draining = f64::from(u8::from(admin.drain.deadline_ms().is_some()));
    page.gauge("draining", "1 while the server is about to stop and nobody new gets in.", draining)?;
    page.gauge("media_workers", "Media worker threads.", admin.health.workers.len() as f64)?;
    page.gauge(
        "media_workers_alive",
        "Media workers whose loop ran in the last 5 s.",
        admin.health.workers_alive() as f64,
    )?;
    if let Relaying::Here(turn) = &admin.health.turn {
        turn_server(&page, &turn.report())?;
    }
    signaling(&page, admin)?;
    queues(&page, admin)?;
    history(&page, &admin.health.history)?;
    webhooks(&page, &admin.deliveries)?;
    if let Some(tally) = &admin.traces {
        let results = [("sent", &tally.sent), ("lost", &tally.lost)];
        let spans = results.into_iter().map(|(result, count)| (result, count.load(Ordering::Relaxed)));
        page.counters("trace_spans_total", "Spans for the collector of traces.", "result", spans)?;
    }
    if let Some(certificates) = &admin.certificates {
        tls(&page, certificates)?;
    }
    let process = Process::read();
    page.seconds("process_cpu_seconds_total", "User and system CPU time of the process.", process.cpu_seconds)?;
    page.gauge("process_resident_bytes", "Resident memory of the process.", process.resident_bytes)?;
    Ok(page.0)
}

fn media_counters(page: &Page, reports: &[Report]) -> Result<(), prometheus::Error> {
    let sum = |of: fn(&Counters) -> u64| reports.iter().map(|r| of(&r.counters)).sum::<u64>();
    let sockets = |of: fn(&SocketCounts) -> u64| reports.iter().map(|r| of(&r.sockets)).sum::<u64>();
    for (name, help, value) in [
        ("datagrams_in_total", "UDP datagrams received.", sum(|c| c.datagrams_in)),
        ("bytes_in_total", "UDP payload bytes received.", sum(|c| c.bytes_in)),
        ("rtp_packets_in_total", "RTP packets accepted from publishers.", sum(|c| c.rtp_in)),
        ("rtp_packets_out_total", "RTP packets forwarded to subscribers, first sends.", sum(|c| c.rtp_out)),
        ("rtp_padded_out_total", "Of these, padded to the length of their run.", sum(|c| c.rtp_padded_out)),
        ("bytes_out_total", "Bytes of RTP and RTX sent to peers.", sum(|c| c.bytes_out)),
        ("rtx_packets_in_total", "Retransmissions received from publishers.", sum(|c| c.rtx_in)),
        ("rtx_packets_out_total", "Retransmissions sent to subscribers.", sum(|c| c.rtx_out)),
        ("nacks_in_total", "Packets that subscribers asked for again.", sum(|c| c.nack_in)),
        ("nacks_out_total", "Packets asked again of publishers.", sum(|c| c.nack_out)),
        ("keyframe_requests_in_total", "Keyframe requests from subscribers.", sum(|c| c.keyframe_requests_in)),
        ("keyframe_requests_out_total", "Keyframe requests to publishers.", sum(|c| c.keyframe_requests_out)),
        ("piped_packets_total", "RTP packets handed from one media worker to another.", sum(|c| c.piped_out)),
        ("egress_runs_total", "GSO runs that carried RTP.", sum(|c| c.runs)),
        ("dtls_connected_total", "DTLS handshakes completed.", sum(|c| c.dtls_connected)),
        ("dtls_failed_total", "DTLS handshakes failed.", sum(|c| c.dtls_failed)),
        ("data_messages_in_total", "Messages that came on data channels.", sum(|c| c.data_messages_in)),
        ("data_messages_out_total", "Messages relayed on data channels, by receiver.", sum(|c| c.data_messages_out)),
        ("data_peers_dropped_total", "Data associations ended by us.", sum(|c| c.data_peers_dropped)),
        ("peer_panics_total", "Peers ended by a broken assumption.", sum(|c| c.peer_panics)),
        ("receives_total", "Calls that received a batch of datagrams.", sockets(|s| s.receives)),
        ("full_flushes_total", "Turns that ended with something left to send.", sockets(|s| s.full_flushes)),
        ("sends_blocked_total", "Runs cut short by a full socket buffer.", sockets(|s| s.blocked)),
        ("sends_refused_total", "Runs that the kernel refused.", sockets(|s| s.refused)),
        (
            "crossing_dropped_total",
            "Runs to TURN clients that the TURN server was too slow for.",
            sockets(|s| s.crossing_dropped),
        ),
        ("receive_errors_total", "Receives that failed.", sockets(|s| s.receive_errors)),
        ("tcp_connections_total", "ICE-TCP connections accepted.", sockets(|s| s.tcp.accepted)),
        ("tcp_refused_total", "TCP connections closed as they came: too many.", sockets(|s| s.tcp.refused)),
        ("tcp_unproven_total", "TCP connections closed without a valid STUN check.", sockets(|s| s.tcp.unproven)),
        ("tcp_dropped_total", "Datagrams that a full or slow TCP connection lost.", sockets(|s| s.tcp.dropped)),
    ] {
        page.counter(name, help, value)?;
    }
    // Control datagrams, which are runs of one, too: how well GSO is used.
    let runs: [u64; RUN_CLASSES] = std::array::from_fn(|class| reports.iter().map(|r| r.sockets.runs[class]).sum());
    let runs = Counted::runs(&runs, sockets(|s| s.datagrams_out));
    page.histograms("run_datagrams", "Datagrams per run: per system call that sent.", "", vec![runs])?;
    let delays = ["audio", "video"].into_iter().enumerate().map(|(kind, word)| {
        let mut sum = Durations::default();
        reports.iter().for_each(|report| sum.add(&report.counters.forward_delays[kind]));
        Counted::seconds(word, &sum)
    });
    let help =
        "From the arrival of a run's oldest packet at this machine to its departure; video waits for the pacer, too.";
    page.histograms("forward_delay_seconds", help, "kind", delays.collect())?;
    let drops = Drop::ALL
        .into_iter()
        .enumerate()
        .map(|(i, reason)| (reason.as_str(), reports.iter().map(|r| r.counters.drops[i]).sum()));
    page.counters("drops_total", "Datagrams and packets dropped.", "reason", drops)
}

fn media_gauges(page: &Page, reports: &[Report]) -> Result<(), prometheus::Error> {
    let sum = |of: fn(&Report) -> usize| reports.iter().map(of).sum::<usize>() as f64;
    page.gauge("media_rooms", "Rooms that have media.", sum(|r| r.gauges.rooms))?;
    page.gauge("peers", "Peers.", sum(|r| r.gauges.peers))?;
    page.gauge("peers_connected", "Peers whose ICE and DTLS are up.", sum(|r| r.gauges.peers_connected))?;
    page.gauge("tcp_connections", "ICE-TCP connections.", sum(|r| r.sockets.tcp.open as usize))?;
    page.gauge("tracks", "Published tracks.", sum(|r| r.gauges.tracks))?;
    page.gauge("subscriptions", "Subscriptions.", sum(|r| r.gauges.subscriptions))
}

fn turn_server(page: &Page, report: &turn::Report) -> Result<(), prometheus::Error> {
    let turn::Report { machine, sockets, streams, crossing_dropped, relay_sockets } = report;
    let [udp, tcp, tls] = machine.allocations.map(|count| count as f64);
    page.gauges("turn_allocations", "TURN allocations.", "transport", [("udp", udp), ("tcp", tcp), ("tls", tls)])?;
    let [tcp, tls] = streams.open.map(|count| count as f64);
    page.gauges("turn_streams", "Connections of TURN clients.", "transport", [("tcp", tcp), ("tls", tls)])?;
    page.gauge("turn_relay_sockets", "Relay sockets, for listed peers.", *relay_sockets as f64)?;
    let bytes = |name, help, [from, to]: [u64; 2]| {
        page.counters(name, help, "direction", [("from_clients", from), ("to_clients", to)].into_iter())
    };
    bytes("turn_media_bytes_total", "Payload between TURN clients and our own media workers.", machine.media_bytes)?;
    bytes("turn_relay_bytes_total", "Payload between TURN clients and listed peers.", machine.relay_bytes)?;
    for (name, help, value) in [
        ("turn_allocations_total", "TURN allocations made.", machine.allocated),
        ("turn_streams_total", "Connections of TURN clients accepted.", streams.accepted),
        ("turn_streams_refused_total", "TURN connections closed as they came: too many.", streams.refused),
        ("turn_streams_unproven_total", "TURN connections closed without an allocation.", streams.unproven),
        ("turn_streams_dropped_total", "Packets that a full or slow TURN connection lost.", streams.dropped),
        ("turn_crossing_dropped_total", "Payloads that found a media worker too busy.", *crossing_dropped),
        ("turn_sends_blocked_total", "TURN runs cut short by a full socket buffer.", sockets.blocked),
        ("turn_sends_refused_total", "TURN runs that the kernel refused.", sockets.refused),
        ("turn_receive_errors_total", "TURN receives that failed.", sockets.receive_errors),
    ] {
        page.counter(name, help, value)?;
    }
    let refusals = Refusal::ALL.iter().zip(machine.refusals).map(|(reason, count)| (word(*reason), count));
    page.counters("turn_refusals_total", "What TURN clients were refused.", "reason", refusals)
}

/// A refusal as metrics name it.
pub(crate) fn word(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Malformed => "malformed",
        Refusal::BadRequest => "bad_request",
        Refusal::Unauthenticated => "unauthenticated",
        Refusal::RateLimited => "rate_limited",
        Refusal::NotGranted => "not_granted",
        Refusal::Forbidden => "forbidden",
        Refusal::UnknownAttribute => "unknown_attribute",
        Refusal::Mismatch => "mismatch",
        Refusal::StaleNonce => "stale_nonce",
        Refusal::Unsupported => "unsupported",
        Refusal::WrongCredentials => "wrong_credentials",
        Refusal::HolderQuota => "holder_quota",
        Refusal::Capacity => "capacity",
        Refusal::NoPermission => "no_permission",
        Refusal::Bandwidth => "bandwidth",
    }
}

fn signaling(page: &Page, admin: &Admin) -> Result<(), prometheus::Error> {
    let counts = &admin.health.counts;
    page.gauge("sockets", "Socket.IO connections.", counts.sockets.load(Ordering::Relaxed) as f64)?;
    page.gauge("rooms", "Rooms with at least one seat.", counts.rooms.load(Ordering::Relaxed) as f64)?;
    page.gauge("participants", "Seats.", counts.participants.load(Ordering::Relaxed) as f64)?;
    page.counter("socket_events_total", "Events that sockets emitted.", counts.events.load(Ordering::Relaxed))?;
    page.counter("socket_messages_total", "Emits and acks to sockets.", counts.messages.load(Ordering::Relaxed))?;
    page.counter(
        "socket_overflows_total",
        "Sockets disconnected because they did not read.",
        counts.overflows.load(Ordering::Relaxed),
    )?;
    page.counter(
        "socket_events_refused_total",
        "Events refused because too many of their socket waited.",
        counts.refused.load(Ordering::Relaxed),
    )?;
    page.counter(
        "worker_waits_total",
        "Times that signaling waited for a full worker queue.",
        counts.worker_waits.load(Ordering::Relaxed),
    )?;
    page.counter(
        "journal_waits_total",
        "Times that signaling waited for a full journal queue.",
        counts.journal_waits.load(Ordering::Relaxed),
    )?;
    let joins = counts.joins.read().map(|(stage, took)| Counted::seconds(stage, &took));
    let help =
        "Joins by stage: ack, until it is on disk and answered; media, from its first word until ICE and DTLS are up.";
    page.histograms("join_seconds", help, "stage", joins.into())
}

/// How full the queues are between edges, lobby, workers and disk; `worker` is empty for those that are no worker's.
fn queues(page: &Page, admin: &Admin) -> Result<(), prometheus::Error> {
    let inbox = admin.inbox.upgrade().map_or(0, |inbox| inbox.max_capacity() - inbox.capacity());
    let facts = admin.health.history.journal.status.queued.load(Ordering::Relaxed);
    let held = admin.health.counts.held.load(Ordering::Relaxed);
    let mut queues = vec![
        ("inbox", String::new(), inbox, INBOX_MAX),
        ("journal", String::new(), facts, journal::FACTS_MAX),
        ("held", String::new(), held, HELD_MAX),
    ];
    let workers = admin.health.workers.iter().enumerate();
    queues.extend(workers.map(|(id, worker)| ("requests", id.to_string(), worker.queued(), REQUESTS_MAX)));
    let labels = ["queue", "worker"];
    let help = "What waits: inputs for the lobby, facts for the disk, messages for their facts (of one socket), requests for a worker.";
    let items = GaugeVec::new(Opts::new("queue_items", help), &labels)?;
    let limits = GaugeVec::new(Opts::new("queue_items_limit", "How much may wait there."), &labels)?;
    for (queue, worker, waiting, limit) in &queues {
        items.with_label_values(&[queue, worker.as_str()]).set(*waiting as f64);
        limits.with_label_values(&[queue, worker.as_str()]).set(*limit as f64);
    }
    page.0.register(Box::new(items))?;
    page.0.register(Box::new(limits))
}

fn webhooks(page: &Page, tally: &Tally) -> Result<(), prometheus::Error> {
    let results = [("delivered", &tally.delivered), ("failed", &tally.failed), ("dead", &tally.dead)];
    let attempts = results.into_iter().map(|(result, count)| (result, count.load(Ordering::Relaxed)));
    page.counters("webhook_attempts_total", "Attempts to deliver events to endpoints.", "result", attempts)?;
    let waiting = tally.waiting.load(Ordering::Relaxed) as f64;
    page.gauge("webhook_deliveries_pending", "Deliveries that wait for their first or next attempt.", waiting)?;
    let buried = tally.buried.load(Ordering::Relaxed) as f64;
    page.gauge("webhook_deliveries_dead", "Deliveries given up and not replayed yet.", buried)?;
    let age = tally.age(clock::now().unix_ms).as_secs_f64();
    page.gauge("webhook_delivery_age_seconds", "How long the oldest pending delivery waits.", age)
}

fn history(page: &Page, history: &History) -> Result<(), prometheus::Error> {
    let History { journal, applying, .. } = history;
    let status = &journal.status;
    for (name, help, counter) in [
        ("journal_facts_total", "Facts put on disk.", &status.facts),
        ("journal_commits_total", "Groups of facts put on disk.", &status.commits),
        ("journal_failures_total", "Times that the disk refused the journal.", &status.failures),
        ("journal_heartbeats_left_out_total", "Heartbeats not written: the journal is too long.", &status.left_out),
    ] {
        page.counter(name, help, counter.load(Ordering::Relaxed))?;
    }
    page.gauge("journal_bytes", "Bytes of the journal on disk.", journal.bytes() as f64)?;
    let refusing = f64::from(u8::from(status.refusing.load(Ordering::Relaxed)));
    page.gauge("journal_refusing", "1 while facts cannot be written down and nobody new gets in.", refusing)?;
    let waiting = journal.committed().saturating_sub(applying.applied());
    page.gauge("store_waiting_facts", "Facts in the journal that the database does not have.", waiting as f64)?;
    let age = applying.age(clock::now().unix_ms).as_secs_f64();
    page.gauge("store_waiting_seconds", "How long the first of them waits.", age)?;
    page.gauge("store_up", "1 while the database answers.", f64::from(u8::from(applying.is_up())))?;
    page.counter("store_failures_total", "Times that the database failed.", applying.failures())
}

fn tls(page: &Page, certificates: &Certificates) -> Result<(), prometheus::Error> {
    let counts = certificates.counts();
    for (name, help, counter) in [
        ("tls_handshakes_total", "TLS handshakes completed.", &counts.completed),
        ("tls_handshakes_failed_total", "TLS handshakes that failed or took too long.", &counts.failed),
        ("tls_handshakes_refused_total", "Connections closed: too many in their handshake.", &counts.refused),
        ("tls_certificate_reloads_total", "Certificates taken from files that had changed.", &counts.reloads),
        ("tls_certificate_reload_failures_total", "Changed files that were not taken.", &counts.reload_failures),
    ] {
        page.counter(name, help, counter.load(Ordering::Relaxed))?;
    }
    let ends = certificates.ends_s() as f64;
    page.gauge("tls_certificate_expires_seconds", "When the certificate expires, in seconds since 1970.", ends)
}

struct Page(Registry);

impl Page {
    fn counter(&self, name: &str, help: &str, value: u64) -> Result<(), prometheus::Error> {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        self.0.register(Box::new(counter))
    }

    fn counters<'a>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'a str, u64)>,
    ) -> Result<(), prometheus::Error> {
        let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
        for (word, value) in values {
            counters.with_label_values(&[word]).inc_by(value);
        }
        self.0.register(Box::new(counters))
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        label: &'static str,
        members: Vec<Counted>,
    ) -> Result<(), prometheus::Error> {
        self.0.register(Box::new(Family::new(name, help, label, members)?))
    }

    fn seconds(&self, name: &str, help: &str, value: f64) -> Result<(), prometheus::Error> {
        let counter = Counter::new(name, help)?;
        counter.inc_by(value);
        self.0.register(Box::new(counter))
    }

    fn gauges<const N: usize>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: [(&str, f64); N],
    ) -> Result<(), prometheus::Error> {
        let gauges = GaugeVec::new(Opts::new(name, help), &[label])?;
        for (word, value) in values {
            gauges.with_label_values(&[word]).set(value);
        }
        self.0.register(Box::new(gauges))
    }

    fn gauge(&self, name: &str, help: &str, value: f64) -> Result<(), prometheus::Error> {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        self.0.register(Box::new(gauge))
    }
}

/// What the kernel says of this process; zeros where there is no `/proc`.
pub(crate) struct Process {
    /// User and system time.
    pub(crate) cpu_seconds: f64,
    /// Memory.
    pub(crate) resident_bytes: f64,
}

impl Process {
    pub(crate) fn read() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Process {
            cpu_seconds: cpu_seconds(&stat).unwrap_or(0.0),
            resident_bytes: resident_bytes(&status).unwrap_or(0.0),
        }
    }
}

/// `utime` and `stime`, fields 14 and 15 of `/proc/self/stat`; the second field may hold spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    /// `USER_HZ`: 100 on every Linux architecture that we build for.
    const TICKS_PER_SECOND: f64 = 100.0;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((kib * 1024) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(resident_bytes("VmPeak:\t9 kB\nVmRSS:\t    12 kB\n"), Some(12_288.0));
        assert_eq!((cpu_seconds(""), resident_bytes("")), (None, None));
    }
}
