//! Who may call: the guard before every route, polling and websocket alike. CORS alone does not cover
//! websockets, and in open mode a page elsewhere, or one that rebinds its DNS name to us, must get nowhere.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, HOST, ORIGIN, VARY,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::addresses::is_near;
use crate::socketio::Source;

/// Headers by which a proxy says for whom it asks: behind one, everybody's source address is near.
pub(crate) const FORWARDING: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "cf-connecting-ip", "via"];

/// Which callers are let in.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    origins: Arc<[String]>,
    /// In open mode only who is near is served.
    is_open: bool,
}

impl Guard {
    /// `origins` may call besides our own pages and those of localhost; `is_open` where nobody needs a token.
    pub(crate) fn new(origins: &[String], is_open: bool) -> Self {
        Guard { origins: origins.into(), is_open }
    }

    /// Open mode serves who is near and asks us directly. The error is a sentence for the one who tries it out.
    fn near(&self, source: Option<IpAddr>, headers: &HeaderMap) -> Result<(), &'static str> {
        if !self.is_open {
            return Ok(());
        }
        if !source.is_some_and(is_near) {
            return Err("Open mode serves only this machine and its private network.");
        }
        if FORWARDING.iter().any(|name| headers.contains_key(*name)) {
            return Err("Open mode serves no proxies but those of [http] trusted_proxies.");
        }
        let host = authority(headers).ok_or("Open mode needs one Host header.")?;
        if is_local_name(host.host()) || ip(host.host()).is_some() || self.configured_host(&host) {
            return Ok(());
        }
        Err("Open mode serves only localhost, IP addresses and the hosts of [http] origins.")
    }

    fn configured_host(&self, host: &Authority) -> bool {
        self.origins.iter().any(|o| o.split_once("://").is_some_and(|(_, a)| a.eq_ignore_ascii_case(host.as_str())))
    }

    /// The value of `Origin` if it is good; `None` if there is none; an error if it is not.
    fn origin<'h>(&self, headers: &'h HeaderMap) -> Result<Option<&'h HeaderValue>, &'static str> {
        let mut values = headers.get_all(ORIGIN).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let refused = "This origin may not call; add it to [http] origins or NEXTAUTH_URL.";
        let text = value.to_str().map_err(|_| refused)?.to_ascii_lowercase();
        let (scheme, rest) = text.split_once("://").ok_or(refused)?;
        let origin: Authority = rest.parse().map_err(|_| refused)?;
        let is_web = scheme == "http" || scheme == "https";
        let is_ours = authority(headers).is_some_and(|host| host.as_str().eq_ignore_ascii_case(origin.as_str()));
        let is_good = is_web && (is_ours || is_local_name(origin.host())) || self.origins.contains(&text);
        if values.next().is_some() || !is_good { Err(refused) } else { Ok(Some(value)) }
    }
}

/// The middleware.
pub(crate) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let source = request.extensions().get::<Source>().filter(|source| !source.is_unnamed).map(|s| s.address.ip());
    if let Err(why) = guard.near(source, request.headers()) {
        return refuse(why);
    }
    let origin = match guard.origin(request.headers()) {
        Ok(origin) => origin.cloned(),
        Err(why) => return refuse(why),
    };
    let mut response =
        if request.method() == Method::OPTIONS && origin.is_some() { preflight() } else { next.run(request).await };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    response
}

fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, if-match"),
        (ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn refuse(why: &'static str) -> Response {
    problem(StatusCode::FORBIDDEN, "request/forbidden", why)
}

/// An RFC 9457 problem with our `code`.
pub(crate) fn problem(status: StatusCode, code: &'static str, detail: &str) -> Response {
    let body = serde_json::json!({ "status": status.as_u16(), "title": status.canonical_reason(), "detail": detail, "code": code });
    (status, [("content-type", "application/problem+json")], body.to_string()).into_response()
}

fn authority(headers: &HeaderMap) -> Option<Authority> {
    let mut values = headers.get_all(HOST).iter();
    let host = values.next()?.to_str().ok()?.parse().ok()?;
    values.next().is_none().then_some(host)
}

fn is_local_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1" || host == "[::1]"
}

fn ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().expect("a header value"));
        }
        map
    }

    #[test]
    fn origins() {
        let guard = Guard::new(&["https://school.example".to_owned()], true);
        let good = |origin: &str, host: &str| guard.origin(&headers(&[("host", host), ("origin", origin)])).is_ok();
        for origin in [
            "http://10.0.0.5:3001",
            "http://localhost:5173",
            "https://127.0.0.1",
            "http://[::1]:9",
            "https://school.example",
        ] {
            assert!(good(origin, "10.0.0.5:3001"), "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://10.0.0.5",
            "http://evil.example",
            "https://school.example.evil",
            "http://school.example",
            "http://localhost.evil",
            "file://localhost",
            "http://localhost@evil",
        ] {
            assert!(!good(origin, "10.0.0.5:3001"), "{origin}");
        }
        assert!(guard.origin(&headers(&[("host", "x")])).expect("no origin is no browser").is_none());
        assert!(guard.origin(&headers(&[("host", "x"), ("origin", "http://x"), ("origin", "http://evil")])).is_err());
    }

    #[test]
    fn open_mode_serves_who_is_near() {
        let guard = Guard::new(&["https://school.example".to_owned()], true);
        let near =
            |source: &str, pairs: &[(&'static str, &str)]| guard.near(source.parse().ok(), &headers(pairs)).is_ok();
        assert!(near("127.0.0.1", &[("host", "localhost:3001")]));
        assert!(near("192.168.1.9", &[("host", "192.168.1.2:3001")]));
        assert!(near("::1", &[("host", "[::1]:3001")]));
        assert!(near("127.0.0.1", &[("host", "school.example")]));
        assert!(!near("127.0.0.1", &[("host", "evil.example")]));
        assert!(!near("127.0.0.1", &[]));
        assert!(!near("8.8.8.8", &[("host", "localhost")]));
        assert!(!near("127.0.0.1", &[("host", "localhost"), ("x-forwarded-for", "8.8.8.8")]));
        assert!(!near("127.0.0.1", &[("host", "localhost"), ("forwarded", "for=8.8.8.8")]));
        let guard = Guard::new(&[], false);
        let far = headers(&[("host", "school.example"), ("x-forwarded-for", "8.8.8.8")]);
        assert!(guard.near("8.8.8.8".parse().ok(), &far).is_ok(), "with tokens it does not matter where from");
        assert!(guard.origin(&headers(&[("host", "school.example"), ("origin", "https://evil.example")])).is_err());
    }
}
