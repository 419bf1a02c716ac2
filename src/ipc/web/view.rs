//! What the page shows. More people can open it than the socket, so it shows less: no payloads. Keys, and messages of the
//! server, which may quote payloads, are shown only to viewers who know the access code.

use serde::Serialize;

use super::situation::SituationFacts;
use crate::api::{Status, WaitingFor};
use crate::ipc::error::ApiError;
use crate::ipc::state::ApiState;
use crate::ipc::status::StatusSources;
use crate::model::{LastError, ManifestEntry, RecordId, RecordState};
use crate::policy::waiting::under_review;
use crate::store::NewestFilter;

const REVIEW_RECORDS_MAX: usize = 50;
const WAITING_RECORDS_MAX: usize = 10;
const SENT_RECORDS_MAX: usize = 10;
/// The list of waiting records skips those that need review. After so many parts, it stays shorter.
const WAITING_READS_MAX: usize = 5;

/// Those who can read the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageViewer {
    /// Whether this viewer has proved to know the access code.
    pub(super) knows_code: bool,
    /// Whether something can be changed on the page, with the code.
    pub(super) may_change: bool,
    /// Whether reading needs the code.
    pub(super) needs_code: bool,
}

/// The status, and what only the page needs.
#[derive(Serialize)]
pub(super) struct PageStatus {
    #[serde(flatten)]
    status: Status,
    page: PageDetails,
}

#[derive(Serialize)]
struct PageDetails {
    knows_code: bool,
    may_change: bool,
    needs_code: bool,
    situation: SituationFacts,
}

pub(super) fn page_status(sources: &StatusSources, viewer: PageViewer) -> PageStatus {
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
    let PageViewer { knows_code, may_change, needs_code } = viewer;
    let situation = SituationFacts::new(sources, &status);
    PageStatus { status, page: PageDetails { knows_code, may_change, needs_code, situation } }
}

/// The response to `GET /v1/review`.
#[derive(Serialize)]
pub(super) struct ReviewList {
    /// The newest first.
    records: Vec<ReviewEntry>,
    /// Whether there are more records under review.
    more: bool,
    /// As [`PageViewer::may_change`].
    retry: bool,
}

#[derive(Serialize)]
struct ReviewEntry {
    #[serde(flatten)]
    record: RecordLine,
    attempts: u32,
    /// How many later records of its key it blocks; 1000 means 1000 or more.
    holds: u64,
    #[serde(with = "crate::clock::as_rfc3339")]
    since: u64,
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

impl ReviewError {
    fn new(error: LastError, viewer: PageViewer) -> Self {
        Self {
            class: error.class,
            http_status: error.http_status,
            code: error.code,
            message: Some(error.message).filter(|_| viewer.knows_code),
            field: error.field.filter(|_| viewer.knows_code),
            at: error.at,
        }
    }
}

/// The event `waiting`.
#[derive(Serialize)]
pub(super) struct WaitingList {
    /// The newest first.
    records: Vec<WaitingEntry>,
}

#[derive(Serialize)]
struct WaitingEntry {
    #[serde(flatten)]
    record: RecordLine,
    state: RecordState,
    /// Whether an earlier record of its key goes first.
    is_held: bool,
}

/// The event `sent`.
#[derive(Serialize)]
pub(super) struct SentList {
    /// The last one first.
    records: Vec<SentEntry>,
    count: u64,
    /// There may be more than `count`.
    is_partial: bool,
}

#[derive(Serialize)]
struct SentEntry {
    #[serde(flatten)]
    record: RecordLine,
    /// When the server confirmed it.
    #[serde(with = "crate::clock::as_rfc3339")]
    sent_at: u64,
}

/// What people recognise a record by.
#[derive(Serialize)]
struct RecordLine {
    id: RecordId,
    #[serde(rename = "type")]
    record_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(with = "crate::clock::as_rfc3339")]
    created_at: u64,
}

impl RecordLine {
    fn new(entry: &ManifestEntry, viewer: PageViewer) -> Self {
        Self {
            id: entry.id,
            record_type: entry.record_type.clone(),
            key: entry.key.clone().filter(|_| viewer.knows_code),
            created_at: entry.created_at,
        }
    }
}

pub(super) async fn list_review(state: &ApiState, viewer: PageViewer) -> Result<ReviewList, ApiError> {
    let states = vec![RecordState::Quarantined];
    let filter = NewestFilter { states, limit: REVIEW_RECORDS_MAX, ..NewestFilter::default() };
    let page = state.with_view(move |view| view.list_newest(&filter)).await?;
    let records = page.entries.into_iter().map(|entry| ReviewEntry {
        record: RecordLine::new(&entry, viewer),
        attempts: entry.attempts,
        holds: entry.blocked_count,
        since: entry.updated_at,
        waiting_for: under_review(entry.id),
        last_error: entry.last_error.map(|error| ReviewError::new(error, viewer)),
    });
    Ok(ReviewList { records: records.collect(), more: page.next.is_some(), retry: viewer.may_change })
}

pub(super) async fn list_waiting(state: &ApiState, viewer: PageViewer) -> Result<WaitingList, ApiError> {
    let states = vec![RecordState::Pending, RecordState::Syncing, RecordState::Failed];
    let mut filter = NewestFilter { states, limit: WAITING_RECORDS_MAX, ..NewestFilter::default() };
    let mut records = Vec::new();
    for _ in 0..WAITING_READS_MAX {
        let wanted = filter.clone();
        let page = state.with_view(move |view| view.list_newest(&wanted)).await?;
        records.extend(page.entries.into_iter().map(|entry| WaitingEntry {
            record: RecordLine::new(&entry, viewer),
            state: entry.state,
            is_held: entry.blocked_by.is_some(),
        }));
        filter.limit = WAITING_RECORDS_MAX - records.len();
        filter.before = page.next;
        if filter.limit == 0 || filter.before.is_none() {
            break;
        }
    }
    Ok(WaitingList { records })
}

/// `since`: when the day began for the viewer, in wall milliseconds.
pub(super) async fn list_sent(
    state: &ApiState,
    viewer: PageViewer,
    since: u64,
) -> Result<SentList, ApiError> {
    let sent = state.with_view(move |view| view.list_recently_synced(since, SENT_RECORDS_MAX)).await?;
    let records = sent
        .entries
        .into_iter()
        .map(|entry| SentEntry { record: RecordLine::new(&entry, viewer), sent_at: entry.updated_at });
    Ok(SentList { records: records.collect(), count: sent.count, is_partial: sent.is_partial })
}
