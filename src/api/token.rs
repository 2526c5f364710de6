//! `POST /v1/video/token`: who shows that they are somebody gets a join token for one session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::header::{CACHE_CONTROL, HOST, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use sfu::Now;
use signaling::limits::NAME_CHARS_MAX;
use signaling::{Actor, Command, ErrorCode, Granted, Identity, Permissions, Refused, Role};

use crate::auth::rate::{Rate, network};
use crate::auth::{self, Admitted, Auth, Credentials, Request, User};
use crate::clock;
use crate::control::{self, Inbox, Input};
use crate::serve::secure::Encrypted;
use crate::socketio::Source;
use crate::store::Store;
use crate::whip::refuse;

/// Most bytes of a request.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Requests of one address: a school behind one address, all of whom come at the full hour, must fit.
const ADDRESS: (u32, Duration) = (1_000, Duration::from_millis(20));
/// Requests of one user: a client asks when it joins, and before its token ends.
const USER: (u32, Duration) = (20, Duration::from_secs(3));
/// `ttlS` that an API key pair may ask for, seconds.
const TTL_S: (u64, u64) = (60, 86_400);

#[derive(Clone)]
pub(super) struct Tokens {
    auth: Auth,
    /// Weak, so that the route does not keep control from ending.
    inbox: Inbox,
    store: Store,
    addresses: Arc<Rate<IpAddr>>,
    users: Arc<Rate<Arc<str>>>,
}

/// The route.
pub(crate) fn router(auth: Auth, inbox: Inbox, store: Store) -> Router {
    let (addresses, users) = (Arc::new(Rate::new(ADDRESS.0, ADDRESS.1)), Arc::new(Rate::new(USER.0, USER.1)));
    Router::new()
        .route("/v1/video/token", post(answer))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Tokens { auth, inbox, store, addresses, users })
}

/// Why there is no token.
enum Refusal {
    Refused(Refused),
    /// Too many requests: how long until the next.
    Limited(Duration),
}

impl From<Refused> for Refusal {
    fn from(why: Refused) -> Self {
        Refusal::Refused(why)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::Refused(why) => refuse(&why),
            Refusal::Limited(wait) => {
                let seconds = wait.as_secs() + 1;
                let message = format!("Too many tokens are asked for: ask again in {seconds} s.");
                let mut response = refuse(&Refused { code: ErrorCode::RateLimited, message });
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
                response
            }
        }
    }
}

