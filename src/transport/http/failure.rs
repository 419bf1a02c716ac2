//! What an awc error means, and its description for people.

use std::io;

use actix_http::error::{ParseError, PayloadError};
use awc::ClientResponse;
use awc::error::{ConnectError, SendRequestError};
use awc::http::Version;
use awc::http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use rustls::AlertDescription;

use crate::model::ConnectFailure;
use crate::protocol::exchange::{Delivery, RequestFailure};
use crate::transport::dial::DialError;
use crate::transport::request_limits::{ExceededLimit, RequestLimits};
use crate::transport::tls::{classify_tls_error, explain_tls_error, find_rustls_error};

/// Why no head of a response arrived. `is_new`: the request was the first on its connection.
pub(super) fn describe_missing_response(
    error: &SendRequestError,
    limits: &RequestLimits,
    is_new: bool,
) -> RequestFailure {
    let delivery = match error {
        _ if is_new && is_certificate_rejected(error) => Delivery::NotSent,
        SendRequestError::Send(error) if error.kind() == io::ErrorKind::TimedOut => Delivery::Partial,
        _ => Delivery::Sent,
    };
    RequestFailure {
        delivery,
        message: describe_send_error(error, limits),
        connect_failure: find_connect_failure(error),
    }
}

/// Responses that awc treats as complete although more follows, and whose connection it would keep.
pub(super) fn check_framing<S>(response: &ClientResponse<S>) -> Option<RequestFailure> {
    let (status, headers) = (response.status().as_u16(), response.headers());
    let message = if status < 200 {
        format!("the server sent an interim response (HTTP {status}) before the final one")
    } else if response.version() == Version::HTTP_11
        && !matches!(status, 204 | 304)
        && !headers.contains_key(CONTENT_LENGTH)
        && !is_chunked(headers)
    {
        "the response does not say how long it is".into()
    } else {
        return None;
    };
    Some(RequestFailure::new(Delivery::Sent, message))
}

/// Fails if the connection ended before the announced length; awc treats such a body as complete.
pub(super) fn check_body_length(status: u16, headers: &HeaderMap, body: &[u8]) -> Option<RequestFailure> {
    let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse::<usize>().ok()?;
    let is_complete = body.len() >= length || is_chunked(headers) || status == 304;
    let message = || format!("the response broke off: {} of {length} bytes arrived", body.len());
    (!is_complete).then(|| RequestFailure::new(Delivery::Sent, message()))
}

/// A chunked response has no meaningful length.
fn is_chunked(headers: &HeaderMap) -> bool {
    let coding = headers.get(TRANSFER_ENCODING).and_then(|coding| coding.to_str().ok());
    coding.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
}

/// Why the body of a response could not be read.
pub(super) fn describe_body_error(error: &PayloadError) -> RequestFailure {
    let message = match error {
        PayloadError::Overflow => "the response is larger than server.max_answer_bytes".into(),
        error => format!("the response broke off: {error}"),
    };
    RequestFailure::new(Delivery::Sent, message)
}

/// Why the server cannot be talked to, as far as the error shows it.
fn find_connect_failure(error: &SendRequestError) -> Option<ConnectFailure> {
    match error {
        SendRequestError::Connect(ConnectError::Timeout) => Some(ConnectFailure::NoResponse),
        SendRequestError::Connect(ConnectError::Io(error)) => {
            let dial = error.get_ref().and_then(|inner| inner.downcast_ref::<DialError>());
            Some(dial.map(DialError::failure).unwrap_or_default())
        }
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => {
            find_broken_connection(error)
        }
        // awc reports the end of the connection before any byte of a response as an incomplete one.
        SendRequestError::Connect(ConnectError::Disconnected)
        | SendRequestError::Response(ParseError::Incomplete) => Some(ConnectFailure::Closed),
        SendRequestError::Response(ParseError::TooLarge | ParseError::Timeout) => None,
        SendRequestError::Response(_) => Some(ConnectFailure::NotHttp),
        _ => None,
    }
}

/// With TLS 1.3, the server may end the handshake in place of the response.
fn find_broken_connection(error: &io::Error) -> Option<ConnectFailure> {
    if find_rustls_error(error).is_some() {
        return Some(classify_tls_error(error));
    }
    let is_closed = matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    );
    is_closed.then_some(ConnectFailure::Closed)
}

fn describe_send_error(error: &SendRequestError, limits: &RequestLimits) -> String {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => {
            "the connection was closed before the response".into()
        }
        SendRequestError::Connect(ConnectError::Timeout) => {
            ExceededLimit::Connect(limits.connect).to_string()
        }
        SendRequestError::Connect(ConnectError::Io(error)) => match error.get_ref() {
            Some(inner) if inner.is::<DialError>() => error.to_string(),
            _ => format!("cannot connect: {error}"),
        },
        SendRequestError::Connect(error) => format!("cannot connect: {error}"),
        // The kernel has the same limit.
        SendRequestError::Send(error) if error.kind() == io::ErrorKind::TimedOut => {
            ExceededLimit::Stall(limits.stall).to_string()
        }
        SendRequestError::Send(error) => {
            format!("the connection broke while sending: {}", explain_tls_error(error))
        }
        SendRequestError::Response(ParseError::Io(error)) => {
            format!("the connection broke before the response: {}", explain_tls_error(error))
        }
        SendRequestError::Response(error) => format!("the response is not HTTP: {error}"),
        other => other.to_string(),
    }
}

/// With TLS 1.3, our part of the handshake ends before the server sees the client certificate. The server rejects
/// it in place of the response, and has read no request then.
fn is_certificate_rejected(error: &SendRequestError) -> bool {
    let (SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error))) = error else {
        return false;
    };
    matches!(
        find_rustls_error(error),
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
