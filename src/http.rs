//! The public routes: call page, health, WHIP and WHEP, Socket.IO.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use socketioxide::layer::SocketIoLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

use crate::applier::History;
use crate::assets;
use crate::clock;
use crate::control::Counts;
use crate::drain::Drain;
use crate::heard::{self, Sessions};
use crate::origin::{self, Guard};
use crate::socketio::{self, PAYLOAD_BYTES_MAX};
use crate::turn::Turn;
use crate::worker::Worker;

/// Longest request from head to answer; a long poll ends by the next ping, 10 s. It bounds slow bodies, too.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A media worker or the control task whose loop did not run for this long is stuck.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// Of what is no page of ours, whose own policy says more: whoever opens it in a browser runs nothing of it.
const CONTENT_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";
const PERMISSIONS: &str = "camera=(self), microphone=(self), display-capture=(self), autoplay=(self), fullscreen=(self), screen-wake-lock=(self), geolocation=(), usb=(), payment=()";

/// What the health page looks at.
#[derive(Clone)]
pub(crate) struct Health {
    /// The media workers.
    pub(crate) workers: Vec<Worker>,
    /// The control task's counts.
    pub(crate) counts: Arc<Counts>,
    /// The TURN server.
    pub(crate) turn: Relaying,
    /// The journal and the store.
    pub(crate) history: History,
    /// Whether the server is about to end.
    pub(crate) drain: Drain,
}

/// Which TURN server there is.
#[derive(Clone)]
pub(crate) enum Relaying {
    /// None.
    Off,
    /// Browsers are told of one outside.
    Outside,
    /// Ours.
    Here(Turn),
}

impl Health {
    /// Workers whose loop runs.
    pub(crate) fn workers_alive(&self) -> usize {
        self.workers.iter().filter(|w| w.idle().is_some_and(|idle| idle < IDLE_MAX)).count()
    }

    /// Whether the control task's loop runs.
    pub(crate) fn is_control_alive(&self) -> bool {
        self.counts.idle() < IDLE_MAX
    }

    /// Whether the TURN thread's loop runs, if there is one.
    pub(crate) fn is_turn_alive(&self) -> bool {
        match &self.turn {
            Relaying::Here(turn) => turn.idle().is_some_and(|idle| idle < IDLE_MAX),
            Relaying::Off | Relaying::Outside => true,
        }
    }

    /// Whether all our own loops run.
    pub(crate) fn is_alive(&self) -> bool {
        self.is_control_alive() && self.is_turn_alive() && self.workers_alive() == self.workers.len()
    }
}

/// All public routes behind the guard.
pub(crate) fn router(
    health: Health,
    whip: Router,
    guard: Guard,
    socket_io: SocketIoLayer,
    sessions: Sessions,
) -> Router {
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
    };
    Router::new()
        .route("/api/health", get(health_page))
        .with_state(health)
        .merge(whip)
        .fallback_service(get(assets::serve))
        .layer(socket_io)
        .layer(axum::middleware::map_request(socketio::lighten))
        .layer(axum::middleware::from_fn_with_state(sessions, heard::listen))
        .layer(RequestBodyLimitLayer::new(PAYLOAD_BYTES_MAX as usize))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT))
        .layer(axum::middleware::from_fn_with_state(guard, origin::check))
        .layer(SetResponseHeaderLayer::if_not_present(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(CONTENT_POLICY),
        ))
        .layer(header(HeaderName::from_static("permissions-policy"), PERMISSIONS))
        .layer(header(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
        .layer(header(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(REFERRER_POLICY, "no-referrer"))
}

async fn health_page(State(health): State<Health>) -> Response {
    let start = Instant::now();
    let (alive, all) = (health.workers_alive(), health.workers.len());
    // A worker that is stuck takes its rooms with it: what is left can still be reached, but not relied on.
    let word = |is_well: bool| if is_well { "healthy" } else { "unhealthy" };
    let is_alive = health.is_alive();
    let turn = match &health.turn {
        Relaying::Off => "off",
        Relaying::Outside => "external",
        Relaying::Here(_) => word(health.is_turn_alive()),
    };
    let (applying, journal) = (&health.history.applying, &health.history.journal);
    let (is_database_up, is_recording) = (applying.is_up(), !journal.status.refusing.load(Ordering::Relaxed));
    let degraded = |is_well: bool| if is_well { "healthy" } else { "degraded" };
    // Without its database calls go on.
    let is_draining = health.drain.deadline_ms().is_some();
    let status = if is_alive { degraded(is_database_up && is_recording && !is_draining) } else { "unhealthy" };
    let body = serde_json::json!({
        "status": status,
        "timestamp": clock::now().unix_ms,
        "checks": {
            "database": { "status": degraded(is_database_up), "responseTime": applying.response().as_secs_f64() * 1e3 },
            "journal": { "status": degraded(is_recording) },
            "signaling": { "status": if is_draining { "draining" } else { word(health.is_control_alive()) } },
            "media": { "status": word(alive == all), "workers": all, "workersAlive": alive },
            "turn": { "status": turn },
        },
        "responseTime": start.elapsed().as_secs_f64() * 1e3,
    });
    let code = if is_alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, [("cache-control", "no-store")], axum::Json(body)).into_response()
}
