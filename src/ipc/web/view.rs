//! What the page shows. More people can open it than the socket, so it shows less: no payloads and no keys. Messages of
//! the server may quote either, so they are shown only to viewers who know the access code.

use serde::Serialize;

use crate::api::{Status, WaitingFor};
use crate::ipc::error::ApiError;
use crate::ipc::state::ApiState;
use crate::ipc::status::StatusSources;
use crate::model::{LastError, ManifestEntry, RecordId, RecordState};
use crate::policy::waiting::under_review;
use crate::store::Filter;

const REVIEW_RECORDS_MAX: usize = 50;

/// Those who can read the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageViewer {
    /// Whether reading needs the access code.
    pub(super) knows_code: bool,
    /// Whether records can be queued again on the page.
    pub(super) may_retry: bool,
}

pub(super) fn page_status(sources: &StatusSources, viewer: PageViewer) -> Status {
    let mut status = sources.current_status();
    // It has keys of records.
    status.queue.blockers.clear();
    if !viewer.knows_code {
        let denied = status.sync.denied.iter_mut().map(|set| &mut set.error);
        for error in status.sync.last_error.iter_mut().chain(denied) {
            error.message.clear();
            error.field = None;
        }
    }
    status
}

/// The response to `GET /v1/review`.
#[derive(Serialize)]
pub(super) struct ReviewList {
    /// In queue order.
    records: Vec<ReviewEntry>,
    /// Whether there are more records under review.
    more: bool,
    /// As [`PageViewer::may_retry`].
    retry: bool,
}

#[derive(Serialize)]
struct ReviewEntry {
    id: RecordId,
    #[serde(rename = "type")]
    record_type: String,
    attempts: u32,
    /// How many later records of its key it blocks; 1000 means 1000 or more.
    holds: u64,
    #[serde(with = "crate::clock::as_rfc3339")]
    since: u64,
    why: &'static str,
    /// As on the socket.
    waiting_for: WaitingFor,
    last_error: Option<ReviewError>,
}

/// A [`LastError`], without its message and field for viewers who do not know the access code.
#[derive(Serialize)]
struct ReviewError {
    class: String,
    http_status: Option<u16>,
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(with = "crate::clock::as_rfc3339")]
    at: u64,
}

impl ReviewEntry {
    fn new(entry: ManifestEntry, viewer: PageViewer) -> Self {
        Self {
            id: entry.id,
            record_type: entry.record_type,
            attempts: entry.attempts,
            holds: entry.blocked_count,
            since: entry.updated_at,
            why: explain_review(entry.last_error.as_ref()),
            waiting_for: under_review(),
            last_error: entry.last_error.map(|error| ReviewError {
                class: error.class,
                http_status: error.http_status,
                code: error.code,
                message: Some(error.message).filter(|_| viewer.knows_code),
                field: error.field.filter(|_| viewer.knows_code),
                at: error.at,
            }),
        }
    }
}

fn explain_review(error: Option<&LastError>) -> &'static str {
    match error.map(|error| error.class.as_str()) {
        Some("rejected") => "The server rejects it.",
        Some("isolated") => "It fails by itself, while other records succeed.",
        Some("too_large") => "It is too large for the server.",
        Some("refused" | "batch_id_reused") => "The server rejects the request that contains it.",
        Some("by_hand") => "A person put it under review.",
        Some("damaged") => "The copy on this device was damaged.",
        _ => "It could not be delivered.",
    }
}

pub(super) async fn list_review(state: &ApiState, viewer: PageViewer) -> Result<ReviewList, ApiError> {
    let filter =
        Filter { state: Some(RecordState::Quarantined), limit: REVIEW_RECORDS_MAX, ..Filter::default() };
    let page = state.with_view(move |view| view.list_page(&filter)).await?;
    let records = page.entries.into_iter().map(|entry| ReviewEntry::new(entry, viewer)).collect();
    Ok(ReviewList { records, more: page.next.is_some(), retry: viewer.may_retry })
}
