//! Join tokens: what they must say, and how what they say is written.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sfu::{Source, Sources};
use signaling::limits::{ID_CHARS_MAX, NAME_CHARS_MAX};
use signaling::{Identity, Permissions, Refused, Role};

use super::AUDIENCE;
use super::token::{Claims, expired, invalid};

/// The user that nobody may be: the media server's name on the wire.
const SFU: &str = "sfu";
/// How long after its end a token is still looked at, ms: a client whose connection breaks in a long lesson shows the token that it
/// joined with beside the resume token of its seat. Later it is refused at once.
const EXPIRED_MAX_MS: u64 = 24 * 60 * 60 * 1000;

/// Who the token says somebody is.
pub(crate) fn identity(claims: &Claims, now_ms: u64) -> Result<Identity, Refused> {
    if !claims.is_for(AUDIENCE) {
        let why = format!(
            "The token is no join token: its aud must be \"{AUDIENCE}\". A user's token is for POST /v1/video/token."
        );
        return Err(invalid(why));
    }
    let (expires_ms, is_expired) = claims.time(now_ms)?;
    if is_expired && now_ms - expires_ms > EXPIRED_MAX_MS {
        return Err(expired());
    }
    claims.text("iss")?;
    let required =
        |name: &str| claims.name(name, NAME_CHARS_MAX)?.ok_or_else(|| invalid(format!("The token has no {name}.")));
    let role = match claims.text("role")? {
        None => Role::default(),
        Some(word) => role(word).ok_or_else(|| invalid(ROLES))?,
    };
    if claims.text("jti")?.is_some_and(|jti| jti.is_empty() || jti.chars().count() > ID_CHARS_MAX) {
        return Err(invalid(format!("The token's jti must have 1 to {ID_CHARS_MAX} characters.")));
    }
    Ok(Identity {
        user: user(required("sub")?)?,
        name: claims.name("name", NAME_CHARS_MAX)?,
        session: required("sessionId")?,
        role,
        permissions: permissions(claims.0.get("permissions"), role).map_err(invalid)?,
        token: claims.text("jti")?.map(Arc::from),
        expires_ms,
        is_expired,
    })
}

/// What is said of a role that is none.
pub(crate) const ROLES: &str = "The role must be \"instructor\", \"participant\" or \"observer\".";

/// A role by its word.
pub(crate) fn role(word: &str) -> Option<Role> {
    Role::parse(word)
}

/// A user's id that is not the server's own.
pub(crate) fn user(id: Arc<str>) -> Result<Arc<str>, Refused> {
    if &*id == SFU { Err(invalid("Nobody may be called \"sfu\": that is the server.")) } else { Ok(id) }
}

/// `permissions: { publish: [sources], subscribe, chat, data, moderate }`; what is left out is the role's. The error is a sentence.
pub(crate) fn permissions(value: Option<&Value>, role: Role) -> Result<Permissions, String> {
    let own = Permissions::of(role);
    let fields = match value {
        None => return Ok(own),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err("permissions must be an object.".to_owned()),
    };
    let flag = |name: &str, own: bool| match fields.get(name) {
        None => Ok(own),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(format!("permissions.{name} must be true or false.")),
    };
    Ok(Permissions {
        publish: publish(fields)?.unwrap_or(own.publish),
        subscribe: flag("subscribe", own.subscribe)?,
        chat: flag("chat", own.chat)?,
        data: flag("data", own.data)?,
        moderate: flag("moderate", own.moderate)?,
    })
}

fn publish(fields: &Map<String, Value>) -> Result<Option<Sources>, String> {
    let why = "permissions.publish must be a list of \"camera\", \"microphone\", \"screen\" and \"screen-audio\".";
    match fields.get("publish") {
        None => Ok(None),
        Some(Value::Array(words)) => {
            let sources = words.iter().map(|word| word.as_str().and_then(Source::parse)).collect::<Option<Sources>>();
            sources.map(Some).ok_or_else(|| why.to_owned())
        }
        Some(_) => Err(why.to_owned()),
    }
}

/// The claims of a token that says this.
pub(crate) fn claims(identity: &Identity, issuer: &str) -> Value {
    let mut claims = json!({
        "aud": AUDIENCE,
        "iss": issuer,
        "sub": identity.user,
        "sessionId": identity.session,
        "role": identity.role.as_str(),
        "permissions": identity.permissions.to_json(),
        "exp": identity.expires_ms / 1000,
    });
    if let Some(name) = &identity.name {
        claims["name"] = json!(name);
    }
    if let Some(jti) = &identity.token {
        claims["jti"] = json!(jti);
    }
    claims
}
