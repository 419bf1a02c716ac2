//! Every error response: its status, its code, and a message that says what is wrong.
//!
//! A message names the client's mistake. It never reveals internals of the gateway, a payload or a token.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};

use super::ledger::LedgerError;
use crate::model::{BatchId, DeviceId, RecordId};
use crate::policy::backoff::uniform_between;
use crate::protocol::wire::{BATCH_ID_REUSED, ErrorBody, MAX_BYTES, MAX_RECORDS, UNKNOWN_BATCH};

/// When a client may retry after a 202, 409 or 503 without a wait of its own.
pub(crate) const RETRY_AFTER_SECONDS: &str = "1";

/// When devices return to a gateway that is ending: a restart takes seconds.
const DRAIN_WAIT_MIN: Duration = Duration::from_secs(2);
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(15);
/// Records of a batch: more than any device sends.
pub(crate) const RECORDS_MAX: usize = 10_000;

/// Why a request was not processed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
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
    #[error("`{0}` is not a batch id: a UUID was expected")]
    InvalidBatchId(String),
    #[error("the connection ended before the whole body had arrived")]
    BodyInterrupted,
    #[error("the rest of the body did not arrive in time")]
    BodyTooSlow,
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("the content encoding `{0}` is not supported: use zstd, gzip or none")]
    UnsupportedEncoding(String),
    #[error("a valid bearer token is required")]
    Unauthorized,
    #[error(
        "the token or the client certificate belongs to another device than {0}: give this device its own, or a line in the --token-file of the gateway"
    )]
    OtherDevice(DeviceId),
    #[error(
        "the token or the client certificate belongs to one device, and the ledger holds the records of all devices"
    )]
    DeviceToken,
    #[error("the batch {0} is still being processed")]
    Processing(BatchId),
    #[error("the batch id {0} is known with another body")]
    BatchIdReused(BatchId),
    #[error("the batch {0} is not known")]
    UnknownBatch(BatchId),
    #[error("the record {0} does not need review: it is unknown, forwarded or discarded")]
    NotUnderReview(RecordId),
    #[error("{0}")]
    InvalidReview(&'static str),
    #[error("{0}")]
    InvalidStatus(&'static str),
    #[error("the body is not the status of a device: {0}")]
    MalformedStatus(#[source] serde_json::Error),
    #[error("a status must not be compressed")]
    StatusEncoded,
    #[error("more batches are being processed than can be answered in time: send the same batch again later")]
    Busy { wait: Duration },
    #[error("this gateway is ending: send the same batch again later")]
    Draining { wait: Duration },
    #[error("the batch has {records} records, and may have {RECORDS_MAX}")]
    TooManyRecords { records: usize },
    #[error("this device has {limit} batches in flight, and may not have more at a time")]
    DeviceBusy { limit: usize },
    #[error("{reason}; records wait on their devices, nothing is lost")]
    DestinationRefusal { code: &'static str, wait: Duration, reason: String },
    #[error(
        "the destination takes longer for the batch {0} than the response may wait: query the outcome, processing continues"
    )]
    DestinationSlow(BatchId),
    #[error("this path does not exist")]
    NoSuchPath,
    #[error("this path supports {0} only")]
    MethodNotAllowed(&'static str),
    #[error("the ledger cannot be reached: retry later, nothing is lost")]
    LedgerUnreachable,
    #[error("the gateway failed: query the outcome, or send the same batch again")]
    Ledger(#[source] LedgerError),
}

impl From<LedgerError> for RequestError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Unreachable(_) => Self::LedgerUnreachable,
            error => Self::Ledger(error),
        }
    }
}

impl RequestError {
    /// The gateway is ending. Another may take its place, or it returns: devices come back one by one.
    pub(crate) fn draining() -> Self {
        Self::Draining { wait: uniform_between(DRAIN_WAIT_MIN, DRAIN_WAIT_MAX, &mut fastrand::Rng::new()) }
    }

    pub(crate) fn error_code(&self) -> &'static str {
        self.status_and_code().1
    }

    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::HeaderMissing(_)
            | Self::HeaderMalformed { .. }
            | Self::HeaderMismatch { .. }
            | Self::Malformed(_)
            | Self::Undecodable(_)
            | Self::NoRecords
            | Self::RecordTwice(_)
            | Self::InvalidBatchId(_)
            | Self::InvalidReview(_)
            | Self::InvalidStatus(_)
            | Self::MalformedStatus(_)
            | Self::BodyInterrupted => (StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
            Self::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "TOO_SLOW"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE"),
            Self::UnsupportedEncoding(_) | Self::StatusEncoded => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_ENCODING")
            }
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            // Devices treat a 403 as a problem with their credential: they wait, and blame no record.
            Self::OtherDevice(_) => (StatusCode::FORBIDDEN, "DEVICE_MISMATCH"),
            Self::DeviceToken => (StatusCode::FORBIDDEN, "DEVICE_TOKEN"),
            Self::Processing(_) => (StatusCode::CONFLICT, "PROCESSING"),
            Self::BatchIdReused(_) => (StatusCode::UNPROCESSABLE_ENTITY, BATCH_ID_REUSED),
            Self::UnknownBatch(_) => (StatusCode::NOT_FOUND, UNKNOWN_BATCH),
            Self::NotUnderReview(_) => (StatusCode::NOT_FOUND, "NOT_UNDER_REVIEW"),
            Self::TooManyRecords { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "TOO_MANY_RECORDS"),
            Self::Draining { .. } => (StatusCode::SERVICE_UNAVAILABLE, "DRAINING"),
            Self::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, "BUSY"),
            Self::DeviceBusy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "DEVICE_BUSY"),
            // The duration is unknown: without Retry-After, each device backs off on its own.
            Self::LedgerUnreachable => (StatusCode::SERVICE_UNAVAILABLE, "LEDGER_UNREACHABLE"),
            Self::DestinationRefusal { code, .. } => (StatusCode::SERVICE_UNAVAILABLE, code),
            Self::DestinationSlow(_) => (StatusCode::GATEWAY_TIMEOUT, "DESTINATION_SLOW"),
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::Ledger(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        }
    }
}

impl ResponseError for RequestError {
    fn status_code(&self) -> StatusCode {
        self.status_and_code().0
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        match self {
            Self::Processing(_) | Self::DeviceBusy { .. } => {
                response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
            }
            Self::Busy { wait } | Self::Draining { wait } | Self::DestinationRefusal { wait, .. } => {
                let seconds = wait.as_millis().div_ceil(1000).max(1);
                response.insert_header((RETRY_AFTER, seconds.to_string()));
            }
            Self::Unauthorized => {
                response.insert_header((WWW_AUTHENTICATE, "Bearer"));
            }
            Self::BodyTooLarge { limit } => {
                response.insert_header((MAX_BYTES, limit.to_string()));
            }
            Self::TooManyRecords { .. } => {
                response.insert_header((MAX_RECORDS, RECORDS_MAX.to_string()));
            }
            Self::MethodNotAllowed(methods) => {
                response.insert_header((ALLOW, *methods));
            }
            _ => {}
        }
        response.json(ErrorBody::new(self.error_code(), self.to_string()))
    }
}
