//! The REST API: tokens, sessions, meetings, attendance, webhooks, and what operators look at.

mod admin;
mod caller;
pub(crate) mod csv;
mod meetings;
mod openapi;
pub(crate) mod receive;
mod rules;
mod sessions;
pub(crate) mod token;
mod webhooks;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;
use signaling::{Actor, Command, ErrorCode, Granted, Refused, RoomSettings};
use turn_server::Prefix;

use crate::auth::Auth;
use crate::auth::rate::Rate;
use crate::control::{self, Inbox, Input};
use crate::origin::problem;
use crate::store::{Store, StoreError};
use crate::whip::refuse;

pub(crate) use self::admin::Here;
pub(crate) use self::rules::Watch;

/// Most bytes of a request: a roster of [`crate::store::ROSTER_MAX`] people fits.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Requests of one network: so many at once, then one an interval.
const REQUESTS: (u32, Duration) = (300, Duration::from_millis(20));

/// What the routes share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    auth: Auth,
    /// Weak, so that the routes do not keep control from ending.
    inbox: Inbox,
    store: Store,
    /// Where webhooks may lead besides public addresses.
    allow: Arc<[Prefix]>,
    networks: Arc<Rate<IpAddr>>,
    /// What rules that are left out are.
    defaults: RoomSettings,
    here: Here,
}

impl Api {
    /// Over these.
    pub(crate) fn new(
        auth: Auth,
        inbox: Inbox,
        store: Store,
        allow: &[Prefix],
        defaults: RoomSettings,
        here: Here,
    ) -> Self {
        let networks = Arc::new(Rate::new(REQUESTS.0, REQUESTS.1));
        Api { auth, inbox, store, allow: allow.into(), defaults, here, networks }
    }

    /// Asks the lobby.
    async fn command(&self, actor: Actor, command: Command) -> Result<Value, Fault> {
        match control::ask(&self.inbox, |reply| Input::Command { actor, command, reply }).await? {
            Granted::Answer(answer) => Ok(answer),
            _ => Ok(Value::Object(Default::default())),
        }
    }

    fn tell(&self, input: Input) -> Result<(), Fault> {
        let sent = self.inbox.upgrade().is_some_and(|inbox| inbox.try_send(input).is_ok());
        if sent { Ok(()) } else { Err(Fault::Refused(control::overloaded())) }
    }
}

/// The routes, but for tokens and what other servers send.
pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .merge(sessions::routes())
        .merge(meetings::routes())
        .merge(webhooks::routes())
        .merge(admin::routes())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
        .route("/openapi.json", get(openapi::page))
}

/// Why a request gets no answer.
#[derive(Debug)]
enum Fault {
    /// A refusal with its code.
    Refused(Refused),
    /// Nothing of that name is in the store.
    Unknown(&'static str),
    /// The store.
    Store(StoreError),
}

impl From<Refused> for Fault {
    fn from(why: Refused) -> Self {
        Fault::Refused(why)
    }
}

impl From<StoreError> for Fault {
    fn from(why: StoreError) -> Self {
        Fault::Store(why)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        match self {
            Fault::Refused(why) => refuse(&why),
            Fault::Unknown(what) => {
                problem(StatusCode::NOT_FOUND, ErrorCode::UnknownRecord.as_str(), &format!("There is no such {what}."))
            }
            // A database that refuses our words would do so again; it is as good as away for whoever asks.
            Fault::Store(error) => {
                tracing::warn!(%error, "a request could not be answered from the database");
                let why = "The database cannot be reached now: try again later. Calls go on meanwhile.";
                problem(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::StoreAway.as_str(), why)
            }
        }
    }
}

/// An answer that nobody keeps: it changes, and may hold what is not everybody's.
fn answer(body: Value) -> Response {
    ([(CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::Refused(Refused { code: ErrorCode::InvalidRequest, message: message.into() })
}

/// Only operators and the application may do this.
fn operators_only(actor: &Actor) -> Result<(), Fault> {
    match actor {
        Actor::Operator => Ok(()),
        Actor::Member(_) => {
            let message = "This needs the admin key, an admin token or an API key pair.".to_owned();
            Err(Fault::Refused(Refused { code: ErrorCode::Forbidden, message }))
        }
    }
}
