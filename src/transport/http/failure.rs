//! What it means, and in which words, that awc had no answer.

use std::io;

use actix_http::error::{ParseError, PayloadError};
use awc::ClientResponse;
use awc::error::{ConnectError, SendRequestError};
use awc::http::Version;
use awc::http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use rustls::AlertDescription;

use crate::protocol::exchange::{Delivery, RequestFailure};
use crate::transport::dial::DialError;
use crate::transport::request_limits::{Limits, Passed};
use crate::transport::tls::{explain_tls_error, rustls_error};

/// Why no head of an answer came. `is_fresh`: the connection had not served before.
pub(super) fn unanswered(error: &SendRequestError, limits: &Limits, is_fresh: bool) -> RequestFailure {
    let delivery = match error {
        _ if is_fresh && is_certificate_refused(error) => Delivery::NotSent,
        SendRequestError::Send(error) if error.kind() == io::ErrorKind::TimedOut => Delivery::Partial,
        _ => Delivery::Sent,
    };
    RequestFailure { delivery, message: describe(error, limits) }
}

/// What awc takes for a whole answer although more is to come, and keeps the connection all the same.
pub(super) fn unfinished<S>(response: &ClientResponse<S>) -> Option<RequestFailure> {
    let (status, headers) = (response.status().as_u16(), response.headers());
    let message = if status < 200 {
        format!("the server sent an interim answer (HTTP {status}) before the real one")
    } else if response.version() == Version::HTTP_11
        && !matches!(status, 204 | 304)
        && !headers.contains_key(CONTENT_LENGTH)
        && !is_chunked(headers)
    {
        "the answer does not say how long it is".into()
    } else {
        return None;
    };
    Some(RequestFailure { delivery: Delivery::Sent, message })
}

/// The body ends with the connection, before its length. To awc it is whole.
pub(super) fn broken_off(status: u16, headers: &HeaderMap, body: &[u8]) -> Option<RequestFailure> {
    let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse::<usize>().ok()?;
    let is_whole = body.len() >= length || is_chunked(headers) || status == 304;
    let message = || format!("the answer broke off: {} of {length} bytes came", body.len());
    (!is_whole).then(|| RequestFailure { delivery: Delivery::Sent, message: message() })
}

/// Then a length says nothing.
fn is_chunked(headers: &HeaderMap) -> bool {
    let coding = headers.get(TRANSFER_ENCODING).and_then(|coding| coding.to_str().ok());
    coding.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
}

/// Why the answer has a head, but no end.
pub(super) fn cut_short(error: &PayloadError) -> RequestFailure {
    let message = match error {
        PayloadError::Overflow => "the answer is larger than server.max_answer_bytes".into(),
        error => format!("the answer broke off: {error}"),
    };
    RequestFailure { delivery: Delivery::Sent, message }
}

fn describe(error: &SendRequestError, limits: &Limits) -> String {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => {
            "the connection was closed before the answer".into()
        }
        SendRequestError::Connect(ConnectError::Timeout) => Passed::Connect(limits.connect).to_string(),
        SendRequestError::Connect(ConnectError::Io(error)) => match error.get_ref() {
            Some(inner) if inner.is::<DialError>() => error.to_string(),
            _ => format!("cannot connect: {error}"),
        },
        SendRequestError::Connect(error) => format!("cannot connect: {error}"),
        // The kernel was told the same limit.
        SendRequestError::Send(error) if error.kind() == io::ErrorKind::TimedOut => {
            Passed::Stall(limits.stall).to_string()
        }
        SendRequestError::Send(error) => {
            format!("the connection broke while sending: {}", explain_tls_error(error))
        }
        SendRequestError::Response(ParseError::Io(error)) => {
            format!("the connection broke before the answer: {}", explain_tls_error(error))
        }
        SendRequestError::Response(error) => format!("the answer is no HTTP: {error}"),
        other => other.to_string(),
    }
}

/// With TLS 1.3 our part of the handshake is over before the server has seen a certificate. What it
/// does not like about it, it says where the answer is expected; it has read no request then.
fn is_certificate_refused(error: &SendRequestError) -> bool {
    let (SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error))) = error else {
        return false;
    };
    matches!(
        rustls_error(error),
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
        ))
    )
}
