//! Requests and responses of the local API, as handlers read and build them.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::api::json_problem::describe_field_error;

/// A response with a body of any kind.
pub(super) type HttpResponse = Response<HttpBody>;
pub(super) type HttpBody = Pin<Box<dyn Body<Data = Bytes, Error = ApiError>>>;

const JSON: &str = "application/json";

pub(super) fn json_response(status: StatusCode, value: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(value) {
        Ok(json) => encoded_json_response(status, json),
        Err(error) => error_response(&ApiError::json_encoding_failed(&error)),
    }
}

pub(super) fn encoded_json_response(status: StatusCode, json: impl Into<Bytes>) -> HttpResponse {
    let mut response = text_response(JSON, json);
    *response.status_mut() = status;
    response
}

pub(super) fn error_response(error: &ApiError) -> HttpResponse {
    let mut response = encoded_json_response(error.status(), error.to_json());
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.closes_connection() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

pub(super) fn text_response(content_type: &'static str, body: impl Into<Bytes>) -> HttpResponse {
    let body = Full::new(body.into()).map_err(|never| match never {});
    build_response(content_type, body)
}

pub(super) fn stream_response(
    content_type: &'static str,
    chunks: impl Stream<Item = Result<Bytes, ApiError>> + 'static,
) -> HttpResponse {
    build_response(content_type, StreamBody::new(chunks.map_ok(Frame::data)))
}

fn build_response(
    content_type: &'static str,
    body: impl Body<Data = Bytes, Error = ApiError> + 'static,
) -> HttpResponse {
    let mut response = Response::new(Box::pin(body) as HttpBody);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(super) fn read_query<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    serde_urlencoded::from_str(query).map_err(|error: serde_urlencoded::de::Error| {
        let what = describe_field_error(&error.to_string());
        let what = what.unwrap_or_else(|| "a parameter has a value that it cannot have".to_owned());
        ApiError::bad_request("invalid_query", format!("{what}; GET /v1/openapi.json has the parameters"))
    })
}
