//! What the operators' page needs beside the rest: this node and the others, how media flows, errors, and a test of the network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use signaling::{Actor, Command, Identity, Permissions, Role};
use turn_server::Refusal;
use utoipa::IntoParams;

use super::caller::{Caller, Path, Query};
use super::openapi::Problem;
use super::{Api, Fault, answer, operators_only, sessions};
use crate::admin::{Process, word};
use crate::clock;
use crate::http::{Health, Relaying};
use crate::recent::Recent;
use crate::worker::Report;

/// Where the network test holds its call.
const TEST_SESSION: &str = "network-test";
/// How long the credentials of a network test are good, ms. It takes seconds.
const TEST_MS: u64 = 120_000;

/// What this process knows of itself.
#[derive(Clone)]
pub(crate) struct Here {
    health: Health,
    recent: Recent,
    /// Unix ms.
    started_ms: u64,
    /// `{ settings: [...] }`
    settings: Arc<Value>,
}

impl Here {
    /// From now on. `settings` is a JSON list without secrets ([`crate::config::print`]).
    pub(crate) fn new(health: Health, recent: Recent, settings: &str) -> Self {
        let list = serde_json::from_str(settings).unwrap_or(Value::Null);
        Here { health, recent, started_ms: clock::now().unix_ms, settings: Arc::new(json!({ "settings": list })) }
    }
}

/// Whose media.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// Only of this participant, and then what it gets, too.
    participant_id: Option<String>,
}

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/admin/overview", get(overview))
        .route("/v1/admin/nodes", get(nodes))
        .route("/v1/admin/errors", get(errors))
        .route("/v1/admin/config", get(config))
        .route("/v1/admin/sessions/{session}/media", get(media))
        .route("/v1/admin/network-test", post(network_test))
}

/// This node now: totals, counters since its start, its workers, its TURN server, its database.
#[utoipa::path(get, path = "/v1/admin/overview", tag = "admin", responses((status = 200, body = Object), (status = 401, body = Problem)))]
pub(super) async fn overview(State(api): State<Api>, Caller(actor): Caller) -> Result<Response, Fault> {
    operators_only(&actor)?;
    let Here { health, started_ms, .. } = &api.here;
    let reports: Vec<Report> = health.workers.iter().map(|worker| worker.report()).collect();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let counts = &health.counts;
    let process = Process::read();
    Ok(answer(json!({
        "timestamp": clock::now().unix_ms,
        "node": {
            "nodeId": &*health.history.journal.node,
            "version": env!("CARGO_PKG_VERSION"),
            "startedAt": started_ms,
            "cpuSeconds": process.cpu_seconds,
            "residentBytes": process.resident_bytes,
        },
        "totals": {
            "rooms": counts.rooms.load(Ordering::Relaxed),
            "participants": counts.participants.load(Ordering::Relaxed),
            "sockets": counts.sockets.load(Ordering::Relaxed),
            "peersConnected": sum(|r| r.gauges.peers_connected as u64),
            "tracks": sum(|r| r.gauges.tracks as u64),
            "subscriptions": sum(|r| r.gauges.subscriptions as u64),
            "tcpConnections": sum(|r| r.sockets.tcp.open),
        },
        "counters": {
            "packetsIn": sum(|r| r.counters.datagrams_in),
            "packetsOut": sum(|r| r.sockets.datagrams_out),
            "bytesIn": sum(|r| r.counters.bytes_in),
            "bytesOut": sum(|r| r.counters.bytes_out),
            "asked": sum(|r| r.counters.nack_out),
            "askedOfUs": sum(|r| r.counters.nack_in),
            "dropped": sum(|r| r.counters.drops.iter().sum()),
        },
        "workers": workers(health, &reports),
        "turn": turn(health),
        "history": history(health),
    })))
}

fn workers(health: &Health, reports: &[Report]) -> Vec<Value> {
    let each = health.workers.iter().zip(reports).map(|(worker, report)| {
        json!({
            "addresses": worker.candidates,
            "idleMs": worker.idle().map(|idle| idle.as_millis() as u64),
            "rooms": report.gauges.rooms,
            "peers": report.gauges.peers,
            "tracks": report.gauges.tracks,
            "subscriptions": report.gauges.subscriptions,
        })
    });
    each.collect()
}

