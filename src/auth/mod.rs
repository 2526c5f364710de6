//! Who may enter: join tokens, key sets, the authorisation hook, API keys.

pub(crate) mod cli;
mod credentials;
mod hook;
mod join;
mod jwks;
mod keys;
pub(crate) mod rate;
#[cfg(test)]
mod tests;
mod token;
mod user;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sfu::Now;
use signaling::{Identity, Refused};

pub(crate) use self::credentials::{Credentials, unknown_pair};
use self::hook::Hook;
pub(crate) use self::hook::{Admitted, Request};
pub(crate) use self::join::{ROLES, permissions, role};
use self::jwks::KeySet;
pub(crate) use self::keys::OwnKey;
use self::keys::{Shared, hash, is_same};
pub(crate) use self::token::invalid;
use self::token::{Alg, Claims, Unverified, missing};
use self::user::Rules;
pub(crate) use self::user::User;
use crate::clock;
use crate::config::{AuthSettings, is_plain_and_far, site};
use crate::outbound::Outbound;

/// `aud` of join tokens.
pub(crate) const AUDIENCE: &str = "lyceum";
/// `aud` of admin tokens.
const ADMIN_AUDIENCE: &str = "lyceum-admin";
/// `iss` of the tokens that we mint.
const ISSUER: &str = "lyceum";
/// Random bytes of a `jti`: nobody meets another's by chance.
const JTI_BYTES: usize = 16;

/// Verifies and mints tokens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Auth(Arc<Inner>);

struct Inner {
    is_required: bool,
    shared: Shared,
    set: Option<KeySet>,
    rules: Rules,
    hook: Option<Hook>,
    any_user_may_join: bool,
    admin: Option<[u8; 32]>,
    ttl: Duration,
}

/// A token and what it says.
#[derive(Clone)]
pub(crate) struct Minted {
    /// A secret of its holder.
    pub(crate) token: String,
    /// With its own `jti` and end.
    pub(crate) identity: Arc<Identity>,
}

impl Auth {
    /// By the settings, which were checked.
    /// Mints with `own` where nothing is shared with anybody.
    pub(crate) fn new(settings: &AuthSettings, own: OwnKey, outbound: &Outbound) -> Self {
        let url = |url: &String| Some(url.clone()).filter(|url| !url.is_empty());
        let hook = |url| Hook { url, secret: settings.hook_secret.clone(), outbound: outbound.clone() };
        Auth(Arc::new(Inner {
            is_required: settings.is_required(),
            shared: Shared::new(settings, own),
            set: url(&settings.jwks_url).map(|url| KeySet::new(url, outbound.clone())),
            rules: Rules {
                issuer: settings.issuer.clone(),
                audience: settings.audience.clone(),
                is_supabase: settings.is_supabase(),
                role_claim: settings.role_claim.clone(),
                sessions_claim: settings.sessions_claim.clone(),
            },
            hook: url(&settings.hook_url).map(hook),
            any_user_may_join: settings.any_user_may_join,
            admin: Some(&settings.admin_key.0).filter(|key| !key.is_empty()).map(|key| hash(key)),
            ttl: Duration::from_secs(settings.token_ttl_s),
        }))
    }

    /// Whether joins need a token; else everybody is believed.
    pub(crate) fn is_required(&self) -> bool {
        self.0.is_required
    }

    /// Fetches the key set, if there is one, before the first user comes.
    pub(crate) async fn warm(&self) {
        if let Some(set) = &self.0.set {
            set.warm(clock::now().mono).await;
        }
    }

    /// Who a connecting socket is; `None` in open mode.
    pub(crate) async fn admit(&self, token: Option<&str>, now_ms: u64) -> Result<Option<Arc<Identity>>, Refused> {
        if !self.is_required() {
            return Ok(None);
        }
        let token = token.ok_or_else(|| missing("Connect with auth: { token }."))?;
        self.verify(token, now_ms).await.map(|identity| Some(Arc::new(identity)))
    }

    /// What a join token says, or why it is not believed (`auth/…`). One whose time is over is marked so; who takes it looks at that.
    pub(crate) async fn verify(&self, token: &str, now_ms: u64) -> Result<Identity, Refused> {
        join::identity(&self.shared_claims(token)?, now_ms)
    }

