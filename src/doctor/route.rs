//! What the running server tells its doctor.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use signaling::{Actor, Command, ErrorCode, Granted, Identity, Permissions, Refused, Role};
use tokio::sync::mpsc;

use crate::auth::Auth;
use crate::clock;
use crate::control::{self, Input};
use crate::origin::{self, Guard};
use crate::socketio::Source;
use crate::whip::refuse;

/// How long the TURN credentials are good that the doctor is given, ms.
const CREDENTIAL_MS: u64 = 60_000;

/// What the doctor asks of the running server, beside the operator's other routes: TURN as browsers are told of it.
pub(crate) fn router(inbox: mpsc::WeakSender<Input>, auth: Auth, guard: Guard) -> Router {
    Router::new()
        .route("/turn", post(credentials))
        .layer(from_fn_with_state(guard, origin::check))
        .with_state((inbox, auth))
}

/// URLs and credentials, good for a minute. For operators only, as the API knows them.
async fn credentials(
    State((inbox, auth)): State<(mpsc::WeakSender<Input>, Auth)>,
    Extension(source): Extension<Source>,
    headers: HeaderMap,
) -> Response {
    let now_ms = clock::now().unix_ms;
    match auth.actor(&headers, source.address.ip(), now_ms).await {
        Ok(Actor::Operator) => {}
        Ok(_) => {
            let message = "Only operators are told: send the admin key.".to_owned();
            return refuse(&Refused { code: ErrorCode::Forbidden, message });
        }
        Err(why) => return refuse(&why),
    }
    let identity = Arc::new(Identity {
        user: "doctor".into(),
        name: None,
        session: "doctor".into(),
        role: Role::Observer,
        permissions: Permissions::of(Role::Observer),
        token: None,
        expires_ms: now_ms.saturating_add(CREDENTIAL_MS),
        is_expired: false,
    });
    let command = Command::IceServers { identity };
    match control::ask(&inbox, |reply| Input::Command { actor: Actor::Operator, command, reply }).await {
        Ok(Granted::Answer(answer)) => (StatusCode::OK, [("cache-control", "no-store")], Json(answer)).into_response(),
        Ok(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Err(why) => refuse(&why),
    }
}
