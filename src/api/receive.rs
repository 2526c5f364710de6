//! `POST /v1/webhooks/attendance`: events of another Lyceum, signed as we sign ours.
//!
//! An event that comes twice is taken once and answered alike; one that was recorded and is sent again later is refused.

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::json;
use signaling::{ErrorCode, Refused};

use super::{BODY_BYTES_MAX, Fault, invalid};
use crate::clock;
use crate::store::{Received, Store, StoreError};
use crate::webhooks::sign::{self, Disbelief, Secret, Signed};

#[derive(Clone)]
pub(super) struct Receiver {
    store: Store,
    secret: Option<Secret>,
}

/// The route. Without a secret it refuses all.
pub(crate) fn router(store: Store, secret: Option<Secret>) -> Router {
    Router::new()
        .route("/v1/webhooks/attendance", post(receive))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Receiver { store, secret })
}

/// Takes an event of another Lyceum, signed as Standard Webhooks say, once.
#[utoipa::path(post, path = "/v1/webhooks/attendance", tag = "webhooks", request_body = Object, responses((status = 200, body = Object)))]
pub(super) async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    match receiver.take(&headers, &body).await {
        Ok(is_new) => (StatusCode::OK, Json(json!({ "ok": true, "isNew": is_new }))).into_response(),
        Err(fault) => fault.into_response(),
    }
}

fn refused(code: ErrorCode, message: &str) -> Fault {
    Fault::Refused(Refused { code, message: message.to_owned() })
}

impl Receiver {
    /// `false` if it came before.
    async fn take(&self, headers: &HeaderMap, body: &[u8]) -> Result<bool, Fault> {
        let Some(secret) = &self.secret else {
            return Err(refused(
                ErrorCode::AuthInvalid,
                "No events are taken here: set [webhooks] receive_secret first.",
            ));
        };
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let (Some(id), Some(timestamp), Some(signatures)) =
            (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"))
        else {
            let message = "The headers webhook-id, webhook-timestamp and webhook-signature are missing.";
            return Err(refused(ErrorCode::AuthMissing, message));
        };
        let now = clock::now();
        let signed = Signed { id, timestamp, signatures };
        sign::verify(secret, &signed, body, now.unix_ms / 1_000).map_err(|why| match why {
            Disbelief::Malformed => invalid("webhook-id or webhook-timestamp cannot be read."),
            Disbelief::Late => refused(
                ErrorCode::AuthExpired,
                "webhook-timestamp is more than 5 minutes from now: check both clocks; what was recorded is not taken.",
            ),
            Disbelief::Wrong => refused(
                ErrorCode::AuthInvalid,
                "webhook-signature is not of our secret: give sender and receiver the same, and sign the body as it is sent.",
            ),
        })?;
        let mut event: Received =
            serde_json::from_slice(body).map_err(|_| invalid("The body is no event: JSON with type and data."))?;
        event.id = id.to_owned();
        match self.store.receive(&event, now.unix_ms).await {
            Ok(is_new) => Ok(is_new),
            Err(StoreError::Broken(why)) => {
                tracing::warn!(why, "a received event cannot be taken");
                Err(invalid("The summary of the event cannot be read: is the sender another version?"))
            }
            Err(away) => Err(away.into()),
        }
    }
}
