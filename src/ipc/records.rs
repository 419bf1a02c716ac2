//! Calls that enqueue, list, show and export records.

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Peer;
use super::body::RequestBody;
use super::error::ApiError;
use super::http::{HttpResponse, json_response, read_query, stream_response};
use super::lookup::{ChangesStart, list_changes};
use super::newest::{NewestParams, is_newest_wanted, list_newest, resolve_record_id};
use super::state::ApiState;
use super::waiting::RecordView;
use crate::actors::queue_store::write;
use crate::actors::telemetry::Lineage;
use crate::api::json_problem::MORE_TEXT;
use crate::api::submission::{self, InvalidRecord, Submission, SubmissionError};
use crate::api::{Accepted, RecordDetail, RecordPage};
use crate::model::{NewRecord, QueuePosition, RecordId, RecordState};
use crate::store::{Append, Filter, ManifestPage};
use crate::telemetry::audience::Audience;

const PAGE_ENTRIES_DEFAULT: usize = 100;
const PAGE_ENTRIES_MAX: usize = 1000;
/// After parsing this many records of a request, other tasks run.
const RECORDS_PER_YIELD: usize = 500;
/// The manifest is read and written in pieces of this size, which bounds the memory for a reader that stops reading.
const MANIFEST_PIECE_ENTRIES: usize = 500;

/// Enqueue records
///
/// One object, an array, or NDJSON with one object a line; either all records are stored or none. The response is sent once the records are
/// on disk. A request may have up to 50000 records. Repeating it with the same ids is safe: a known record with the same content is a duplicate.
#[utoipa::path(
    post, path = "/v1/records", tag = "records", operation_id = "enqueue",
    request_body(content((Submission<'_> = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 201, description = "The records are on disk.", body = Accepted)),
)]
pub(super) async fn enqueue_records(
    state: &ApiState,
    peer: &Peer,
    body: RequestBody,
) -> Result<HttpResponse, ApiError> {
    let is_ndjson = body.is_ndjson;
    let body = body.read_all(state).await?;
    let records = parse_records(&body.bytes, is_ndjson).await?;
    let appended = write(&state.store, Append::new(records, peer.uid)).await??;
    let accepted =
        Accepted { accepted: appended.accepted, duplicates: appended.duplicates, ids: appended.ids };
    Ok(json_response(StatusCode::CREATED, &accepted))
}

/// Lets other tasks run while it parses a large request.
async fn parse_records(body: &[u8], is_ndjson: bool) -> Result<Vec<NewRecord>, ApiError> {
    let invalid = |invalid: InvalidRecord| {
        let is_several = !is_ndjson && invalid.to_string().contains(MORE_TEXT);
        let hint =
            if is_several { " (one object a line needs Content-Type: application/x-ndjson)" } else { "" };
        ApiError::bad_request("invalid_record", format!("{invalid}; nothing was stored{hint}"))
            .with_position(invalid.position)
    };
    let pieces = if is_ndjson { submission::split_ndjson(body) } else { submission::split_json(body) };
    let pieces = pieces.map_err(|refused| match refused {
        SubmissionError::Invalid(record) => invalid(record),
        SubmissionError::TooMany => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_too_large",
            format!("{refused}; nothing was stored; send fewer records at a time"),
        ),
    })?;
    let mut records = Vec::with_capacity(pieces.count());
    for record in pieces.records() {
        records.push(record.map_err(invalid)?);
        if records.len().is_multiple_of(RECORDS_PER_YIELD) {
            tokio::task::yield_now().await;
        }
    }
    Ok(records)
}

/// The query of `GET /v1/records`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only records in this state.
    #[param(value_type = Option<RecordState>)]
    state: Option<String>,
    /// Only records of this type.
    #[serde(rename = "type")]
    record_type: Option<String>,
    /// The largest number of entries on the page, at most 1000.
    #[param(value_type = Option<usize>, minimum = 1, default = 100)]
    limit: Option<String>,
    /// The `next` of the previous page.
    after: Option<String>,
    /// Instead of `after`: only records that changed since, in the order of their changes. `now`, or the `next` of an earlier page with
    /// `changed_after`.
    changed_after: Option<String>,
    /// Whether records of other users are listed, too. The default is true for admins, and false for others. Key and message of another
    /// user's record are for that user and admins.
    #[param(value_type = Option<bool>)]
    all: Option<String>,
}

