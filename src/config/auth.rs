//! `[auth]`: who may enter.

use std::net::IpAddr;

use axum::http::Uri;

use super::keys::{Key, hidden, text as text_of, whole};
use super::values::{number, truth};
use super::{Secret, Settings, put};

/// Shortest secret in bytes (RFC 7518 §3.2 for HS256): a shorter one can be found from one token, by trying.
const SECRET_BYTES_MIN: usize = 32;
/// Fewer different bytes than this are no secret, however long.
const DISTINCT_BYTES_MIN: usize = 8;
/// Most API key pairs.
const KEYS_MAX: usize = 64;
/// Longest id of an API key pair, in characters.
const KEY_ID_CHARS_MAX: usize = 64;
/// Longest URL or name that is taken, in bytes.
const TEXT_BYTES_MAX: usize = 2048;
/// What stands in examples and templates: whoever reads them knows it.
const PLACEHOLDERS: [&str; 12] = [
    "changeme",
    "change-me",
    "change_me",
    "change this",
    "your-secret",
    "your_secret",
    "your-jwt",
    "your-super-secret",
    "super-secret-jwt-token",
    "placeholder",
    "insert-secret",
    "secretsecret",
];
/// Where Supabase's issuer lies under its URL.
const SUPABASE_PATH: &str = "/auth/v1";
/// Where an issuer's key set lies.
const JWKS_PATH: &str = "/.well-known/jwks.json";
/// `[auth] token_ttl_s`: 2 minutes, since tokens are renewed a minute before their end, to 1 day.
const TTL_S: (u64, u64) = (120, 86_400);

/// `[auth]`.
#[derive(Clone, Debug)]
pub(crate) struct AuthSettings {
    /// Whether tokens are required; `None`: if there is a key.
    pub(crate) required: Option<bool>,
    /// The secret shared with the application; empty: none.
    pub(crate) secret: Secret,
    /// API key pairs.
    pub(crate) keys: Vec<KeyPair>,
    /// What `iss` of users' tokens must be; empty: any, which only goes without a key set.
    pub(crate) issuer: String,
    /// What `aud` of users' tokens must contain; empty as above.
    pub(crate) audience: String,
    /// Where the issuer's key set is; empty: nowhere.
    pub(crate) jwks_url: String,
    /// A Supabase project; it gives issuer, audience and key set. Empty: none.
    pub(crate) supabase_url: String,
    /// Who is asked which rooms a user may enter; empty: nobody.
    pub(crate) hook_url: String,
    /// What it is shown as a bearer; empty: nothing.
    pub(crate) hook_secret: Secret,
    /// Any user with a valid token may enter any session.
    pub(crate) any_user_may_join: bool,
    /// The name under `app_metadata` whose value is the user's role; empty: none.
    pub(crate) role_claim: String,
    /// The name under `app_metadata` whose value lists the user's sessions; empty: none.
    pub(crate) sessions_claim: String,
    /// What operators show as a bearer; empty: nothing.
    pub(crate) admin_key: Secret,
    /// How long the join tokens are good that the server mints, s.
    pub(crate) token_ttl_s: u64,
}

/// An API key pair: what an application shows by HTTP Basic, and signs join tokens with under its `kid`.
#[derive(Clone, Debug)]
pub(crate) struct KeyPair {
    /// `[A-Za-z0-9_-]{1,64}`.
    pub(crate) id: String,
    /// At least [`SECRET_BYTES_MIN`].
    pub(crate) secret: Secret,
}

impl Default for AuthSettings {
    fn default() -> Self {
        AuthSettings {
            required: None,
            secret: Secret::default(),
            keys: Vec::new(),
            issuer: String::new(),
            audience: String::new(),
            jwks_url: String::new(),
            supabase_url: String::new(),
            hook_url: String::new(),
            hook_secret: Secret::default(),
            any_user_may_join: false,
            role_claim: String::new(),
            sessions_claim: String::new(),
            admin_key: Secret::default(),
            token_ttl_s: 900,
        }
    }
}

impl AuthSettings {
    /// Whether joins need a token.
    pub(crate) fn is_required(&self) -> bool {
        self.required.unwrap_or_else(|| self.has_key())
    }

    /// Whether there is any key by which a token could be believed.
    fn has_key(&self) -> bool {
        !self.secret.0.is_empty() || !self.keys.is_empty() || !self.jwks_url.is_empty()
    }

    /// Whether the issuer is a Supabase project, whose public keys are tokens themselves.
    pub(crate) fn is_supabase(&self) -> bool {
        self.issuer.ends_with(SUPABASE_PATH)
    }

    fn secrets(&self) -> impl Iterator<Item = &str> {
        let pairs = self.keys.iter().map(|pair| &pair.secret);
        [&self.secret, &self.admin_key, &self.hook_secret].into_iter().chain(pairs).map(|secret| secret.0.as_str())
    }
}