/// `{ state: "off" | "external" | "healthy" | "unhealthy", … }`; the rest is there for ours only.
fn turn(health: &Health) -> Value {
    let turn = match &health.turn {
        Relaying::Off => return json!({ "state": "off" }),
        Relaying::Outside => return json!({ "state": "external" }),
        Relaying::Here(turn) => turn,
    };
    let report = turn.report();
    let both = |[from, to]: [u64; 2]| json!({ "fromClients": from, "toClients": to });
    let [udp, tcp, tls] = report.machine.allocations;
    let [open_tcp, open_tls] = report.streams.open;
    let refusals = Refusal::ALL.iter().zip(report.machine.refusals).filter(|(_, count)| *count > 0);
    let refusals: BTreeMap<_, _> = refusals.map(|(reason, count)| (word(*reason), count)).collect();
    json!({
        "state": if health.is_turn_alive() { "healthy" } else { "unhealthy" },
        "port": turn.port,
        "tlsPort": turn.tls_port,
        "allocations": { "udp": udp, "tcp": tcp, "tls": tls },
        "streams": { "tcp": open_tcp, "tls": open_tls },
        "allocated": report.machine.allocated,
        "mediaBytes": both(report.machine.media_bytes),
        "relayBytes": both(report.machine.relay_bytes),
        "refusals": refusals,
    })
}

fn history(health: &Health) -> Value {
    let (applying, journal) = (&health.history.applying, &health.history.journal);
    json!({
        "databaseUp": applying.is_up(),
        "databaseMs": applying.response().as_secs_f64() * 1e3,
        "recording": !journal.status.refusing.load(Ordering::Relaxed),
        "journalBytes": journal.bytes(),
        "waitingFacts": journal.committed().saturating_sub(applying.applied()),
    })
}

/// The servers that write to this database, whoever spoke last first.
#[utoipa::path(get, path = "/v1/admin/nodes", tag = "admin", responses((status = 200, body = Object), (status = 401, body = Problem)))]
pub(super) async fn nodes(State(api): State<Api>, Caller(actor): Caller) -> Result<Response, Fault> {
    operators_only(&actor)?;
    let here = &*api.here.health.history.journal.node;
    let each = api.store.nodes().await?;
    let each = each.iter().map(|node| {
        json!({
            "nodeId": node.node,
            "seenAt": node.seen_at,
            "meetings": node.meetings,
            "participants": node.participants,
            "isThis": node.node == here,
        })
    });
    Ok(answer(json!({ "nodes": each.collect::<Vec<_>>() })))
}

/// The last 200 warnings and errors of the log, the newest first.
#[utoipa::path(get, path = "/v1/admin/errors", tag = "admin", responses((status = 200, body = Object), (status = 401, body = Problem)))]
pub(super) async fn errors(State(api): State<Api>, Caller(actor): Caller) -> Result<Response, Fault> {
    operators_only(&actor)?;
    Ok(answer(json!({ "lines": api.here.recent.lines() })))
}

/// All settings as they hold here, and where each was set; of secrets only whether they are.
#[utoipa::path(get, path = "/v1/admin/config", tag = "admin", responses((status = 200, body = Object), (status = 401, body = Problem)))]
pub(super) async fn config(State(api): State<Api>, Caller(actor): Caller) -> Result<Response, Fault> {
    operators_only(&actor)?;
    Ok(answer((*api.here.settings).clone()))
}

/// How media flows in a live session: of each participant (at most 500) path, round trip, loss and tracks with their layers;
/// of one that is named also what it gets.
#[utoipa::path(get, path = "/v1/admin/sessions/{session}/media", tag = "admin", params(("session" = String, Path), Whose),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(super) async fn media(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(session): Path<String>,
    Query(whose): Query<Whose>,
) -> Result<Response, Fault> {
    let command =
        Command::Media { session: sessions::name(&session)?, participant: whose.participant_id.map(Into::into) };
    Ok(answer(api.command(actor, command).await?))
}

/// What a browser needs to find out how it reaches this server: a seat in the session `network-test` (a join token, or none in
/// open mode) and TURN servers. Good for two minutes.
#[utoipa::path(post, path = "/v1/admin/network-test", tag = "admin", responses((status = 200, body = Object), (status = 401, body = Problem)))]
pub(super) async fn network_test(State(api): State<Api>, Caller(actor): Caller) -> Result<Response, Fault> {
    operators_only(&actor)?;
    let now_ms = clock::now().unix_ms;
    let identity = Identity {
        user: format!("{TEST_SESSION}-{:016x}", rand::random::<u64>()).into(),
        name: Some("Network test".into()),
        session: TEST_SESSION.into(),
        // A waiting room holds nobody up who may moderate.
        role: Role::Instructor,
        permissions: Permissions::of(Role::Instructor),
        token: None,
        expires_ms: now_ms + TEST_MS,
        is_expired: false,
    };
    let (token, identity) = if api.auth.is_required() {
        let minted = api.auth.mint(&identity, Some(Duration::from_millis(TEST_MS)), now_ms);
        (Some(minted.token), minted.identity)
    } else {
        (None, Arc::new(identity))
    };
    let user = identity.user.clone();
    let mut granted = api.command(Actor::Operator, Command::IceServers { identity }).await?;
    Ok(answer(json!({
        "sessionId": TEST_SESSION,
        "userId": &*user,
        "token": token,
        "iceServers": granted["iceServers"].take(),
        "turn": turn(&api.here.health)["state"],
    })))
}
