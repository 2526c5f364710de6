//! History: meetings, who attended, what was said.

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;
use signaling::Actor;
use signaling::attendance::Summary;
use utoipa::IntoParams;

use super::caller::{Caller, Path, Query};
use super::{Api, Fault, answer, csv, operators_only};
use crate::clock;
use crate::store::{MeetingFilter, PAGE_MAX, Page};

/// Rows of a page unless the caller says otherwise.
const PAGE_DEFAULT: usize = 100;

/// What is wanted of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only of this session.
    session_id: Option<String>,
    /// At or after this, Unix ms.
    from: Option<u64>,
    /// Before this, Unix ms.
    to: Option<u64>,
    /// Where the last page ended: its `next`.
    cursor: Option<String>,
    /// At most so many, 1–1000.
    limit: Option<usize>,
}

impl Wanted {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
    }
}

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/meetings", get(meetings))
        .route("/v1/meetings/{meeting}", get(meeting))
        .route("/v1/meetings/{meeting}/attendance", get(attendance))
        .route("/v1/meetings/{meeting}/attendance.csv", get(attendance_csv))
        .route("/v1/users/{user}/attendance", get(user_attendance))
        .route("/v1/sessions/{session}/chat", get(chat))
}

fn list<T: serde::Serialize>(name: &str, page: Page<T>) -> Response {
    let mut body = json!({ "next": page.next });
    body[name] = json!(page.items);
    answer(body)
}

/// Meetings, newest first.
#[utoipa::path(get, path = "/v1/meetings", tag = "meetings", params(Wanted),
    responses((status = 200, body = Object), (status = 400, body = super::openapi::Problem), (status = 401, body = super::openapi::Problem)))]
pub(super) async fn meetings(
    State(api): State<Api>,
    Caller(actor): Caller,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    let filter = MeetingFilter { session: wanted.session_id.clone(), from: wanted.from, to: wanted.to };
    Ok(list("meetings", api.store.meetings(&filter, wanted.cursor.as_deref(), wanted.limit()).await?))
}

/// One meeting.
#[utoipa::path(get, path = "/v1/meetings/{meeting}", tag = "meetings", params(("meeting" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = super::openapi::Problem)))]
pub(super) async fn meeting(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(meeting): Path<String>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    let found = api.store.meeting(&meeting).await?.ok_or(Fault::Unknown("meeting"))?;
    Ok(answer(json!(found)))
}

/// Who attended a meeting; of one that is on, as things stand. Instructors may see that of their session.
#[utoipa::path(get, path = "/v1/meetings/{meeting}/attendance", tag = "meetings", params(("meeting" = String, Path)),
    responses((status = 200, body = Object), (status = 403, body = super::openapi::Problem), (status = 404, body = super::openapi::Problem)))]
pub(super) async fn attendance(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(meeting): Path<String>,
) -> Result<Response, Fault> {
    Ok(answer(json!(summary(&api, &actor, &meeting).await?)))
}

/// The same as a table for spreadsheets.
#[utoipa::path(get, path = "/v1/meetings/{meeting}/attendance.csv", tag = "meetings", params(("meeting" = String, Path)),
    responses((status = 200, content_type = "text/csv", body = String), (status = 404, body = super::openapi::Problem)))]
pub(super) async fn attendance_csv(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(meeting): Path<String>,
) -> Result<Response, Fault> {
    let table = csv::attendance(&summary(&api, &actor, &meeting).await?);
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8"),
        (CONTENT_DISPOSITION, "attachment; filename=\"attendance.csv\""),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, table).into_response())
}

async fn summary(api: &Api, actor: &Actor, meeting: &str) -> Result<Summary, Fault> {
    let summary = api.store.attendance(meeting, clock::now().unix_ms).await?;
    match actor {
        Actor::Operator => {}
        Actor::Member(identity) => {
            // What is not theirs to see looks like what is not there.
            let is_theirs =
                identity.permissions.moderate && summary.as_ref().is_some_and(|it| it.session_id == identity.session);
            if !is_theirs {
                operators_only(actor)?;
            }
        }
    }
    summary.ok_or(Fault::Unknown("meeting"))
}

/// What one person attended, of meetings that are over, oldest first.
#[utoipa::path(get, path = "/v1/users/{user}/attendance", tag = "meetings", params(("user" = String, Path), Wanted),
    responses((status = 200, body = Object), (status = 400, body = super::openapi::Problem)))]
pub(super) async fn user_attendance(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(user): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    let (from, to) = (wanted.from.unwrap_or(0), wanted.to.unwrap_or(i64::MAX as u64));
    let page = api.store.attended(&user, from, to, wanted.cursor.as_deref(), wanted.limit()).await?;
    Ok(list("attendance", page))
}

/// What was said in a session, newest first.
#[utoipa::path(get, path = "/v1/sessions/{session}/chat", tag = "sessions", params(("session" = String, Path), Wanted),
    responses((status = 200, body = Object), (status = 400, body = super::openapi::Problem)))]
pub(super) async fn chat(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(session): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    Ok(list("messages", api.store.chat(&session, wanted.cursor.as_deref(), wanted.limit()).await?))
}
