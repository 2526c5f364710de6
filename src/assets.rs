//! The call page, embedded in the binary.

use std::borrow::Cow;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use crate::origin::problem;

/// What `npm run build` in `web/` made; empty when it was not run before the build.
#[derive(RustEmbed)]
#[folder = "web/dist/"]
#[allow_missing = true]
struct Dist;

/// Stands in for the call page when it was not built.
const WITHOUT_PAGE: &str = include_str!("without_page.html");

/// Files below this have their content's hash in their name.
const HASHED: &str = "assets/";

/// Serves `/` and the files of the page; anything else is 404.
pub(crate) async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    match Dist::get(path) {
        Some(file) => answer(path, file.data, &file.metadata.sha256_hash(), &headers),
        None if path == "index.html" => {
            ([(CONTENT_TYPE, "text/html; charset=utf-8"), (CACHE_CONTROL, "no-cache")], WITHOUT_PAGE).into_response()
        }
        None => problem(StatusCode::NOT_FOUND, "request/not_found", "There is nothing at this path."),
    }
}

fn answer(path: &str, data: Cow<'static, [u8]>, hash: &[u8; 32], headers: &HeaderMap) -> Response {
    let etag = hash[..16].iter().fold(String::from("\""), |etag, byte| format!("{etag}{byte:02x}")) + "\"";
    let cache = if path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let is_known =
        known.flat_map(|v| v.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == etag || tag.trim() == "*");
    let tags = [(ETAG, etag), (CACHE_CONTROL, cache.to_owned())];
    if is_known {
        return (StatusCode::NOT_MODIFIED, tags).into_response();
    }
    (tags, [(CONTENT_TYPE, content_type(path))], data).into_response()
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
    use super::*;

    #[test]
    fn an_unchanged_file_is_not_sent_again() {
        let data = Cow::Borrowed(b"hello".as_slice());
        let first = answer("a.txt", data.clone(), &[7; 32], &HeaderMap::new());
        assert_eq!(
            (first.status(), &first.headers()[CONTENT_TYPE]),
            (StatusCode::OK, &"text/plain; charset=utf-8".parse().expect("a value"))
        );
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, first.headers()[ETAG].clone());
        assert_eq!(answer("a.txt", data, &[7; 32], &headers).status(), StatusCode::NOT_MODIFIED);
    }
}
