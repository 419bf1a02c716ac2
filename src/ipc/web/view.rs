//! What the page shows: less than the socket does, because more can ask for it. Neither payloads nor keys,
//! and what the server says of a record, which may quote either, only to those who know the code.

use serde::Serialize;

use crate::api::Status;
use crate::ipc::error::ApiError;
use crate::ipc::state::Shared;
use crate::ipc::status::Board;
use crate::model::{LastError, ManifestEntry, RecordId, RecordState};
use crate::store::Filter;

/// Most records under review that are shown.
const SHOWN: usize = 50;

/// Who looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audience {
    /// Whether all of them have given the code.
    pub(super) knows_code: bool,
    /// Whether there is a code with which records can be sent again.
    pub(super) may_retry: bool,
}

/// The status, without the keys of records that hold others back.
pub(super) fn status(board: &Board, audience: Audience) -> Status {
    let mut status = board.status();
    status.queue.holding.clear();
    if !audience.knows_code {
        let denied = status.sync.denied.iter_mut().map(|set| &mut set.error);
        for error in status.sync.last_error.iter_mut().chain(denied) {
            error.message.clear();
        }
    }
    status
}

/// `GET /v1/review`
#[derive(Serialize)]
pub(super) struct Review {
    /// In queue order.
    records: Vec<Reviewed>,
    /// Whether there are others.
    more: bool,
    /// As in [`Audience::may_retry`].
    retry: bool,
}

/// A record that needs review.
#[derive(Serialize)]
struct Reviewed {
    id: RecordId,
    #[serde(rename = "type")]
    record_type: String,
    attempts: u32,
    /// Later ones of its key that wait for it; 1000 stands for at least as many.
    holds: u64,
    #[serde(with = "crate::clock::as_rfc3339")]
    since: u64,
    /// In words.
    why: &'static str,
    last_error: Option<Failure>,
}

/// A [`LastError`], perhaps without its message.
#[derive(Serialize)]
struct Failure {
    class: String,
    http_status: Option<u16>,
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(with = "crate::clock::as_rfc3339")]
    at: u64,
}

impl Reviewed {
    fn new(entry: ManifestEntry, audience: Audience) -> Self {
        Self {
            id: entry.id,
            record_type: entry.record_type,
            attempts: entry.attempts,
            holds: entry.holds,
            since: entry.updated_at,
            why: why(entry.last_error.as_ref()),
            last_error: entry.last_error.map(|error| Failure {
                class: error.class,
                http_status: error.http_status,
                code: error.code,
                message: Some(error.message).filter(|_| audience.knows_code),
                at: error.at,
            }),
        }
    }
}

fn why(error: Option<&LastError>) -> &'static str {
    match error.map(|error| error.class.as_str()) {
        Some("rejected") => "The server rejects it.",
        Some("isolated") => "It fails by itself, while others get through.",
        Some("too_large") => "It is too large for the server.",
        Some("refused" | "batch_id_reused") => "The server refuses the request that carries it.",
        Some("by_hand") => "A person put it under review.",
        Some("damaged") => "What this device kept of it was damaged.",
        _ => "It could not be delivered.",
    }
}

pub(super) async fn review(shared: &Shared, audience: Audience) -> Result<Review, ApiError> {
    let filter = Filter { state: Some(RecordState::Quarantined), limit: SHOWN, ..Filter::default() };
    let page = shared.look(move |view| view.page(&filter)).await?;
    let records = page.entries.into_iter().map(|entry| Reviewed::new(entry, audience)).collect();
    Ok(Review { records, more: page.next.is_some(), retry: audience.may_retry })
}
