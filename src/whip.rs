//! WHIP and WHEP over HTTP (RFC 9725, draft-ietf-wish-whep): one exchange of descriptions, and media from then on.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, FromRef, Path, Query, State};
use axum::http::header::{
    ACCEPT, ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, CONTENT_TYPE, ETAG, IF_MATCH, LINK, LOCATION, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{options, post};
use serde::Deserialize;
use serde_json::Value;
use signaling::{Ask, ErrorCode, Granted, Refused};

use crate::auth::Auth;
use crate::clock;
use crate::control::{self, Inbox, Input};
use crate::origin::problem;
use crate::socketio::Source;

/// When a player may ask again whether a session has begun, in seconds.
const NOT_LIVE_RETRY: &str = "10";
const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// What the routes share.
#[derive(Clone)]
struct Routes {
    inbox: Inbox,
    auth: Auth,
}

impl FromRef<Routes> for Inbox {
    fn from_ref(routes: &Routes) -> Self {
        routes.inbox.clone()
    }
}

/// Who publishes in open mode, or what is played.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    user_id: Option<String>,
    user_name: Option<String>,
    #[serde(default)]
    is_instructor: bool,
    participant_id: Option<String>,
}

/// The routes.
pub(crate) fn router(inbox: Inbox, auth: Auth) -> Router {
    Router::new()
        .route("/whip/{session}", post(publish).options(accepts))
        .route("/whep/{session}", post(play).options(accepts))
        .route("/whip/{session}/{resource}", options(accepts).patch(change).delete(end))
        .route("/whep/{session}/{resource}", options(accepts).patch(change).delete(end))
        .layer(DefaultBodyLimit::max(sfu::sdp::SDP_BYTES_MAX))
        .with_state(Routes { inbox, auth })
}

/// What a client without a browser's preflight asks about (RFC 9725 §4.2).
async fn accepts() -> Response {
    let post = (HeaderName::from_static("accept-post"), HeaderValue::from_static(SDP));
    let patch = (HeaderName::from_static("accept-patch"), HeaderValue::from_static(FRAGMENT));
    (StatusCode::NO_CONTENT, [post, patch, (ALLOW, HeaderValue::from_static("OPTIONS, POST, PATCH, DELETE"))])
        .into_response()
}

async fn publish(
    State(routes): State<Routes>,
    Extension(source): Extension<Source>,
    Path(session): Path<String>,
    Query(params): Query<Params>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let sdp = match offer(&headers, &body) {
        Ok(sdp) => sdp,
        Err(response) => return *response,
    };
    let identity = match routes.auth.guest(&headers, clock::now().unix_ms).await {
        Ok(identity) => identity,
        Err(why) => return refuse(&why),
    };
    let Some(user) = params.user_id.or_else(|| identity.as_ref().map(|identity| identity.user.to_string())) else {
        let why = "Say who publishes: add ?userId=… to the URL, and &userName=… for the name that others see.";
        return problem(StatusCode::BAD_REQUEST, ErrorCode::InvalidRequest.as_str(), why);
    };
    let (name, instructor) = (params.user_name, params.is_instructor);
    let ask = Ask::Publish { identity, session: session.clone(), user, name, instructor, sdp };
    created("whip", &session, ask_lobby(&routes.inbox, &source, ask).await)
}

async fn play(
    State(routes): State<Routes>,
    Extension(source): Extension<Source>,
    Path(session): Path<String>,
    Query(params): Query<Params>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let sdp = match offer(&headers, &body) {
        Ok(sdp) => sdp,
        Err(response) => return *response,
    };
    let identity = match routes.auth.guest(&headers, clock::now().unix_ms).await {
        Ok(identity) => identity,
        Err(why) => return refuse(&why),
    };
    let ask = Ask::Play { identity, session: session.clone(), participant: params.participant_id, sdp };
    created("whep", &session, ask_lobby(&routes.inbox, &source, ask).await)
}