/// A query, parsed.
pub(super) struct ListRequest {
    pub(super) filter: Filter,
    /// Whether the records of all users are wanted, if the query says so.
    pub(super) all: Option<bool>,
    /// Only changes.
    changes: Option<ChangesStart>,
}

impl ListQuery {
    pub(super) fn parse(query: &str) -> Result<ListRequest, ApiError> {
        let invalid = |message: String| ApiError::bad_request("invalid_query", message);
        let query: Self = read_query(query)?;
        // A parameter without a value counts as missing.
        let given = |value: Option<String>| value.filter(|value| !value.is_empty());
        let state = given(query.state).map(|state| state.parse()).transpose().map_err(invalid)?;
        let after = given(query.after).map(|cursor| cursor.parse().map(QueuePosition)).transpose();
        let after = after.map_err(|_| invalid("`after` must be the `next` of an earlier page".into()))?;
        let limit = given(query.limit).map(|limit| limit.parse::<usize>()).transpose();
        let limit = limit.map_err(|_| invalid("`limit` must be a whole number".into()))?;
        let limit = limit.unwrap_or(PAGE_ENTRIES_DEFAULT).clamp(1, PAGE_ENTRIES_MAX);
        let all = given(query.all).map(|all| all.parse::<bool>()).transpose();
        let all = all.map_err(|_| invalid("`all` must be true or false".into()))?;
        // Not so a cursor: a reader that lost it would read the whole queue instead of the changes.
        let changes = query.changed_after.map(|cursor| match cursor.as_str() {
            "now" => Ok(ChangesStart::Now),
            cursor => cursor.parse().map(ChangesStart::After),
        });
        let changes = changes.transpose().map_err(|()| {
            invalid("`changed_after` must be `now`, or the `next` of an earlier page of changes".into())
        })?;
        if changes.is_some() && after.is_some() {
            return Err(invalid("`after` and `changed_after` exclude each other".into()));
        }
        let record_type = given(query.record_type);
        let filter = Filter { state, record_type, after, limit, ..Filter::default() };
        Ok(ListRequest { filter, all, changes })
    }
}

/// A page of the manifest
///
/// The caller's own records; for an admin, those of all users. In queue order: by priority, then by arrival. A page may have fewer entries
/// than its limit; there are more as long as `next` is not null. A cursor stays valid whatever happens in between.
///
/// With `changed_after`, the records that changed since, each as it is now, in the order of their last changes, also over restarts. `next` is
/// never null: a reader continues with it. Of the last 50000 changes, a page has up to `limit`, and all of them were read once `next` is the
/// cursor of the request. New records are listed only once they change, and a batch that is being sent is no change. `unknown` has the
/// ids of records whose receipts are gone.
///
/// With `order=newest`, the newest records come first, and `state` may name several states, separated by commas.
#[utoipa::path(
    get, path = "/v1/records", tag = "records", operation_id = "list", params(ListQuery, NewestParams),
    responses((status = 200, description = "The page.", body = RecordPage)),
)]
pub(super) async fn list_records(
    state: &ApiState,
    peer: &Peer,
    query: &str,
) -> Result<HttpResponse, ApiError> {
    if is_newest_wanted(query)? {
        return list_newest(state, peer, query).await;
    }
    let ListRequest { filter, all, changes } = ListQuery::parse(query)?;
    let audience = state.audience_of(peer);
    let filter = Filter { submitter: audience.listed_submitter(all), ..filter };
    if let Some(start) = changes {
        return list_changes(state, audience, start, filter).await;
    }
    let response = state.json_from_view(move |view| {
        let page = audience.read_page(view, &filter)?;
        let next = page.next.map(|place| place.0.to_string());
        Ok(RecordPage { records: page.entries, unknown: Vec::new(), next })
    });
    response.await
}

pub(super) fn parse_record_id(path: &str) -> Result<RecordId, ApiError> {
    path.parse().map_err(|_| ApiError::invalid_id(path))
}

/// The query of `GET /v1/records/{id}`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ShowQuery {
    /// Include the payload, if it is still kept. For the submitter and admins.
    #[serde(default)]
    pub(super) payload: bool,
    /// Include the recent sends of the batches that the record was in.
    #[serde(default)]
    pub(super) lineage: bool,
}

