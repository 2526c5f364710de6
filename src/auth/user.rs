//! Tokens of users, from the application or an identity provider: they say who somebody is, and seldom what they may do.

use std::sync::Arc;

use serde_json::Value;
use signaling::limits::NAME_CHARS_MAX;
use signaling::{Refused, Role};

use super::token::{Claims, expired, invalid};
use super::{AUDIENCE, join};

/// Most sessions that a token may list; further ones are not looked at.
const SESSIONS_MAX: usize = 256;

/// Somebody whom a token names. Whatever users can change themselves (`user_metadata`) is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// `sub`.
    pub(crate) id: Arc<str>,
    /// `name`, if the token has a good one.
    pub(crate) name: Option<Arc<str>>,
    /// What the configured claim under `app_metadata` makes of it.
    pub(crate) role: Role,
    /// The sessions that the configured claim lists.
    pub(crate) sessions: Vec<String>,
}

/// What is asked of users' tokens.
pub(super) struct Rules {
    /// Empty: any.
    pub(super) issuer: String,
    /// Empty: any but join tokens'.
    pub(super) audience: String,
    /// The issuer's own public keys are tokens, too, so only `role: "authenticated"` is somebody.
    pub(super) is_supabase: bool,
    /// Names under `app_metadata`; empty: none.
    pub(super) role_claim: String,
    pub(super) sessions_claim: String,
}

impl Rules {
    pub(super) fn user(&self, claims: &Claims, now_ms: u64) -> Result<User, Refused> {
        if claims.is_for(AUDIENCE) {
            return Err(invalid("This is a join token: connect with it. Here a user's token is needed."));
        }
        let issuer = claims.text("iss")?;
        if !self.issuer.is_empty() && issuer != Some(self.issuer.as_str()) {
            return Err(invalid("The token's iss is not the issuer that this server is set to."));
        }
        if !self.audience.is_empty() && !claims.is_for(&self.audience) {
            return Err(invalid("The token's aud is not the audience that this server is set to."));
        }
        let role = claims.0.get("role").and_then(Value::as_str);
        if (self.is_supabase && role != Some("authenticated")) || matches!(role, Some("anon" | "service_role")) {
            return Err(invalid("The token is no user's: sign in first, and send the session's access token."));
        }
        let (_, is_expired) = claims.time(now_ms)?;
        if is_expired {
            return Err(expired());
        }
        let id = claims.text("sub")?.and(claims.name("sub", NAME_CHARS_MAX)?);
        let id = join::user(id.ok_or_else(|| invalid("The token has no sub: nobody is named by it."))?)?;
        // A name that nobody could be shown is no reason to keep its owner out.
        let name = claims.name("name", NAME_CHARS_MAX).ok().flatten();
        let metadata =
            |name: &str| claims.0.get("app_metadata").and_then(|all| all.get(name)).filter(|_| !name.is_empty());
        let role = metadata(&self.role_claim).and_then(Value::as_str).and_then(join::role).unwrap_or_default();
        let sessions = match metadata(&self.sessions_claim) {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(all)) => {
                all.iter().take(SESSIONS_MAX).filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        Ok(User { id, name, role, sessions })
    }
}