/// A join token for one session.
#[utoipa::path(post, path = "/v1/video/token", tag = "tokens", request_body = Object, responses((status = 200, body = Object)))]
pub(super) async fn answer(
    State(tokens): State<Tokens>,
    Extension(source): Extension<Source>,
    encrypted: Option<Extension<Encrypted>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let now = clock::now();
    let (minted, ice_servers) = match tokens.grant(source.address.ip(), &headers, &body, now).await {
        Ok(granted) => granted,
        Err(why) => return why.into_response(),
    };
    let identity = &minted.identity;
    let body = json!({
        "token": minted.token,
        "expiresAt": identity.expires_ms,
        "url": url(&headers, encrypted.is_some()),
        "sessionId": identity.session,
        "userId": identity.user,
        "role": identity.role.as_str(),
        "permissions": identity.permissions.to_json(),
        "iceServers": ice_servers,
    });
    (StatusCode::OK, [(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(body)).into_response()
}

/// Where to connect: the address at which this request reached us.
fn url(headers: &HeaderMap, is_encrypted: bool) -> String {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    let scheme = if is_encrypted { "https" } else { "http" };
    host.map_or_else(|| "/".to_owned(), |host| format!("{scheme}://{host}"))
}

impl Tokens {
    async fn grant(
        &self,
        address: IpAddr,
        headers: &HeaderMap,
        body: &[u8],
        now: Now,
    ) -> Result<(auth::Minted, Value), Refusal> {
        self.addresses.take(network(address), now.mono).map_err(Refusal::Limited)?;
        if !self.auth.is_required() {
            return Err(forbidden("This server is in open mode: join without a token.").into());
        }
        let (identity, ttl) = match Credentials::of(headers)? {
            Some(Credentials::Basic(id, secret)) if self.auth.is_pair(&id, &secret) => {
                Wanted::parse(body)?.of_application()?
            }
            Some(Credentials::Basic(..)) => return Err(auth::unknown_pair().into()),
            Some(Credentials::Bearer(token)) => {
                let user = self.auth.user(&token, now).await?;
                self.users.take(user.id.clone(), now.mono).map_err(Refusal::Limited)?;
                (self.of_user(user, Wanted::parse(body)?).await?, None)
            }
            None => {
                let message = "Send a user's token as Authorization: Bearer, or an API key pair as Basic.".to_owned();
                return Err(Refused { code: ErrorCode::AuthMissing, message }.into());
            }
        };
        let minted = self.auth.mint(&identity, ttl, now.unix_ms);
        let ice_servers = self.ice_servers(minted.identity.clone()).await?;
        Ok((minted, ice_servers))
    }

    /// What a user gets: the session if the hook, their own claim, the roster or the setting says so, and the role that one of the first
    /// two gives. They may ask for less.
    async fn of_user(&self, user: User, wanted: Wanted) -> Result<Identity, Refused> {
        let name = wanted.name.or(user.name);
        let request = Request { session: &wanted.session, user: &user.id, name: name.as_deref(), role: user.role };
        let Admitted { role, permissions } = match self.auth.ask_hook(request).await {
            Some(answer) => answer?,
            None => {
                let may_enter = self.auth.any_user_may_join()
                    || user.sessions.iter().any(|session| *session == *wanted.session)
                    || self.is_on_roster(&wanted.session, &user.id).await;
                if !may_enter {
                    return Err(forbidden(
                        "You are not on the list of this session: ask whoever runs it to put you there.",
                    ));
                }
                Admitted { role: user.role, permissions: None }
            }
        };
        let less = wanted.role.filter(|wanted| rank(*wanted) < rank(role));
        let permissions = match less {
            Some(less) => Permissions::of(less),
            None => permissions.unwrap_or_else(|| Permissions::of(role)),
        };
        Ok(identity(wanted.session, user.id, name, less.unwrap_or(role), permissions))
    }

    /// Whether the session's roster names the user. While the store is away it names nobody.
    async fn is_on_roster(&self, session: &str, user: &str) -> bool {
        self.store.is_expected(session, user).await.unwrap_or(false)
    }

    /// TURN servers for whoever got the token. Who was removed from the meeting is refused here.
    async fn ice_servers(&self, identity: Arc<Identity>) -> Result<Value, Refused> {
        let command = Command::IceServers { identity };
        let input = |reply| Input::Command { actor: Actor::Operator, command, reply };
        match control::ask(&self.inbox, input).await? {
            Granted::Answer(mut answer) => Ok(answer["iceServers"].take()),
            _ => Ok(Value::Null),
        }
    }
}

/// More is more.
fn rank(role: Role) -> u8 {
    match role {
        Role::Observer => 0,
        Role::Participant => 1,
        Role::Instructor => 2,
    }
}

fn forbidden(message: &str) -> Refused {
    Refused { code: ErrorCode::Forbidden, message: message.to_owned() }
}

fn invalid(message: impl Into<String>) -> Refused {
    Refused { code: ErrorCode::InvalidRequest, message: message.into() }
}

fn identity(
    session: Arc<str>,
    user: Arc<str>,
    name: Option<Arc<str>>,
    role: Role,
    permissions: Permissions,
) -> Identity {
    Identity { user, name, session, role, permissions, token: None, expires_ms: 0, is_expired: false }
}

/// What a request asks for.
struct Wanted {
    session: Arc<str>,
    name: Option<Arc<str>>,
    role: Option<Role>,
    /// What only applications may say.
    fields: Map<String, Value>,
}

impl Wanted {
    fn parse(body: &[u8]) -> Result<Self, Refused> {
        let fields: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|_| invalid("Send a JSON object: { sessionId, userName?, role? }."))?;
        let session = signaling::name(&fields, "sessionId", NAME_CHARS_MAX)?;
        let role = match fields.get("role").filter(|role| !role.is_null()) {
            None => None,
            Some(word) => Some(word.as_str().and_then(auth::role).ok_or_else(|| invalid(auth::ROLES))?),
        };
        Ok(Wanted {
            session: session.ok_or_else(|| invalid("sessionId is missing."))?,
            name: signaling::name(&fields, "userName", NAME_CHARS_MAX)?,
            role,
            fields,
        })
    }

    /// An application says for whom it asks, and as what.
    fn of_application(self) -> Result<(Identity, Option<Duration>), Refused> {
        let user = signaling::name(&self.fields, "userId", NAME_CHARS_MAX)?;
        let user = user.ok_or_else(|| invalid("userId is missing: whose token shall it be?"))?;
        if &*user == "sfu" {
            return Err(invalid("Nobody may be called \"sfu\": that is the server."));
        }
        let role = self.role.unwrap_or_default();
        let given = self.fields.get("permissions").filter(|permissions| !permissions.is_null());
        let permissions = auth::permissions(given, role).map_err(invalid)?;
        let ttl = match self.fields.get("ttlS").filter(|ttl| !ttl.is_null()) {
            None => None,
            Some(ttl) => {
                let seconds = ttl.as_u64().filter(|seconds| (TTL_S.0..=TTL_S.1).contains(seconds));
                let why =
                    || invalid(format!("ttlS must be a whole number of seconds between {} and {}.", TTL_S.0, TTL_S.1));
                Some(Duration::from_secs(seconds.ok_or_else(why)?))
            }
        };
        Ok((identity(self.session, user, self.name, role, permissions), ttl))
    }
}
