//! The bearer token of a request.

use actix_web::http::header::{AUTHORIZATION, HeaderMap};

const BEARER_SCHEME: &[u8] = b"Bearer ";

/// The token that a request shows, if any.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(BEARER_SCHEME.len())?;
    scheme.eq_ignore_ascii_case(BEARER_SCHEME).then(|| token.trim_ascii())
}
