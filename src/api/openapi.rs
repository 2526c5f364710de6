//! `/openapi.json`: what the API is, from the handlers themselves.

use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

use super::{meetings, sessions, webhooks};

/// An error (RFC 9457). `code` is stable, `detail` says what to do.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it only describes what `origin::problem` writes")]
pub(super) struct Problem {
    /// The HTTP status.
    status: u16,
    /// Its name.
    title: String,
    /// What to do, for people.
    detail: String,
    /// Why, for programs.
    code: String,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Lyceum", description = "Live cohort calls: sessions, moderation, meetings, attendance, webhooks."),
    paths(
        sessions::sessions,
        sessions::session,
        sessions::put_session,
        sessions::roster,
        sessions::put_roster,
        sessions::moderate,
        sessions::end,
        sessions::remove,
        sessions::mute,
        meetings::meetings,
        meetings::meeting,
        meetings::attendance,
        meetings::attendance_csv,
        meetings::user_attendance,
        meetings::chat,
        webhooks::endpoints,
        webhooks::endpoint,
        webhooks::add,
        webhooks::remove,
        webhooks::rotate,
        webhooks::enable,
        webhooks::disable,
        webhooks::deliveries,
        webhooks::replay,
    ),
    modifiers(&Keys),
    security(("bearer" = []), ("pair" = []))
)]
struct Description;

/// Admin key, admin token or join token as Bearer; an API key pair as Basic.
struct Keys;

impl Modify for Keys {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let components = description.components.get_or_insert_default();
        let scheme = |scheme| SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build());
        components.add_security_scheme("bearer", scheme(HttpAuthScheme::Bearer));
        components.add_security_scheme("pair", scheme(HttpAuthScheme::Basic));
    }
}

/// The description.
pub(super) async fn page() -> Response {
    axum::Json(Description::openapi()).into_response()
}
