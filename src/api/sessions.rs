//! Sessions: their rules, who is expected, who is there, and moderation.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;
use signaling::{Action, Command, Role};
use utoipa::ToSchema;

use super::caller::{Caller, Json, Path};
use super::rules::Rules;
use super::{Api, Fault, answer, invalid, operators_only};
use crate::clock;
use crate::control::Input;
use crate::store::{Expected, ROSTER_MAX, Schedule};

/// Latest `startsAt`, Unix ms: the year 10000.
const STARTS_AT_MAX: u64 = 253_402_300_800_000;
/// Longest time after the start, ms: a class is watched no longer.
const AFTER_MS_MAX: u64 = 6 * 60 * 60 * 1_000;

/// What to do to one participant or to all.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Moderation {
    /// `mute`, `mute-all`, `ask-unmute`, `remove`, `promote`, `lower-hands`, `lock`, `unlock`, `admit`, `end`.
    #[serde(default)]
    action: String,
    /// Whom, where it is about one.
    #[serde(default)]
    participant_id: Option<String>,
    /// Only tracks of this source: `camera`, `microphone`, `screen`, `screen-audio`.
    #[serde(default)]
    source: Option<String>,
    /// To which role, for `promote`.
    #[serde(default)]
    role: Option<String>,
}

/// Who is expected in a session.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct Roster {
    /// At most 5000 people: `{ userId, userName?, role? }`.
    #[schema(value_type = Vec<Object>)]
    people: Vec<Expected>,
    /// `{ startsAt, lateAfterMs?, absentAfterMs?, hostAbsentAfterMs? }`: with it `participant.late`, `participant.absent` and
    /// `host.absent` are told to webhooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    schedule: Option<Schedule>,
}

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/sessions", get(sessions))
        .route("/v1/sessions/{session}", get(session).put(put_session))
        .route("/v1/sessions/{session}/roster", get(roster).put(put_roster))
        .route("/v1/sessions/{session}/end", post(end))
        .route("/v1/sessions/{session}/moderate", post(moderate))
        .route("/v1/sessions/{session}/participants/{participant}/remove", post(remove))
        .route("/v1/sessions/{session}/participants/{participant}/mute", post(mute))
}

/// A session's name as signaling takes it: trimmed, 1–128 characters, none of them control characters.
pub(super) fn name(session: &str) -> Result<String, Fault> {
    let name = session.trim();
    let is_good =
        (1..=signaling::limits::NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if is_good {
        Ok(name.to_owned())
    } else {
        Err(invalid("The session must have 1–128 characters, none of them control characters."))
    }
}

/// The live sessions.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", responses((status = 200, body = Object), (status = 401, body = super::openapi::Problem)))]
pub(super) async fn sessions(State(api): State<Api>, Caller(actor): Caller) -> Result<Response, Fault> {
    Ok(answer(api.command(actor, Command::Sessions).await?))
}

/// A live session with its participants.
#[utoipa::path(get, path = "/v1/sessions/{session}", tag = "sessions", params(("session" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = super::openapi::Problem)))]
pub(super) async fn session(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(session): Path<String>,
) -> Result<Response, Fault> {
    Ok(answer(api.command(actor, Command::Session { session: name(&session)? }).await?))
}

/// Sets the rules of a session, whether it is live or not; they are kept. What is left out is as the server's settings say.
#[utoipa::path(put, path = "/v1/sessions/{session}", tag = "sessions", params(("session" = String, Path)), request_body = Rules,
    responses((status = 200, body = Rules), (status = 400, body = super::openapi::Problem), (status = 403, body = super::openapi::Problem)))]
pub(super) async fn put_session(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(session): Path<String>,
    Json(rules): Json<Rules>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    let session = name(&session)?;
    let settings = rules.settings(&api.defaults).map_err(invalid)?;
    api.store.put_settings(&session, &json!(rules).to_string(), &rules.kept(), clock::now().unix_ms).await?;
    api.tell(Input::Settings { session: session.into(), settings: Some(Box::new(settings)) })?;
    Ok(answer(json!(rules)))
}

/// Who is expected in a session.
#[utoipa::path(get, path = "/v1/sessions/{session}/roster", tag = "sessions", params(("session" = String, Path)),
    responses((status = 200, body = Roster)))]
pub(super) async fn roster(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(session): Path<String>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    let session = name(&session)?;
    let (people, schedule) = (api.store.roster(&session).await?, api.store.schedule(&session).await?);
    Ok(answer(json!(Roster { people, schedule })))
}

/// Says who is expected in a session, in place of those who were.
#[utoipa::path(put, path = "/v1/sessions/{session}/roster", tag = "sessions", params(("session" = String, Path)), request_body = Roster,
    responses((status = 200, body = Roster), (status = 400, body = super::openapi::Problem)))]
