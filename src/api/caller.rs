//! Who calls, and what the call says: read before any handler runs.

use std::time::Duration;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderValue;
use axum::http::header::RETRY_AFTER;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use signaling::{Actor, ErrorCode, Refused};

use super::{Api, invalid};
use crate::auth::rate::network;
use crate::clock;
use crate::socketio::Source;
use crate::whip::refuse;

/// Who calls. To be had only within the rate of the caller's network, and with credentials.
pub(super) struct Caller(pub(super) Actor);

impl FromRequestParts<Api> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Response> {
        let now = clock::now();
        let Some(source) = parts.extensions.get::<Source>() else {
            return Err(refuse(&Refused { code: ErrorCode::Internal, message: "The source is not known.".to_owned() }));
        };
        // No name has it, and Postgres does not take it.
        if parts.uri.path_and_query().is_some_and(|path| path.as_str().contains("%00")) {
            return Err(invalid("The URL must not contain NUL.").into_response());
        }
        let address = source.address.ip();
        api.networks.take(network(address), now.mono).map_err(limited)?;
        api.auth.actor(&parts.headers, address, now.unix_ms).await.map(Caller).map_err(|why| refuse(&why))
    }
}

fn limited(wait: Duration) -> Response {
    let seconds = wait.as_secs() + 1;
    let message = format!("Too many requests: ask again in {seconds} s.");
    let mut response = refuse(&Refused { code: ErrorCode::RateLimited, message });
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// A JSON body; what is none is `request/invalid`.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Response;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Response> {
        let read = axum::Json::<T>::from_request(request, api).await;
        read.map(|axum::Json(body)| Json(body)).map_err(|why: JsonRejection| invalid(why.body_text()).into_response())
    }
}

/// Parts of the path; what does not fit is `request/invalid`.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Path<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Response> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, api).await;
        read.map(|axum::extract::Path(path)| Path(path))
            .map_err(|why: PathRejection| invalid(why.body_text()).into_response())
    }
}

/// What stands behind the `?`; what does not fit is `request/invalid`.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Query<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Response> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, api).await;
        read.map(|axum::extract::Query(query)| Query(query))
            .map_err(|why: QueryRejection| invalid(why.body_text()).into_response())
    }
}
