//! `lyceum token`: a join token from the command line.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use signaling::limits::NAME_CHARS_MAX;
use signaling::{Identity, Permissions, Role};

use super::{Auth, OwnKey, join};
use crate::config::AuthSettings;
use crate::error::Failure;
use crate::outbound::Outbound;

/// Who shall get a token, as the flags say it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// `--session`.
    pub(crate) session: String,
    /// `--user`.
    pub(crate) user: String,
    /// `--name`.
    pub(crate) name: Option<String>,
    /// `--role`; a participant by default.
    pub(crate) role: Option<String>,
    /// `--ttl`, in seconds; `[auth] token_ttl_s` by default.
    pub(crate) ttl_s: Option<u64>,
}

/// A join token that a server with the same settings believes.
pub(crate) fn token(settings: &AuthSettings, wanted: &Wanted, now_ms: u64) -> Result<String, Failure> {
    let refused = |why: String| Failure::Setting(why);
    if settings.secret.0.is_empty() && settings.keys.is_empty() {
        let why = "there is no secret to sign with: set JWT_SECRET or [auth] keys as the server has them";
        return Err(refused(why.to_owned()));
    }
    let fields = json!({ "--session": wanted.session, "--user": wanted.user, "--name": wanted.name });
    let name = |field: &str| match &fields {
        Value::Object(fields) => signaling::name(fields, field, NAME_CHARS_MAX).map_err(|why| refused(why.message)),
        _ => Ok(None),
    };
    let required = |field: &str| name(field)?.ok_or_else(|| refused(format!("{field} is missing")));
    let role = match &wanted.role {
        None => Role::default(),
        Some(word) => join::role(word).ok_or_else(|| refused(join::ROLES.to_owned()))?,
    };
    let user: Arc<str> = join::user(required("--user")?).map_err(|why| refused(why.message))?;
    let identity = Identity {
        user,
        name: name("--name")?,
        session: required("--session")?,
        role,
        permissions: Permissions::of(role),
        token: None,
        expires_ms: 0,
        is_expired: false,
    };
    let auth = Auth::new(settings, OwnKey::fleeting(), &Outbound::new(&[]));
    Ok(auth.mint(&identity, wanted.ttl_s.map(Duration::from_secs), now_ms).token)
}