/// One record
///
/// Any user may see any record. Its key, its receipt and the message and field of its error are for its submitter and admins. Until it is
/// synced, `waiting_for` says why it is not sent yet: of several reasons, the one that keeps it longest. Once it is synced, `receipt` is
/// what the server said it became, if it said so. Of a discarded record, `discarded_by` and `updated_at` say who discarded it and when.
#[utoipa::path(
    get, path = "/v1/records/{id}", tag = "records", operation_id = "show",
    params(("id" = String, Path, description = "The id of the record, or at least four digits of its beginning or end."), ShowQuery),
    responses((status = 200, description = "The record.", body = RecordDetail)),
)]
pub(super) async fn get_record(
    state: &ApiState,
    peer: &Peer,
    id: &str,
    query: &str,
) -> Result<HttpResponse, ApiError> {
    let id = resolve_record_id(state, id).await?;
    let query: ShowQuery = read_query(query)?;
    let audience = state.audience_of(peer);
    let record = state.read_record(id).await?.ok_or_else(ApiError::no_such_record)?;
    let RecordView { mut entry, receipt, waiting_for } = record;
    let redacted = audience.redact_entry(&mut entry);
    let receipt = receipt.filter(|_| !redacted);
    let payload = if query.payload { read_payload(state, audience, id).await? } else { None };
    let payload = payload.map(|payload| serde_json::value::RawValue::from_string(payload.into())).transpose();
    let payload = payload.map_err(|error| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "store_failed",
            format!("the payload could not be decoded: {error}"),
        )
    })?;
    let lineage = match entry.batch_id.filter(|_| query.lineage) {
        Some(batch) => Some(state.telemetry.send(Lineage(batch)).await?),
        None => query.lineage.then(Vec::new),
    };
    Ok(json_response(
        StatusCode::OK,
        &RecordDetail { entry, receipt, redacted, waiting_for, lineage, payload },
    ))
}

/// Fails unless the audience may see it.
async fn read_payload(
    state: &ApiState,
    audience: Audience,
    id: RecordId,
) -> Result<Option<Box<str>>, ApiError> {
    let Some((payload, submitter)) = state.with_view(move |view| view.read_payload(id)).await? else {
        return Ok(None);
    };
    if audience.sees_all_of(Some(submitter)) {
        return Ok(Some(payload));
    }
    Err(ApiError::not_permitted("only its submitter and admins may see the payload of a record"))
}

/// Fails unless `peer` may edit this record. Does not read the payload, because that may be what is damaged.
pub(super) async fn require_may_edit(state: &ApiState, peer: &Peer, id: RecordId) -> Result<(), ApiError> {
    let submitter = state.with_view(move |view| view.submitter_of(id)).await?;
    let submitter = submitter.ok_or_else(ApiError::no_such_record)?;
    if state.audience_of(peer).sees_all_of(Some(submitter)) {
        return Ok(());
    }
    Err(ApiError::not_permitted("only its submitter and admins may edit a record"))
}

/// The query of `GET /v1/manifest`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ManifestQuery {
    /// As in `GET /v1/records`.
    pub(super) all: Option<bool>,
}

/// The whole manifest
///
/// As in `GET /v1/records`: the caller's own records, or those of all users. In queue order, one `ManifestEntry` a line. The queue is read
/// while the response is sent: a record that changes meanwhile may be listed with its old or its new state.
#[utoipa::path(
    get, path = "/v1/manifest", tag = "records", operation_id = "manifest", params(ManifestQuery),
    responses((status = 200, description = "The entries.", body = String, content_type = "application/x-ndjson")),
)]
pub(super) fn stream_manifest(state: &ApiState, peer: &Peer, query: &str) -> Result<HttpResponse, ApiError> {
    let query: ManifestQuery = read_query(query)?;
    let (state, audience) = (state.clone(), state.audience_of(peer));
    let submitter = audience.listed_submitter(query.all);
    let pages = futures_util::stream::unfold(Some(None), move |after: Option<Option<QueuePosition>>| {
        let state = state.clone();
        async move {
            let filter =
                Filter { submitter, after: after?, limit: MANIFEST_PIECE_ENTRIES, ..Filter::default() };
            let page = state.with_view(move |view| {
                audience.read_page(view, &filter).map(|page| (encode_ndjson(&page), page.next))
            });
            Some(match page.await {
                Ok((lines, next)) => {
                    (lines.map_err(|error| ApiError::json_encoding_failed(&error)), next.map(Some))
                }
                Err(error) => (Err(error), None),
            })
        }
    });
    Ok(stream_response("application/x-ndjson", pages))
}

fn encode_ndjson(page: &ManifestPage) -> serde_json::Result<Bytes> {
    let mut lines = Vec::new();
    for entry in &page.entries {
        serde_json::to_writer(&mut lines, entry)?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}
