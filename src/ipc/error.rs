//! The one shape of errors on the local API.

use std::fmt;

use hyper::StatusCode;

use crate::protocol::wire::{ErrorBody, ErrorDetail};
use crate::store::{AddRefused, AppendRefused, MendRefused, StoreError};

/// Busy: others free connections and memory within moments.
const BUSY_RETRY_SECONDS: u64 = 2;
/// The daemon stops: its service may start it again.
const STOPPING_RETRY_SECONDS: u64 = 5;
/// The disk fails: the store is opened again from time to time.
const FAILING_DISK_RETRY_SECONDS: u64 = 30;
/// The queue or the disk is full: room comes with sending, or by a person.
const FULL_RETRY_SECONDS: u64 = 60;

/// Why a request failed: HTTP status, code for programs, message for people.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    detail: ErrorDetail,
    /// Whether the connection takes no further request.
    closes_connection: bool,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, detail: ErrorBody::new(code, message).error, closes_connection: false }
    }

    pub(super) fn with_position(mut self, position: u64) -> Self {
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
            "no record has this id; the receipt of a synced or discarded record is kept for queue.keep_synced, or shorter on a nearly full disk",
        )
    }

    pub(super) fn invalid_id(text: &str) -> Self {
        let message = format!("`{text}` is not an id: it must be a UUID");
        Self::bad_request("invalid_id", message)
    }

    /// Where a part of an id is enough.
    pub(super) fn invalid_id_or_part(text: &str) -> Self {
        let message = format!(
            "`{text}` is not an id: give the whole UUID, or at least 4 digits of its beginning or end"
        );
        Self::bad_request("invalid_id", message)
    }

    pub(super) fn not_permitted(what: &str) -> Self {
        let message = format!("{what}; ask root, or become a member of the group that ipc.admin_group names");
        Self::new(StatusCode::FORBIDDEN, "not_permitted", message)
    }

    pub(super) fn json_encoding_failed(error: &serde_json::Error) -> Self {
        let message = format!("the response could not be encoded as JSON: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store_failed", message)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let body = ErrorBody { error: self.detail.clone() };
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// For a request whose body was not read to its end.
    pub(super) fn closing_connection(self) -> Self {
        Self { closes_connection: true, ..self }
    }

    pub(super) fn closes_connection(&self) -> bool {
        self.closes_connection
    }

    /// When the same request may succeed; none if it must be another.
    pub(super) fn retry_after_seconds(&self) -> Option<u64> {
        match (self.status, self.detail.code.as_str()) {
            (StatusCode::SERVICE_UNAVAILABLE, "stopping") => Some(STOPPING_RETRY_SECONDS),
            (StatusCode::SERVICE_UNAVAILABLE, "disk_failing") => Some(FAILING_DISK_RETRY_SECONDS),
            (StatusCode::SERVICE_UNAVAILABLE, "busy" | "too_many_streams" | "too_many_pages") => {
                Some(BUSY_RETRY_SECONDS)
            }
            (StatusCode::INSUFFICIENT_STORAGE, _) => Some(FULL_RETRY_SECONDS),
            _ => None,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The code and the message.
    pub(super) fn into_parts(self) -> (String, String) {
        (self.detail.code, self.detail.message)
    }

    /// An actor did not reply because the daemon is stopping.
    pub(super) fn daemon_stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "the daemon is stopping, and it is not known whether this was done; repeat it with the same ids once the daemon is back",
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
        Self::daemon_stopping()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::daemon_stopping(),
            StoreError::NoRoom => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", error.to_string()),
            StoreError::Failing => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "disk_failing",
                format!("{error}; have the disk checked, then repeat this with the same ids"),
            ),
            error => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "store_failed",
                format!("{error}; see the journal: journalctl -u fieldsync"),
            ),
        }
    }
}

impl From<AppendRefused> for ApiError {
    fn from(refused: AppendRefused) -> Self {
        let message = refused.to_string();
        match refused {
            AppendRefused::TooLarge { position, .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "record_too_large", message).with_position(position)
            }
            AppendRefused::Conflict { position, .. } | AppendRefused::Taken { position, .. } => {
                Self::new(StatusCode::CONFLICT, "id_conflict", message).with_position(position)
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
            AddRefused::Discarded => "already_discarded",
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
