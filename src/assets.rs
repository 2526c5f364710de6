//! The pages, embedded in the binary: the call page, and the operators' under `/admin`.
//!
//! The build of `web/` leaves a compressed twin beside each file that shrinks by it; which one is sent is the client's choice
//! (`Accept-Encoding`), and each has an ETag of its own.

use std::borrow::Cow;

use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH,
    VARY,
};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use crate::origin::problem;

/// What `npm run build` in `web/` made; empty when it was not run before the build.
#[derive(RustEmbed)]
#[folder = "web/dist/"]
#[allow_missing = true]
struct Dist;

/// Stands in for a page when it was not built.
const WITHOUT_PAGE: &str = include_str!("without_page.html");
/// Files in a folder of this name have their content's hash in their own.
const HASHED: &str = "assets/";
/// Encodings, best first, with the ends of their files' names.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// Scripts, styles and connections of our own only. Behind it stand the websocket origins of the page's own host, which some
/// browsers do not count to `'self'`.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    media-src 'self' blob:; font-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
    frame-ancestors 'self'; connect-src 'self'";

/// A file as it lies in the binary.
struct File {
    data: Cow<'static, [u8]>,
    sha256: [u8; 32],
}

/// Serves `/`, `/admin` and the files of the pages; anything else is 404.
pub(crate) async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    let get = |path: &str| Dist::get(path).map(|file| File { data: file.data, sha256: file.metadata.sha256_hash() });
    answer(uri.path(), &headers, get)
}

fn answer(path: &str, headers: &HeaderMap, get: impl Fn(&str) -> Option<File>) -> Response {
    let path = match path.trim_start_matches('/') {
        "" => "index.html",
        "admin" | "admin/" => "admin/index.html",
        path => path,
    };
    let policy = (CONTENT_SECURITY_POLICY, policy(headers));
    let is_twin = ENCODINGS.iter().any(|(_, suffix)| path.ends_with(suffix));
    match get(path).filter(|_| !is_twin) {
        Some(plain) => ([policy], representation(path, plain, headers, get)).into_response(),
        None if path.ends_with("index.html") => {
            let kind = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
            ([policy], kind, WITHOUT_PAGE).into_response()
        }
        None => problem(StatusCode::NOT_FOUND, "request/not_found", "There is nothing at this path."),
    }
}

/// The twin that the client takes, or the file itself; nothing but headers if it has that already. What a cache keeps is
/// brought up to date by the headers of a 304: it has the same as the whole answer.
fn representation(path: &str, plain: File, headers: &HeaderMap, get: impl Fn(&str) -> Option<File>) -> Response {
    let twin = ENCODINGS
        .into_iter()
        .filter(|(encoding, _)| accepts(headers, encoding))
        .find_map(|(encoding, suffix)| Some((encoding, get(&format!("{path}{suffix}"))?)));
    let (encoding, file) = twin.map_or((None, plain), |(encoding, file)| (Some(encoding), file));
    let etag = file.sha256[..16].iter().fold(String::from("\""), |etag, byte| format!("{etag}{byte:02x}")) + "\"";
    let is_hashed = path.starts_with(HASHED) || path.contains(&format!("/{HASHED}"));
    let cache = if is_hashed { "public, max-age=31536000, immutable" } else { "no-cache" };
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let is_known =
        known.flat_map(|v| v.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == etag || tag.trim() == "*");
    let tags = [(ETAG, etag.as_str()), (CACHE_CONTROL, cache), (VARY, "accept-encoding")];
    if is_known {
        return (StatusCode::NOT_MODIFIED, tags).into_response();
    }
    let mut response = (tags, [(CONTENT_TYPE, content_type(path))], file.data).into_response();
    if let Some(encoding) = encoding {
        response.headers_mut().insert(CONTENT_ENCODING, axum::http::HeaderValue::from_static(encoding));
    }
    response
}

/// Whether the client takes an encoding (RFC 9110 §12.5.3): it, or `*`, is named with a weight above 0.
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut any = false;
    for item in values.flat_map(|value| value.split(',')) {
        let (name, weight) = item.split_once(';').map_or((item, None), |(name, weight)| (name, Some(weight)));
        let weight = weight.and_then(|weight| weight.trim().strip_prefix(['q', 'Q'])?.strip_prefix('='));
        let weight = weight.and_then(|weight| weight.trim().parse::<f32>().ok());
        let is_wanted = weight.unwrap_or(1.0) > 0.0;
        match name.trim() {
            name if name.eq_ignore_ascii_case(encoding) => return is_wanted,
            "*" => any = is_wanted,
            _ => {}
        }
    }
    any
}