    /// What a token says that was signed with a shared secret. Key sets sign for users, who have no say in what they may do here.
    fn shared_claims(&self, token: &str) -> Result<Claims, Refused> {
        let unverified = Unverified::parse(token)?;
        if unverified.alg != Alg::Hs256 {
            let why = "Join tokens are signed with HS256. If this is a user's token, send it to POST /v1/video/token.";
            return Err(invalid(why));
        }
        let key = self.0.shared.find(unverified.kid.as_deref()).ok_or_else(token::unknown_key)?;
        unverified.verify(key)
    }

    /// The user whom an application's or an identity provider's token names.
    pub(crate) async fn user(&self, token: &str, now: Now) -> Result<User, Refused> {
        let unverified = Unverified::parse(token)?;
        let kid = unverified.kid.as_deref();
        let claims = match (unverified.alg, &self.0.set) {
            (Alg::Hs256, _) => self.shared_claims(token)?,
            (alg, Some(set)) => unverified.verify(&set.find(alg, kid, now.mono).await?)?,
            (_, None) => return Err(token::unknown_key()),
        };
        self.0.rules.user(&claims, now.unix_ms)
    }

    /// What the authorisation hook says; `None` if there is none.
    pub(crate) async fn ask_hook(&self, request: Request<'_>) -> Option<Result<Admitted, Refused>> {
        match &self.0.hook {
            Some(hook) => Some(hook.ask(request).await),
            None => None,
        }
    }

    /// Whether every user may enter every session.
    pub(crate) fn any_user_may_join(&self) -> bool {
        self.0.any_user_may_join
    }

    /// Whether these are an API key pair.
    pub(crate) fn is_pair(&self, id: &str, secret: &str) -> bool {
        self.0.shared.is_pair(id, secret)
    }

    /// Whether this is the admin key, or a token of the application's for the API: HS256, `aud: "lyceum-admin"`, not over.
    pub(crate) fn is_admin(&self, shown: &str, now_ms: u64) -> bool {
        let is_key = self.0.admin.is_some_and(|admin| is_same(&admin, &hash(shown)));
        let is_token = || {
            let claims = self.shared_claims(shown).ok()?;
            let (_, is_expired) = claims.time(now_ms).ok()?;
            Some(claims.is_for(ADMIN_AUDIENCE) && !is_expired)
        };
        is_key || is_token().unwrap_or(false)
    }

    /// A new token with the claims of `identity`, but for `jti` and `exp`: that is the settings' time from now on, or `ttl`.
    pub(crate) fn mint(&self, identity: &Identity, ttl: Option<Duration>, now_ms: u64) -> Minted {
        let jti: [u8; JTI_BYTES] = rand::random();
        let ttl_ms = u64::try_from(ttl.unwrap_or(self.0.ttl).as_millis()).unwrap_or(u64::MAX);
        // Whole seconds, as `exp` has them.
        let expires_ms = now_ms.saturating_add(ttl_ms) / 1000 * 1000;
        let identity = Identity {
            token: Some(URL_SAFE_NO_PAD.encode(jti).into()),
            expires_ms,
            is_expired: false,
            ..identity.clone()
        };
        let (kid, key) = self.0.shared.mint();
        let token = token::sign(key, kid, &join::claims(&identity, ISSUER));
        Minted { token, identity: Arc::new(identity) }
    }
}

/// Whether there is nothing shared to sign join tokens with.
pub(crate) fn needs_own_key(settings: &AuthSettings) -> bool {
    settings.is_required() && settings.secret.0.is_empty() && settings.keys.is_empty()
}

/// What the operator is told at the start: how tokens are believed, and what is doubtful about it.
pub(crate) fn describe(settings: &AuthSettings) -> String {
    let mut ways = Vec::new();
    if !settings.secret.0.is_empty() {
        ways.push("JWT_SECRET".to_owned());
    }
    if !settings.keys.is_empty() {
        ways.push(format!("{} API key pair(s)", settings.keys.len()));
    }
    if !settings.jwks_url.is_empty() {
        ways.push(format!("users of {}", settings.issuer));
    }
    format!("tokens required: {}", ways.join(", "))
}

/// Warns of settings that work, but not as they should.
pub(crate) fn warn(settings: &AuthSettings) {
    for (name, url) in [("jwks_url", &settings.jwks_url), ("hook_url", &settings.hook_url)] {
        if is_plain_and_far(url) {
            tracing::warn!(url = %site(url), "[auth] {name} is not https: whoever is on the way decides who may enter");
        }
    }
    if needs_own_key(settings) {
        tracing::warn!("there is no JWT_SECRET: other nodes do not know the join tokens of /v1/video/token");
    }
}