pub(super) async fn put_roster(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(session): Path<String>,
    Json(mut roster): Json<Roster>,
) -> Result<Response, Fault> {
    operators_only(&actor)?;
    let session = name(&session)?;
    if roster.people.len() > ROSTER_MAX {
        return Err(invalid(format!("A roster has at most {ROSTER_MAX} people.")));
    }
    for person in &mut roster.people {
        person.user_id = person.user_id.trim().to_owned();
    }
    let mut users: Vec<&str> = Vec::with_capacity(roster.people.len());
    for person in &roster.people {
        name(&person.user_id).and(name(person.user_name.as_deref().unwrap_or("-"))).map_err(|_| {
            invalid("Each userId and userName must have 1–128 characters, none of them control characters.")
        })?;
        users.push(&person.user_id);
    }
    users.sort_unstable();
    if users.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid("Each userId may be on a roster once."));
    }
    if let Some(it) = &roster.schedule {
        let after = [it.late_after_ms, it.absent_after_ms, it.host_absent_after_ms];
        if it.starts_at > STARTS_AT_MAX || after.into_iter().any(|ms| ms > AFTER_MS_MAX) {
            return Err(invalid(
                "schedule: startsAt must be Unix ms before the year 10000, the others at most 6 hours.",
            ));
        }
    }
    api.store.put_schedule(&session, roster.schedule.as_ref()).await?;
    api.store.put_roster(&session, &roster.people, clock::now().unix_ms).await?;
    Ok(answer(json!(roster)))
}

/// Moderates a session, by the same rules and with the same codes as the `moderate` event.
#[utoipa::path(post, path = "/v1/sessions/{session}/moderate", tag = "moderation", params(("session" = String, Path)), request_body = Moderation,
    responses((status = 200, body = Object), (status = 400, body = super::openapi::Problem), (status = 404, body = super::openapi::Problem)))]
pub(super) async fn moderate(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(session): Path<String>,
    Json(wanted): Json<Moderation>,
) -> Result<Response, Fault> {
    let action = Action::parse(&wanted.action).ok_or_else(|| invalid("There is no such action."))?;
    let command = command(name(&session)?, action, wanted)?;
    Ok(answer(api.command(actor, command).await?))
}

fn command(session: String, action: Action, wanted: Moderation) -> Result<Command, Fault> {
    let source = match wanted.source.as_deref() {
        None => None,
        Some(word) => Some(
            sfu::Source::parse(word)
                .ok_or_else(|| invalid("source must be \"camera\", \"microphone\", \"screen\" or \"screen-audio\"."))?,
        ),
    };
    let role = match wanted.role.as_deref() {
        None => None,
        Some(word) => Some(
            Role::parse(word)
                .ok_or_else(|| invalid("role must be \"instructor\", \"participant\" or \"observer\"."))?,
        ),
    };
    Ok(Command::Moderate { session, action, participant: wanted.participant_id, source, role })
}

/// Ends a session for all.
#[utoipa::path(post, path = "/v1/sessions/{session}/end", tag = "moderation", params(("session" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = super::openapi::Problem)))]
pub(super) async fn end(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path(session): Path<String>,
) -> Result<Response, Fault> {
    let command = command(name(&session)?, Action::End, Moderation::default())?;
    Ok(answer(api.command(actor, command).await?))
}

/// Removes a participant, who stays out of the meeting whatever token comes.
#[utoipa::path(post, path = "/v1/sessions/{session}/participants/{participant}/remove", tag = "moderation",
    params(("session" = String, Path), ("participant" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = super::openapi::Problem)))]
pub(super) async fn remove(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path((session, participant)): Path<(String, String)>,
) -> Result<Response, Fault> {
    let wanted = Moderation { participant_id: Some(participant), ..Moderation::default() };
    Ok(answer(api.command(actor, command(name(&session)?, Action::Remove, wanted)?).await?))
}

/// Mutes a participant, who may unmute again. Nobody is ever unmuted by others.
#[utoipa::path(post, path = "/v1/sessions/{session}/participants/{participant}/mute", tag = "moderation",
    params(("session" = String, Path), ("participant" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = super::openapi::Problem)))]
pub(super) async fn mute(
    State(api): State<Api>,
    Caller(actor): Caller,
    Path((session, participant)): Path<(String, String)>,
) -> Result<Response, Fault> {
    let wanted = Moderation { participant_id: Some(participant), ..Moderation::default() };
    Ok(answer(api.command(actor, command(name(&session)?, Action::Mute, wanted)?).await?))
}