/// The policy of a page that was asked for at this host.
fn policy(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    // Nothing that could end the directive. Policies know no IPv6 addresses: there `'self'` must do.
    let is_plain = |host: &&str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b));
    match host.filter(is_plain) {
        Some(host) => format!("{CONTENT_POLICY} ws://{host} wss://{host}"),
        None => CONTENT_POLICY.to_owned(),
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    /// As a build leaves them: a script with both twins, a picture without.
    fn dist(path: &str) -> Option<File> {
        let (data, mark): (&[u8], u8) = match path {
            "index.html" => (b"<!doctype html>", 1),
            "assets/main-1a2b3c.js" => (b"plain", 2),
            "assets/main-1a2b3c.js.br" => (b"brotli", 3),
            "assets/main-1a2b3c.js.gz" => (b"gzip", 4),
            "admin/index.html" => (b"<!doctype html><title>admin</title>", 5),
            "admin/assets/main-4d5e6f.css" => (b"plain", 6),
            "icon.svg" => (b"<svg/>", 7),
            _ => return None,
        };
        Some(File { data: Cow::Borrowed(data), sha256: [mark; 32] })
    }

    fn ask(path: &str, pairs: &[(HeaderName, &str)]) -> Response {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a value")));
        answer(path, &headers.collect(), dist)
    }

    fn header(response: &Response, name: HeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
    }

    async fn body(response: Response) -> Vec<u8> {
        axum::body::to_bytes(response.into_body(), 1_000).await.expect("it is short").to_vec()
    }

    #[tokio::test]
    async fn a_client_gets_the_best_that_it_takes() {
        for (accepted, encoding, expected) in [
            ("gzip, deflate, br, zstd", "br", "brotli"),
            ("gzip, deflate", "gzip", "gzip"),
            ("br;q=0, gzip;q=0.5", "gzip", "gzip"),
            ("BR", "br", "brotli"),
            ("*", "br", "brotli"),
            ("*;q=0", "", "plain"),
            ("identity", "", "plain"),
            ("gzip;q=0, *", "br", "brotli"),
            ("br;Q=0, gzip;Q=1", "gzip", "gzip"),
            ("br ; q=0.0, gzip;q=0", "", "plain"),
        ] {
            let response = ask("/assets/main-1a2b3c.js", &[(ACCEPT_ENCODING, accepted)]);
            assert_eq!(header(&response, CONTENT_ENCODING), encoding, "{accepted}");
            assert_eq!(header(&response, CONTENT_TYPE), "text/javascript; charset=utf-8", "of what it decodes to");
            assert_eq!(header(&response, VARY), "accept-encoding");
            assert_eq!(body(response).await, expected.as_bytes(), "{accepted}");
        }
        let response = ask("/icon.svg", &[(ACCEPT_ENCODING, "br")]);
        assert_eq!(header(&response, CONTENT_ENCODING), "", "it has no twin");
        assert_eq!(header(&response, VARY), "accept-encoding", "caches are told so all the same");
        assert_eq!(body(ask("/assets/main-1a2b3c.js", &[])).await, b"plain");
    }

    #[test]
    fn an_unchanged_file_is_not_sent_again() {
        for accepted in ["br", "gzip", "identity"] {
            let first = ask("/assets/main-1a2b3c.js", &[(ACCEPT_ENCODING, accepted)]);
            let etag = header(&first, ETAG).to_owned();
            let again = ask("/assets/main-1a2b3c.js", &[(ACCEPT_ENCODING, accepted), (IF_NONE_MATCH, &etag)]);
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{accepted}");
            for name in [ETAG, CACHE_CONTROL, VARY, CONTENT_SECURITY_POLICY] {
                assert_eq!(header(&again, name.clone()), header(&first, name));
            }
            let other = ask("/assets/main-1a2b3c.js", &[(ACCEPT_ENCODING, "deflate, x"), (IF_NONE_MATCH, &etag)]);
            assert_eq!(other.status() == StatusCode::OK, accepted != "identity", "an ETag is of one representation");
        }
        let weak = ask("/", &[(IF_NONE_MATCH, "\"x\", W/\"01010101010101010101010101010101\"")]);
        assert_eq!(weak.status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn only_names_with_a_hash_are_kept_for_good() {
        for (path, cache) in [
            ("/", "no-cache"),
            ("/admin", "no-cache"),
            ("/icon.svg", "no-cache"),
            ("/assets/main-1a2b3c.js", "public, max-age=31536000, immutable"),
            ("/admin/assets/main-4d5e6f.css", "public, max-age=31536000, immutable"),
        ] {
            assert_eq!(header(&ask(path, &[]), CACHE_CONTROL), cache, "{path}");
        }
    }

    #[tokio::test]
    async fn both_pages_have_an_address_and_nothing_else_has() {
        for path in ["/admin", "/admin/", "/admin/index.html"] {
            let page = body(ask(path, &[])).await;
            assert!(String::from_utf8_lossy(&page).contains("admin"), "{path}");
        }
        for path in ["/nothing", "/assets/main-1a2b3c.js.br", "/assets/main-1a2b3c.js.gz", "/../Cargo.toml", "/admin/x"]
        {
            assert_eq!(ask(path, &[]).status(), StatusCode::NOT_FOUND, "{path}");
        }
        let response = answer("/admin", &HeaderMap::new(), |_| None);
        assert_eq!(response.status(), StatusCode::OK, "a server without pages says so");
    }

    #[test]
    fn pages_may_connect_to_their_own_host_only() {
        let of = |host: &str| header(&ask("/", &[(HOST, host)]), CONTENT_SECURITY_POLICY).to_owned();
        assert!(of("call.example:3001").ends_with("connect-src 'self' ws://call.example:3001 wss://call.example:3001"));
        for odd in ["a; script-src *", "a b", "[::1]:3001", "a'b", ""] {
            let policy = of(odd);
            assert!(policy.contains("script-src 'self';"), "{policy}");
            assert!(odd.is_empty() || policy.ends_with("connect-src 'self'"), "{policy}");
        }
        assert!(of("x").starts_with("default-src 'none';") && !of("x").contains("unsafe"));
    }
}