async fn change(
    State(inbox): State<Inbox>,
    Extension(source): Extension<Source>,
    Path((_, resource)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !is_type(&headers, FRAGMENT) {
        return unsupported(FRAGMENT);
    }
    // RFC 9725 §4.4.1: without the ETag nobody could tell which ICE session the fragment belongs to.
    let Some(tag) = headers.get(IF_MATCH).and_then(|tag| tag.to_str().ok()) else {
        let why = "Send If-Match with the ETag of the last answer, or \"*\" to restart ICE.";
        return problem(StatusCode::PRECONDITION_REQUIRED, ErrorCode::InvalidRequest.as_str(), why);
    };
    let etag = match tag.trim_matches('"') {
        "*" => None,
        // No ETag of ours: it fits none.
        tag => Some(tag.parse().unwrap_or(0)),
    };
    let fragment = String::from_utf8_lossy(&body);
    let value = |name: &str| fragment.lines().find_map(|line| line.strip_prefix(name)).map(|v| v.trim().to_owned());
    let credentials = value("a=ice-ufrag:").zip(value("a=ice-pwd:"));
    match ask_lobby(&inbox, &source, Ask::Patch { resource, etag, credentials }).await {
        Ok(Granted::Restarted { etag, sdp }) => {
            (StatusCode::OK, [(CONTENT_TYPE, FRAGMENT), (ETAG, &format!("\"{etag}\""))], fragment_of(&sdp))
                .into_response()
        }
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(response) => response,
    }
}

async fn end(
    State(inbox): State<Inbox>,
    Extension(source): Extension<Source>,
    Path((_, resource)): Path<(String, String)>,
) -> Response {
    match ask_lobby(&inbox, &source, Ask::End { resource }).await {
        Ok(_) => StatusCode::OK.into_response(),
        Err(response) => response,
    }
}

/// Asks the lobby and waits for its reply; a refusal is a problem already.
async fn ask_lobby(inbox: &Inbox, source: &Source, ask: Ask) -> Result<Granted, Response> {
    let address = source.address.ip();
    control::ask(inbox, |reply| Input::Ask { address, ask, reply }).await.map_err(|why| {
        let mut response = refuse(&why);
        if why.code == ErrorCode::NotLive {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(NOT_LIVE_RETRY));
        }
        response
    })
}

/// 201 with the answer (RFC 9725 §4.2).
fn created(kind: &str, session: &str, granted: Result<Granted, Response>) -> Response {
    let (resource, etag, sdp, ice_servers) = match granted {
        Ok(Granted::Created { resource, etag, sdp, ice_servers }) => (resource, etag, sdp, ice_servers),
        Ok(_) => return problem(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal.as_str(), "No answer came."),
        Err(response) => return response,
    };
    let location = format!("/{kind}/{}/{resource}", escape(session));
    let mut response = (StatusCode::CREATED, sdp).into_response();
    let headers = response.headers_mut();
    let mut insert = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    };
    insert(LOCATION, &location);
    insert(ETAG, &format!("\"{etag}\""));
    insert(HeaderName::from_static("accept-patch"), FRAGMENT);
    insert(ACCESS_CONTROL_EXPOSE_HEADERS, "location, etag, link, accept-patch");
    for link in ice_servers.iter().flat_map(links) {
        insert(LINK, &link);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    response
}

