//! Everything that is refused, with its status, its code and a message that says what is wrong.
//!
//! A message names what the client sent wrong; it never tells of the gateway's insides, of a
//! payload or of a token.

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};

use super::ledger::LedgerError;
use crate::model::{BatchId, DeviceId, RecordId};
use crate::protocol::wire::{BATCH_ID_REUSED, ErrorBody, MAX_BYTES, UNKNOWN_BATCH};

/// When a client may ask again after a 202, 409 or 503, in seconds.
pub(crate) const RETRY_AFTER_SECONDS: &str = "1";

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the header {0} is missing")]
    HeaderMissing(&'static str),
    #[error("the header {name} is `{value}`: {expected} was expected")]
    HeaderMalformed { name: &'static str, value: String, expected: &'static str },
    #[error("the header {name} says `{header}`, the body `{body}`")]
    HeaderMismatch { name: &'static str, header: String, body: String },
    #[error("the body is not a batch: {0}")]
    Malformed(#[source] serde_json::Error),
    #[error("the body cannot be decoded as {0}")]
    Undecodable(&'static str),
    #[error("the batch has no records")]
    NoRecords,
    #[error("the record {0} is in the batch twice")]
    RecordTwice(RecordId),
    #[error("`{0}` is no batch id: a UUID was expected")]
    NoBatchId(String),
    #[error("the body ended before it was whole")]
    Interrupted,
    #[error("no more of the body arrived in time")]
    Slow,
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the content encoding `{0}` is not taken: use zstd, gzip or none")]
    Encoding(String),
    #[error("a bearer token is needed, and must be the right one")]
    Unauthorized,
    #[error(
        "the token belongs to another device than {0}: give this device its own token, or a line in the --token-file of the gateway"
    )]
    OtherDevice(DeviceId),
    #[error("the token belongs to one device, and the ledger has the records of all")]
    DeviceToken,
    #[error("the batch {0} is still being processed")]
    Processing(BatchId),
    #[error("the batch id {0} is known with another body")]
    Reused(BatchId),
    #[error("the batch {0} is not known")]
    UnknownBatch(BatchId),
    #[error("too many batches are being processed")]
    Busy,
    #[error("there is nothing at this path")]
    NoSuchPath,
    #[error("this path takes {0} only")]
    Method(&'static str),
    #[error("the ledger cannot be reached: send the same again later, nothing is lost")]
    LedgerUnreachable,
    #[error("the gateway failed: look the outcome up, or send the same again")]
    Ledger(#[source] LedgerError),
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Unreachable(_) => Self::LedgerUnreachable,
            error => Self::Ledger(error),
        }
    }
}

impl Refusal {
    pub(crate) fn code(&self) -> &'static str {
        self.kind().1
    }

    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::HeaderMissing(_)
            | Self::HeaderMalformed { .. }
            | Self::HeaderMismatch { .. }
            | Self::Malformed(_)
            | Self::Undecodable(_)
            | Self::NoRecords
            | Self::RecordTwice(_)
            | Self::NoBatchId(_)
            | Self::Interrupted => (StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "TOO_SLOW"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE"),
            Self::Encoding(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_ENCODING"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            // Devices take a 403 as a matter of their credential: they wait, and no record is held to be at fault.
            Self::OtherDevice(_) => (StatusCode::FORBIDDEN, "DEVICE_MISMATCH"),
            Self::DeviceToken => (StatusCode::FORBIDDEN, "DEVICE_TOKEN"),
            Self::Processing(_) => (StatusCode::CONFLICT, "PROCESSING"),
            Self::Reused(_) => (StatusCode::UNPROCESSABLE_ENTITY, BATCH_ID_REUSED),
            Self::UnknownBatch(_) => (StatusCode::NOT_FOUND, UNKNOWN_BATCH),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "BUSY"),
            // Nobody knows for how long: no Retry-After, so that each device backs off on its own.
            Self::LedgerUnreachable => (StatusCode::SERVICE_UNAVAILABLE, "LEDGER_UNREACHABLE"),
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::Ledger(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        }
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.kind().0
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        match self {
            Self::Processing(_) | Self::Busy => {
                response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
            }
            Self::Unauthorized => {
                response.insert_header((WWW_AUTHENTICATE, "Bearer"));
            }
            Self::TooLarge { limit } => {
                response.insert_header((MAX_BYTES, limit.to_string()));
            }
            Self::Method(methods) => {
                response.insert_header((ALLOW, *methods));
            }
            _ => {}
        }
        response.json(ErrorBody::new(self.code(), self.to_string()))
    }
}
