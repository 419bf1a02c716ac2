//! Reads the body of a batch, within limits of size and time.

use std::time::Duration;

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::request_error::RequestError;

/// A body is given up when nothing of it arrives for this long.
const BODY_STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a body of at most `limit` bytes.
pub(super) async fn read_body(
    headers: &HeaderMap,
    mut payload: Payload,
    limit: usize,
) -> Result<Bytes, RequestError> {
    let content_length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok());
    if content_length.is_some_and(|length| length > limit) {
        return Err(RequestError::BodyTooLarge { limit });
    }
    let mut body = BytesMut::with_capacity(content_length.unwrap_or(0));
    loop {
        let chunk = match timeout(BODY_STALL_TIMEOUT, payload.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(_))) => return Err(RequestError::BodyInterrupted),
            Ok(None) => return Ok(body.freeze()),
            Err(_) => return Err(RequestError::BodyTooSlow),
        };
        if body.len() + chunk.len() > limit {
            return Err(RequestError::BodyTooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
}
