//! Webhook endpoints: who is told, what was delivered, and telling it again.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::caller::{Caller, Json, Path, Query};
use super::openapi::Problem;
use super::{Api, Fault, answer, invalid, operators_only};
use crate::clock;
use crate::outbound;
use crate::store::{NewEndpoint, PAGE_MAX};
use crate::webhooks::sign::Secret;
use crate::webhooks::{self, Outcome};

/// Event types of an endpoint; more are `request/invalid`.
const EVENTS_MAX: usize = 32;
/// Longest event type, in bytes.
const EVENT_BYTES_MAX: usize = 64;
/// Deliveries of a page unless the caller says otherwise.
const PAGE_DEFAULT: usize = 100;
const STATES: [&str; 3] = ["pending", "delivered", "dead"];

/// An endpoint that is to be.
#[derive(Deserialize, ToSchema)]
pub(super) struct Wanted {
    /// `https://…`; what does not lead to a public address must be listed in `[webhooks] allow`.
    #[serde(default)]
    url: String,
    /// Event types; left out: all.
    #[serde(default)]
    events: Option<Vec<String>>,
    /// `whsec_…`; left out: a new one.
    #[serde(default)]
    secret: Option<String>,
}

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// `pending`, `delivered` or `dead`; left out: all.
    state: Option<String>,
    /// How many of the newest are passed over.
    offset: Option<usize>,
    /// At most so many, 1–1000.
    limit: Option<usize>,
}

/// What is told again.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// Events with this `roomSeq` and later ones; left out: all.
    from_seq: Option<u64>,
    /// Only of this session.
    session_id: Option<String>,
}

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/webhooks", get(endpoints).post(add))
        .route("/v1/webhooks/{endpoint}", get(endpoint).delete(remove))
        .route("/v1/webhooks/{endpoint}/rotate", post(rotate))
        .route("/v1/webhooks/{endpoint}/enable", post(enable))
        .route("/v1/webhooks/{endpoint}/disable", post(disable))
        .route("/v1/webhooks/{endpoint}/test", post(try_out))
        .route("/v1/webhooks/{endpoint}/deliveries", get(deliveries))
        .route("/v1/webhooks/{endpoint}/replay", post(replay))
}

fn known(is_known: bool) -> Result<(), Fault> {
    if is_known { Ok(()) } else { Err(Fault::Unknown("endpoint")) }
}

/// All endpoints.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks", responses((status = 200, body = Object), (status = 401, body = Problem)))]
pub(super) async fn endpoints(State(api): State<Api>, Caller(actor): Caller) -> Result<Response, Fault> {
    operators_only(&actor)?;
    Ok(answer(json!({ "endpoints": api.store.endpoints().await? })))
}

/// One endpoint.
#[utoipa::path(get, path = "/v1/webhooks/{endpoint}", tag = "webhooks", params(("endpoint" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(super) async fn endpoint(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    let endpoint = api.store.endpoint(&id).await?.ok_or(Fault::Unknown("endpoint"))?;
    Ok(answer(json!(endpoint)))
}