pub(super) const KEYS: &[Key] = &[
    Key::one(
        "auth",
        "mode",
        "open or required. By default required if there is a key, else open: then it serves near addresses only.",
        |s, v| put(&mut s.auth.required, mode(&v[0])),
        |s| text_of(if s.auth.is_required() { "required" } else { "open" }),
    )
    .example(r#""required""#),
    Key::one(
        "auth",
        "secret",
        "Shared with your application, at least 32 bytes; better as JWT_SECRET or JWT_SECRET_FILE.",
        |s, v| put(&mut s.auth.secret, secret(&v[0])),
        |s| hidden(!s.auth.secret.0.is_empty()),
    )
    .secret()
    .example(r#""what `openssl rand -base64 32` gives""#),
    Key::list(
        "auth",
        "keys",
        "API key pairs, id:secret, each secret at least 32 bytes without commas.",
        |s, v| put(&mut s.auth.keys, pairs(v)),
        |s| hidden(!s.auth.keys.is_empty()),
    )
    .secret()
    .example(r#"["app:what `openssl rand -base64 32` gives"]"#),
    Key::one(
        "auth",
        "supabase_url",
        "A Supabase project whose users may ask for tokens: gives issuer, audience and key set. SUPABASE_URL.",
        |s, v| put(&mut s.auth.supabase_url, url(&v[0])),
        |s| text_of(&s.auth.supabase_url),
    )
    .example(r#""https://project.supabase.co""#),
    Key::one(
        "auth",
        "jwks_url",
        "The key set of an identity provider. SUPABASE_JWKS_URL.",
        |s, v| put(&mut s.auth.jwks_url, url(&v[0])),
        |s| text_of(site(&s.auth.jwks_url)),
    )
    .example(r#""https://id.example/.well-known/jwks.json""#),
    Key::one(
        "auth",
        "issuer",
        "What `iss` of users' tokens must be.",
        |s, v| put(&mut s.auth.issuer, text(&v[0])),
        |s| text_of(&s.auth.issuer),
    )
    .example(r#""https://id.example""#),
    Key::one(
        "auth",
        "audience",
        "What `aud` of users' tokens must contain.",
        |s, v| put(&mut s.auth.audience, text(&v[0])),
        |s| text_of(&s.auth.audience),
    )
    .example(r#""authenticated""#),
    Key::one(
        "auth",
        "any_user_may_join",
        "Every user with a valid token may enter every session; else a hook, a claim or a roster says which.",
        |s, v| put(&mut s.auth.any_user_may_join, truth(&v[0])),
        |s| Some(s.auth.any_user_may_join.into()),
    ),
    Key::one(
        "auth",
        "sessions_claim",
        "The name under `app_metadata` that lists the sessions a user may enter.",
        |s, v| put(&mut s.auth.sessions_claim, text(&v[0])),
        |s| text_of(&s.auth.sessions_claim),
    )
    .example(r#""sessions""#),
    Key::one(
        "auth",
        "role_claim",
        "The name under `app_metadata` that says a user's role.",
        |s, v| put(&mut s.auth.role_claim, text(&v[0])),
        |s| text_of(&s.auth.role_claim),
    )
    .example(r#""role""#),
    Key::one(
        "auth",
        "hook_url",
        "Who is asked whether a user may enter.",
        |s, v| put(&mut s.auth.hook_url, url(&v[0])),
        |s| text_of(site(&s.auth.hook_url)),
    )
    .example(r#""https://school.example/may-enter""#),
    Key::one(
        "auth",
        "hook_secret",
        "Shown to the hook as a bearer, at least 32 bytes.",
        |s, v| put(&mut s.auth.hook_secret, secret(&v[0])),
        |s| hidden(!s.auth.hook_secret.0.is_empty()),
    )
    .secret()
    .example(r#""what `openssl rand -base64 32` gives""#),
    Key::one(
        "auth",
        "admin_key",
        "Shown by operators as a bearer, at least 32 bytes; better as LYCEUM_ADMIN_KEY_FILE.",
        |s, v| put(&mut s.auth.admin_key, secret(&v[0])),
        |s| hidden(!s.auth.admin_key.0.is_empty()),
    )
    .secret()
    .example(r#""what `openssl rand -base64 32` gives""#),
    Key::one(
        "auth",
        "token_ttl_s",
        "How long the join tokens are good that the server mints, 120 to 86,400 s.",
        |s, v| put(&mut s.auth.token_ttl_s, number(&v[0], TTL_S.0, TTL_S.1)),
        |s| whole(s.auth.token_ttl_s),
    ),
];

fn mode(value: &str) -> Result<Option<bool>, String> {
    match value.trim() {
        "open" => Ok(Some(false)),
        "required" => Ok(Some(true)),
        _ => Err("expected open or required".to_owned()),
    }
}

fn secret(value: &str) -> Result<Secret, String> {
    if value.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "expected at least {SECRET_BYTES_MIN} bytes that nobody can guess, such as `openssl rand -base64 32` gives"
        ));
    }
    Ok(Secret(value.to_owned()))
}

fn pairs(values: &[String]) -> Result<Vec<KeyPair>, String> {
    if values.len() > KEYS_MAX {
        return Err(format!("expected at most {KEYS_MAX} pairs"));
    }
    let mut pairs: Vec<KeyPair> = Vec::new();
    for value in values {
        let expected = || format!("expected id:secret, the id of at most {KEY_ID_CHARS_MAX} letters, digits, _ and -");
        let (id, rest) = value.split_once(':').ok_or_else(expected)?;
        let is_id = (1..=KEY_ID_CHARS_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if !is_id {
            return Err(expected());
        }
        if pairs.iter().any(|pair| pair.id == id) {
            return Err(format!("the id {id} stands there twice"));
        }
        let secret = secret(rest).map_err(|why| format!("the secret of {id}: {why}"))?;
        pairs.push(KeyPair { id: id.to_owned(), secret });
    }
    Ok(pairs)
}

fn text(value: &str) -> Result<String, String> {
    let value = value.trim();
    if value.len() > TEXT_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(format!("expected at most {TEXT_BYTES_MAX} bytes without control characters"));
    }
    Ok(value.to_owned())
}

fn url(value: &str) -> Result<String, String> {
    let expected = || "expected a URL such as https://school.example/path".to_owned();
    let value = text(value)?;
    let uri: Uri = value.parse().map_err(|_| expected())?;
    let is_web = matches!(uri.scheme_str(), Some("https" | "http"));
    let has_login = uri.authority().is_none_or(|authority| authority.as_str().contains('@'));
    if is_web && !has_login && uri.host().is_some_and(|host| !host.is_empty()) { Ok(value) } else { Err(expected()) }
}

/// Scheme, host and port of a URL, which is what is shown of one: path and query may hold a key. Empty: there is none.
pub(crate) fn site(url: &str) -> String {
    let uri: Uri = url.parse().unwrap_or_default();
    uri.scheme_str().zip(uri.authority()).map(|(scheme, at)| format!("{scheme}://{at}")).unwrap_or_default()
}

/// Whether what is fetched there could be changed on its way.
pub(crate) fn is_plain_and_far(url: &str) -> bool {
    let Some(uri) = url.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http")) else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Fills in what follows from other settings, and refuses what does not fit together or protects nothing.
pub(super) fn complete(settings: &mut Settings) -> Result<(), String> {
    let auth = &mut settings.auth;
    if auth.issuer.is_empty() {
        if !auth.supabase_url.is_empty() {
            auth.issuer = format!("{}{SUPABASE_PATH}", auth.supabase_url.trim_end_matches('/'));
        } else if let Some(issuer) = auth.jwks_url.strip_suffix(JWKS_PATH) {
            auth.issuer = issuer.to_owned();
        }
    }
    if auth.jwks_url.is_empty() && !auth.supabase_url.is_empty() {
        auth.jwks_url = format!("{}{JWKS_PATH}", auth.issuer);
    }
    if auth.audience.is_empty() && auth.is_supabase() {
        auth.audience = "authenticated".to_owned();
    }
    let auth = &settings.auth;
    if !auth.jwks_url.is_empty() && (auth.issuer.is_empty() || auth.audience.is_empty()) {
        return Err("[auth] jwks_url needs [auth] issuer and [auth] audience: a key set signs tokens for others too, \
            and without them those would be believed"
            .to_owned());
    }
    if auth.audience == crate::auth::AUDIENCE {
        return Err(format!(
            "[auth] audience is \"{}\", which is that of join tokens: name the audience of your users' tokens",
            crate::auth::AUDIENCE
        ));
    }
    match auth.required {
        Some(true) if !auth.has_key() => {
            return Err(
                "[auth] mode is required, but there is no key: set JWT_SECRET (`openssl rand -base64 32` gives \
                one), SUPABASE_URL or [auth] keys"
                    .to_owned(),
            );
        }
        Some(false) if auth.has_key() => {
            return Err("[auth] mode is open, but there is a key (JWT_SECRET, SUPABASE_URL, [auth] secret, keys or \
                jwks_url): in open mode nobody is asked for a token, so remove one or the other"
                .to_owned());
        }
        _ => {}
    }
    // Who serves only this machine may try things out with what the documentation of others says.
    let is_public = [Some(settings.http_listen), settings.tls_listen].iter().flatten().any(|at| !at.ip().is_loopback());
    if is_public && auth.secrets().any(is_placeholder) {
        return Err(
            "a secret of [auth] (JWT_SECRET, secret, keys, admin_key or hook_secret) is a well-known example or \
            repeats a few characters: anybody could sign tokens with it; take what `openssl rand -base64 32` gives"
                .to_owned(),
        );
    }
    Ok(())
}

fn is_placeholder(secret: &str) -> bool {
    if secret.is_empty() {
        return false;
    }
    let mut seen = [false; 256];
    secret.bytes().for_each(|byte| seen[usize::from(byte)] = true);
    let lower = secret.to_ascii_lowercase();
    seen.iter().filter(|seen| **seen).count() < DISTINCT_BYTES_MIN
        || PLACEHOLDERS.iter().any(|word| lower.contains(word))
}