/// An `RTCIceServer` as `Link` headers (RFC 9725 §4.6).
fn links(server: &Value) -> Vec<String> {
    let text = |name: &str| server.get(name).and_then(Value::as_str);
    let urls: Vec<&str> = match server.get("urls") {
        Some(Value::String(url)) => vec![url],
        Some(Value::Array(urls)) => urls.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let login = match (text("username"), text("credential")) {
        (Some(name), Some(password)) => {
            format!("; username=\"{name}\"; credential=\"{password}\"; credential-type=\"password\"")
        }
        _ => String::new(),
    };
    urls.into_iter().map(|url| format!("<{url}>; rel=\"ice-server\"{login}")).collect()
}

/// What of an answer an ICE restart changes (RFC 8840 §9): of the first m-line, since all are bundled.
fn fragment_of(sdp: &str) -> String {
    let wanted = ["a=ice-lite", "a=ice-options:", "a=group:", "m=", "a=mid:", "a=ice-ufrag:", "a=ice-pwd:"];
    let candidates = ["a=candidate:", "a=end-of-candidates"];
    let mut lines = 0;
    let first = sdp.lines().take_while(|line| {
        lines += usize::from(line.starts_with("m="));
        lines < 2
    });
    let mut fragment = String::new();
    for line in first.filter(|line| wanted.iter().chain(&candidates).any(|start| line.starts_with(start))) {
        fragment.push_str(line);
        fragment.push_str("\r\n");
    }
    fragment
}

fn offer(headers: &HeaderMap, body: &Bytes) -> Result<String, Box<Response>> {
    if !is_type(headers, SDP) {
        return Err(Box::new(unsupported(SDP)));
    }
    let invalid = || problem(StatusCode::BAD_REQUEST, ErrorCode::InvalidSdp.as_str(), "The offer is not UTF-8.");
    String::from_utf8(body.to_vec()).map_err(|_| Box::new(invalid()))
}

fn is_type(headers: &HeaderMap, wanted: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
}

fn unsupported(wanted: &str) -> Response {
    let why = format!("The Content-Type must be {wanted}.");
    let mut response = problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::InvalidRequest.as_str(), &why);
    if let Ok(value) = HeaderValue::from_str(wanted) {
        response.headers_mut().insert(ACCEPT, value);
    }
    response
}

/// The problem that a refusal is over HTTP.
pub(crate) fn refuse(why: &Refused) -> Response {
    let mut response = problem(status(why.code), why.code.as_str(), &why.message);
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

pub(crate) fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::AuthMissing | ErrorCode::AuthExpired | ErrorCode::AuthInvalid | ErrorCode::AuthRevoked => {
            StatusCode::UNAUTHORIZED
        }
        ErrorCode::NotLive | ErrorCode::UnknownTarget | ErrorCode::UnknownResource | ErrorCode::UnknownRecord => {
            StatusCode::NOT_FOUND
        }
        ErrorCode::Forbidden | ErrorCode::Locked | ErrorCode::NotPermitted => StatusCode::FORBIDDEN,
        ErrorCode::Ended | ErrorCode::Replaced | ErrorCode::Full | ErrorCode::NewPeerRequired => StatusCode::CONFLICT,
        ErrorCode::StaleEtag => StatusCode::PRECONDITION_FAILED,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Draining | ErrorCode::Overloaded | ErrorCode::StoreAway => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::InvalidSdp | ErrorCode::InvalidRequest | ErrorCode::NotJoined => StatusCode::BAD_REQUEST,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A session name as it may stand in a path (RFC 3986 §3.3).
fn escape(name: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    name.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_has_the_first_m_line_and_nothing_of_the_rest() {
        let sdp = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\na=group:BUNDLE 0 1\r\na=ice-lite\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
            a=mid:0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=rtpmap:111 opus/48000/2\r\n\
            a=candidate:1 1 udp 1 192.0.2.1 7882 typ host\r\na=end-of-candidates\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n";
        assert_eq!(
            fragment_of(sdp),
            "a=group:BUNDLE 0 1\r\na=ice-lite\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:abcd\r\n\
            a=ice-pwd:0123456789012345678901\r\na=candidate:1 1 udp 1 192.0.2.1 7882 typ host\r\na=end-of-candidates\r\n"
        );
    }

    #[test]
    fn ice_servers_are_links() {
        let server = serde_json::json!({ "urls": ["turn:a:3478", "turns:a:5349"], "username": "u", "credential": "c" });
        let login = "; username=\"u\"; credential=\"c\"; credential-type=\"password\"";
        assert_eq!(
            links(&server),
            [format!("<turn:a:3478>; rel=\"ice-server\"{login}"), format!("<turns:a:5349>; rel=\"ice-server\"{login}")]
        );
        assert_eq!(links(&serde_json::json!({ "urls": "stun:a" })), ["<stun:a>; rel=\"ice-server\""]);
    }

    #[test]
    fn a_location_cannot_be_broken_by_a_name() {
        assert_eq!(escape("Klasse 7/b\r\nX: y"), "Klasse%207%2Fb%0D%0AX%3A%20y");
    }
}
