//! Requests and responses of the local API, as handlers read and build them.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::StatusCode;
use hyper::body::{Body, Frame};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ApiError;

pub(super) type Response = hyper::Response<ResponseBody>;
/// A body of any kind.
pub(super) type ResponseBody = Pin<Box<dyn Body<Data = Bytes, Error = ApiError>>>;

const JSON: &str = "application/json";

/// A response in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(json) => json_bytes(status, json),
        Err(error) => ApiError::cannot_write(&error).response(),
    }
}

/// A response in JSON that is written already.
pub(super) fn json_bytes(status: StatusCode, json: impl Into<Bytes>) -> Response {
    let mut response = text(JSON, json);
    *response.status_mut() = status;
    response
}

/// A response of this content type.
pub(super) fn text(content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let body = Full::new(body.into()).map_err(|never| match never {});
    response(content_type, body)
}

/// A response that is written piece by piece.
pub(super) fn stream(
    content_type: &'static str,
    pieces: impl Stream<Item = Result<Bytes, ApiError>> + 'static,
) -> Response {
    response(content_type, StreamBody::new(pieces.map_ok(Frame::data)))
}

fn response(
    content_type: &'static str,
    body: impl Body<Data = Bytes, Error = ApiError> + 'static,
) -> Response {
    let mut response = Response::new(Box::pin(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The parameters of a query string.
pub(super) fn read_query<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    serde_urlencoded::from_str(query)
        .map_err(|error| ApiError::bad_request("invalid_query", error.to_string()))
}
