//! What the page shows: less than the socket does, because more can ask for it. Neither payloads nor keys.

use serde::Serialize;

use crate::actors::queue_store::List;
use crate::ipc::api::Status;
use crate::ipc::error::ApiError;
use crate::ipc::server::Shared;
use crate::ipc::status::Board;
use crate::model::{LastError, ManifestEntry, RecordId, RecordState};
use crate::store::Filter;

/// Most records under review that are shown.
const SHOWN: usize = 50;

/// The status, without the keys of records that hold others back.
pub(super) fn status(board: &Board) -> Status {
    let mut status = board.status();
    status.queue.holding.clear();
    status
}

/// `GET /v1/review`
#[derive(Serialize)]
pub(super) struct Review {
    /// In queue order.
    records: Vec<Reviewed>,
    /// Whether there are others.
    more: bool,
    /// Whether there is a code with which they can be sent again.
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
    last_error: Option<LastError>,
}

impl From<ManifestEntry> for Reviewed {
    fn from(entry: ManifestEntry) -> Self {
        Self {
            id: entry.id,
            record_type: entry.record_type,
            attempts: entry.attempts,
            holds: entry.holds,
            since: entry.updated_at,
            why: why(entry.last_error.as_ref()),
            last_error: entry.last_error,
        }
    }
}

fn why(error: Option<&LastError>) -> &'static str {
    match error.map(|error| error.class.as_str()) {
        Some("rejected") => "The server rejects it.",
        Some("isolated") => "It fails by itself, while others get through.",
        Some("too_large") => "It is too large for the server.",
        Some("refused" | "batch_id_reused") => "The server refuses the request that carries it.",
        Some("damaged") => "What this device kept of it was damaged.",
        _ => "It could not be delivered.",
    }
}

pub(super) async fn review(shared: &Shared, retry: bool) -> Result<Review, ApiError> {
    let filter = Filter { state: Some(RecordState::Quarantined), limit: SHOWN, ..Filter::default() };
    let page = shared.store.send(List(filter)).await??;
    let records = page.entries.into_iter().map(Reviewed::from).collect();
    Ok(Review { records, more: page.next.is_some(), retry })
}
