//! `/openapi.json`: what the API is, from the handlers themselves.

use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};

use super::{admin, meetings, receive, sessions, token, webhooks};

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
        token::answer,
        receive::receive,
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
        webhooks::try_out,
        webhooks::deliveries,
        webhooks::replay,
        admin::overview,
        admin::nodes,
        admin::errors,
        admin::config,
        admin::media,
        admin::network_test,
    ),
    modifiers(&Keys, &Refusals),
    components(schemas(Problem)),
    security(("bearer" = []), ("pair" = []))
)]
struct Description;

/// Admin key, admin token or join token as Bearer; an API key pair as Basic.
struct Keys;

/// What any route may answer; a 503 is no fault but a state: it says what is away.
const COMMON: [(&str, &str); 9] = [
    ("400", "What was sent cannot be read."),
    ("401", "Credentials are missing, wrong or too old."),
    ("403", "These credentials are not enough."),
    ("404", "There is nothing of that name."),
    ("409", "It is in another state."),
    ("413", "Too much was sent."),
    ("415", "It is not JSON."),
    ("429", "Too many requests."),
    ("503", "The database is away, or the server is full or about to stop."),
];

/// Adds them where a route does not say otherwise.
struct Refusals;

impl Modify for Refusals {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let problem = Ref::from_schema_name("Problem");
        let content = ContentBuilder::new().schema(Some(problem)).build();
        for path in description.paths.paths.values_mut() {
            for route in [&mut path.get, &mut path.put, &mut path.post, &mut path.delete].into_iter().flatten() {
                for (status, why) in COMMON {
                    let response =
                        ResponseBuilder::new().description(why).content("application/problem+json", content.clone());
                    route.responses.responses.insert(status.to_owned(), response.build().into());
                }
            }
        }
    }
}

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
