//! Calls that look up records by their ids, or by what changed.

use std::sync::Arc;

use hyper::StatusCode;

use super::auth::Peer;
use super::body::RequestBody;
use super::error::ApiError;
use super::http::{HttpResponse, json_response};
use super::state::ApiState;
use crate::api::submission;
use crate::api::{FoundRecord, FoundRecords, LOOKUP_IDS_MAX, RecordLookup, RecordPage};
use crate::model::{ManifestEntry, RecordId};
use crate::store::{ChangeCursor, Filter, StoreError, StoreView};
use crate::telemetry::audience::Audience;

/// Look records up
///
/// The entries of up to 1000 records by their ids, for an app that missed events. Any user may look any record up; what is omitted for
/// callers who are neither its submitter nor an admin is as in `GET /v1/records/{id}`.
#[utoipa::path(
    post, path = "/v1/records/lookup", tag = "records", operation_id = "look_up", request_body = RecordLookup,
    responses((status = 200, description = "The records.", body = FoundRecords)),
)]
pub(super) async fn look_up_records(
    state: &ApiState,
    peer: &Peer,
    body: RequestBody,
) -> Result<HttpResponse, ApiError> {
    let invalid = |message: String| ApiError::bad_request("invalid_lookup", message);
    let RecordLookup { ids } = submission::parse_named(&body.read_all(state).await?.bytes)
        .map_err(|error| invalid(format!("{error}; send {{\"ids\": [\"…\"]}}")))?;
    if ids.len() > LOOKUP_IDS_MAX {
        return Err(invalid(format!(
            "{} ids are too many: look up at most {LOOKUP_IDS_MAX} at a time",
            ids.len()
        )));
    }
    let found = find_all(state, state.audience_of(peer), ids).await?;
    Ok(json_response(StatusCode::OK, &found))
}

/// The first of these records, as many as one read may examine, as this audience sees them.
fn find_records(view: &StoreView, audience: Audience, ids: &[RecordId]) -> Result<FoundRecords, StoreError> {
    let mut found = FoundRecords::default();
    for (id, entry) in view.find_entries(ids)? {
        match entry {
            Some(entry) => found.records.push(to_found_record(view, audience, entry)?),
            None => found.unknown.push(id),
        }
    }
    Ok(found)
}

/// Where a reader of changes starts.
pub(super) enum ChangesStart {
    /// It wants the present cursor.
    Now,
    After(ChangeCursor),
}

/// A page of the records that changed, as this audience sees them.
pub(super) async fn list_changes(
    state: &ApiState,
    audience: Audience,
    start: ChangesStart,
    filter: Filter,
) -> Result<HttpResponse, ApiError> {
    let after = match start {
        ChangesStart::Now => None,
        ChangesStart::After(cursor) => Some(cursor),
    };
    let limit = filter.limit;
    let changes = state.with_view(move |view| view.list_changes(after, limit)).await?;
    let (ids, next) = changes.ok_or_else(|| {
        let message = "the changes after this cursor are no longer known: only the last ones are kept; take a new cursor \
                       with changed_after=now, and then list the records once";
        ApiError::new(StatusCode::GONE, "cursor_expired", message)
    })?;
    let FoundRecords { records, unknown } = find_all(state, audience, ids).await?;
    let is_wanted = |entry: &ManifestEntry| {
        filter.state.is_none_or(|wanted| wanted == entry.state)
            && filter.record_type.as_ref().is_none_or(|record_type| *record_type == entry.record_type)
            && filter.submitter.is_none_or(|submitter| submitter == entry.submitter)
    };
    let records = records.into_iter().map(|record| record.entry).filter(is_wanted).collect();
    Ok(json_response(StatusCode::OK, &RecordPage { records, unknown, next: Some(next.to_string()) }))
}

/// These records, as this audience sees them.
async fn find_all(
    state: &ApiState,
    audience: Audience,
    ids: Vec<RecordId>,
) -> Result<FoundRecords, ApiError> {
    let (ids, mut examined) = (Arc::new(ids), 0);
    let mut found = FoundRecords::default();
    while examined < ids.len() {
        let rest = Arc::clone(&ids);
        let read = state
            .with_view(move |view| find_records(view, audience, rest.get(examined..).unwrap_or_default()))
            .await?;
        examined += read.records.len() + read.unknown.len();
        found.records.extend(read.records);
        found.unknown.extend(read.unknown);
    }
    Ok(found)
}

fn to_found_record(
    view: &StoreView,
    audience: Audience,
    mut entry: ManifestEntry,
) -> Result<FoundRecord, StoreError> {
    let receipt = view.receipt_of(&entry)?;
    let redacted = audience.redact_entry(&mut entry);
    Ok(FoundRecord { entry, receipt: receipt.filter(|_| !redacted), redacted })
}
