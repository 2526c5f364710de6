//! The authorisation hook: the application is asked who may enter which session, and as what.

use std::time::Duration;

use serde_json::{Value, json};
use signaling::{ErrorCode, Permissions, Refused, Role};

use super::join;
use crate::config::Secret;
use crate::outbound::{Call, Outbound, Reach};
use crate::seldom::Seldom;

/// Longest call: somebody waits in front of a door meanwhile.
const HOOK_MAX: Duration = Duration::from_secs(5);

/// Whom to ask.
pub(super) struct Hook {
    pub(super) url: String,
    /// Shown as a bearer; empty: nothing.
    pub(super) secret: Secret,
    pub(super) outbound: Outbound,
}

/// Who asks to enter.
pub(crate) struct Request<'a> {
    pub(crate) session: &'a str,
    pub(crate) user: &'a str,
    pub(crate) name: Option<&'a str>,
    /// What they would be if the hook says no more than yes.
    pub(crate) role: Role,
}

/// As what somebody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) role: Role,
    /// Where the hook says them; else those of the role.
    pub(crate) permissions: Option<Permissions>,
}

impl Hook {
    /// Asks. Without an answer nobody is let in: `server/overloaded`.
    pub(super) async fn ask(&self, request: Request<'_>) -> Result<Admitted, Refused> {
        let body = json!({
            "sessionId": request.session,
            "userId": request.user,
            "userName": request.name,
            "role": request.role.as_str(),
        });
        let mut headers = vec![
            ("content-type".into(), "application/json".to_owned()),
            ("accept".into(), "application/json".to_owned()),
        ];
        if !self.secret.0.is_empty() {
            headers.push(("authorization".into(), format!("Bearer {}", self.secret.0)));
        }
        let call = Call {
            method: "POST",
            url: self.url.clone(),
            headers,
            body: body.to_string().into_bytes(),
            reach: Reach::Configured,
            deadline: HOOK_MAX,
        };
        let answered = match self.outbound.call(call).await {
            Ok(answer) if answer.status != 200 => Err(format!("its answer was {}", answer.status)),
            Ok(answer) if answer.is_cut => Err("its answer is too long".to_owned()),
            Ok(answer) => read(&answer.body, request.role),
            Err(failed) => Err(failed.why),
        };
        answered.unwrap_or_else(|why| {
            static LINE: Seldom = Seldom::new();
            if let Some(more) = LINE.due() {
                tracing::warn!(%why, more, "the authorisation hook ([auth] hook_url) gives no answer: users are refused");
            }
            let message = "Whether you may enter cannot be asked at the moment: try again in some seconds.";
            Err(Refused { code: ErrorCode::Overloaded, message: message.to_owned() })
        })
    }
}

/// `{ allow, role?, permissions? }`. What cannot be understood is no answer: nobody must get more than was meant.
fn read(body: &[u8], role: Role) -> Result<Result<Admitted, Refused>, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "its answer is not JSON".to_owned())?;
    match answer.get("allow").and_then(Value::as_bool) {
        None => return Err("its answer has no allow, true or false".to_owned()),
        Some(false) => {
            let message = "The application does not let you into this session.".to_owned();
            return Ok(Err(Refused { code: ErrorCode::Forbidden, message }));
        }
        Some(true) => {}
    }
    let role = match answer.get("role").filter(|role| !role.is_null()) {
        None => role,
        Some(word) => word.as_str().and_then(join::role).ok_or_else(|| join::ROLES.to_owned())?,
    };
    let permissions = match answer.get("permissions").filter(|permissions| !permissions.is_null()) {
        None => None,
        some => Some(join::permissions(some, role)?),
    };
    Ok(Ok(Admitted { role, permissions }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_lets_in() {
        let read = |body: &str| read(body.as_bytes(), Role::Participant);
        let yes = |role| Ok(Ok(Admitted { role, permissions: None }));
        assert_eq!(read(r#"{"allow":true}"#), yes(Role::Participant));
        assert_eq!(read(r#"{"allow":true,"role":"instructor","permissions":null}"#), yes(Role::Instructor));
        let muted = read(r#"{"allow":true,"permissions":{"publish":[]}}"#).expect("an answer").expect("a yes");
        assert_eq!(muted.permissions.map(|p| (p.publish, p.chat)), Some((sfu::Sources::NONE, true)));
        let no = read(r#"{"allow":false,"role":"instructor"}"#).expect("an answer").expect_err("a no");
        assert_eq!(no.code, ErrorCode::Forbidden);
        for bad in [
            "",
            "true",
            "{}",
            r#"{"allow":"true"}"#,
            r#"{"allow":1}"#,
            r#"{"allow":true,"role":"admin"}"#,
            r#"{"allow":true,"role":7}"#,
            r#"{"allow":true,"permissions":"all"}"#,
            r#"{"allow":true,"permissions":{"publish":["everything"]}}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
