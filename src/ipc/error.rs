//! The one shape of errors on the local API.

use std::fmt;

use hyper::StatusCode;

use super::http::{self, Response};
use crate::protocol::wire::{ErrorBody, ErrorDetail};
use crate::store::{AddRefused, AppendRefused, MendRefused, StoreError};

/// A refusal: status, code for programs, message for people.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    detail: ErrorDetail,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, detail: ErrorBody::new(code, message).error }
    }

    pub(super) fn at(mut self, position: u64) -> Self {
        self.detail.position = Some(position);
        self
    }

    pub(super) fn bad_request(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn no_such_record() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no_such_record",
            "no record has this id; receipts of synced records are kept for queue.keep_synced only, or less on a nearly full disk",
        )
    }

    pub(super) fn not_permitted(what: &str) -> Self {
        let message = format!("{what}; ask root, or become a member of the group that ipc.admin_group names");
        Self::new(StatusCode::FORBIDDEN, "not_permitted", message)
    }

    /// An answer that cannot be written as JSON.
    pub(super) fn cannot_write(error: &serde_json::Error) -> Self {
        let message = format!("the answer cannot be written: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store_failed", message)
    }

    /// The body of the response.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let body = ErrorBody { error: self.detail.clone() };
        serde_json::to_vec(&body).unwrap_or_default()
    }

    pub(super) fn response(&self) -> Response {
        http::json_bytes(self.status, self.to_json())
    }

    /// Code for programs, message for people.
    pub(super) fn into_parts(self) -> (String, String) {
        (self.detail.code, self.detail.message)
    }

    /// An actor did not answer: the daemon is on its way out.
    pub(super) fn stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "the daemon is stopping and cannot say whether this was done; repeat it under the same ids when it is back",
        )
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.detail.code, self.detail.message)
    }
}

impl std::error::Error for ApiError {}

impl From<actix::MailboxError> for ApiError {
    fn from(_: actix::MailboxError) -> Self {
        Self::stopping()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::stopping(),
            StoreError::NoRoom => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", error.to_string()),
            StoreError::Failing => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "disk_failing",
                format!("{error}; have the disk looked at, then repeat this under the same ids"),
            ),
            error => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "store_failed",
                format!("{error}; look into the journal: journalctl -u fieldsync"),
            ),
        }
    }
}

impl From<AppendRefused> for ApiError {
    fn from(refused: AppendRefused) -> Self {
        let message = refused.to_string();
        match refused {
            AppendRefused::TooLarge { position, .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "record_too_large", message).at(position)
            }
            AppendRefused::Conflict { position, .. } | AppendRefused::Taken { position, .. } => {
                Self::new(StatusCode::CONFLICT, "id_conflict", message).at(position)
            }
            AppendRefused::DiskFull => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message),
            AppendRefused::Full(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "queue_full", message),
        }
    }
}

impl From<AddRefused> for ApiError {
    fn from(refused: AddRefused) -> Self {
        let code = match refused {
            AddRefused::Unknown => return Self::no_such_record(),
            AddRefused::Synced => "already_synced",
            AddRefused::OutcomePending => "outcome_pending",
        };
        Self::new(StatusCode::CONFLICT, code, refused.to_string())
    }
}

impl From<MendRefused> for ApiError {
    fn from(refused: MendRefused) -> Self {
        match refused {
            MendRefused::Unknown => Self::no_such_record(),
            MendRefused::NotQuarantined => {
                Self::new(StatusCode::CONFLICT, "not_quarantined", refused.to_string())
            }
            MendRefused::Full(_) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "queue_full", refused.to_string())
            }
            MendRefused::DiskFull => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", refused.to_string())
            }
            MendRefused::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "record_too_large", refused.to_string())
            }
        }
    }
}