/// Adds an endpoint, which is told of what happens from now on. Its secret is shown here and never again.
#[utoipa::path(post, path = "/v1/webhooks", tag = "webhooks", request_body = Wanted,
    responses((status = 201, body = Object), (status = 400, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn add(
    State(api): State<Api>,
    Caller(actor): Caller,
    Json(wanted): Json<Wanted>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    outbound::check_public(&wanted.url, &api.allow).map_err(|why| invalid(why.why))?;
    let is_type = |event: &String| {
        (1..=EVENT_BYTES_MAX).contains(&event.len())
            && event.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
    };
    let events = wanted.events.filter(|events| !events.is_empty());
    if events.as_ref().is_some_and(|events| events.len() > EVENTS_MAX || !events.iter().all(is_type)) {
        return Err(invalid("events must be a list of types such as \"session.ended\"."));
    }
    let secret = match wanted.secret {
        Some(secret) => Secret::parse(&secret)
            .map(|_| secret.trim().to_owned())
            .map_err(|expected| invalid(format!("secret: {expected}")))?,
        None => Secret::generate(),
    };
    let id = format!("ep_{:016x}", rand::random::<u64>());
    let new = NewEndpoint { id: id.clone(), url: wanted.url.trim().to_owned(), secret: secret.clone(), events };
    if !api.store.add_endpoint(&new, clock::now().unix_ms).await? {
        return Err(invalid("There are as many endpoints as there may be: delete one first."));
    }
    let endpoint = api.store.endpoint(&id).await?;
    Ok((StatusCode::CREATED, answer(json!({ "endpoint": endpoint, "secret": secret }))).into_response())
}

/// Deletes an endpoint; what waits for it is not delivered.
#[utoipa::path(delete, path = "/v1/webhooks/{endpoint}", tag = "webhooks", params(("endpoint" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn remove(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    known(api.store.remove_endpoint(&id).await?)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Gives an endpoint a new secret. The former one signs too for a day.
#[utoipa::path(post, path = "/v1/webhooks/{endpoint}/rotate", tag = "webhooks", params(("endpoint" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(super) async fn rotate(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    let secret = Secret::generate();
    known(api.store.rotate_secret(&id, &secret, clock::now().unix_ms).await?)?;
    Ok(answer(json!({ "secret": secret })))
}

/// Switches an endpoint on.
#[utoipa::path(post, path = "/v1/webhooks/{endpoint}/enable", tag = "webhooks", params(("endpoint" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(super) async fn enable(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    known(api.store.switch_on(&id, clock::now().unix_ms).await?)?;
    Ok(answer(json!({})))
}

/// Switches an endpoint off: nothing more is sent to it.
#[utoipa::path(post, path = "/v1/webhooks/{endpoint}/disable", tag = "webhooks", params(("endpoint" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(super) async fn disable(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    known(api.store.switch_off(&id, "by the operator").await?)?;
    Ok(answer(json!({})))
}

/// Sends an endpoint `webhook.test` at once and says what came back: `status` if there was an answer, `error` if it was none that
/// says yes. Nothing of it is kept, and an endpoint that is off is tried too.
#[utoipa::path(post, path = "/v1/webhooks/{endpoint}/test", tag = "webhooks", params(("endpoint" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(super) async fn try_out(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    let recipient = api.store.recipient(&id, clock::now().unix_ms).await?.ok_or(Fault::Unknown("endpoint"))?;
    let Outcome { status, error, .. } = webhooks::try_out(&recipient, &api.allow).await;
    Ok(answer(json!({ "status": status, "error": error })))
}

/// What was delivered to an endpoint, waits for it or is dead, the newest first.
#[utoipa::path(get, path = "/v1/webhooks/{endpoint}/deliveries", tag = "webhooks", params(("endpoint" = String, Path), Which),
    responses((status = 200, body = Object), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn deliveries(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    let state = which.state.as_deref();
    if state.is_some_and(|state| !STATES.contains(&state)) {
        return Err(invalid("state must be pending, delivered or dead."));
    }
    known(api.store.endpoint(&id).await?.is_some())?;
    let limit = which.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let deliveries = api.store.deliveries(&id, state, which.offset.unwrap_or(0), limit).await?;
    Ok(answer(json!({ "deliveries": deliveries })))
}

/// Tells an endpoint again what happened, dead letters too. Ids are the same: a receiver knows what it has had.
#[utoipa::path(post, path = "/v1/webhooks/{endpoint}/replay", tag = "webhooks", params(("endpoint" = String, Path), From),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(super) async fn replay(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    Query(from): Query<From>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    known(api.store.endpoint(&id).await?.is_some())?;
    let (count, more) =
        api.store.replay(&id, from.session_id.as_deref(), from.from_seq.unwrap_or(1), clock::now().unix_ms).await?;
    Ok(answer(json!({ "events": count, "more": more })))
}
