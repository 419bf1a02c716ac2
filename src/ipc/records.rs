//! Records on the local API: taken in, listed, shown, exported.

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Peer;
use super::body::RequestBody;
use super::error::ApiError;
use super::http::{self, Response};
use super::state::Shared;
use crate::actors::queue_store::Write;
use crate::actors::telemetry::Lineage;
use crate::api::submission::{self, InvalidRecord, Refused, Submission};
use crate::api::{Accepted, RecordDetail, RecordPage};
use crate::model::{NewRecord, Place, RecordId, RecordState};
use crate::store::{Append, Filter, Page};
use crate::telemetry::audience::Audience;

/// Entries on a page when the caller names no number, and at most.
const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;
/// Records of a request that are looked into before others get their turn.
const TURN: usize = 500;
/// Entries of the manifest that are written at once: what a reader that stops costs.
const MANIFEST_STEP: usize = 500;

/// Hand records over
///
/// One object, an array, or NDJSON with one object a line: all of it is taken or nothing. The answer comes after the records are on disk.
/// A request has at most 50000 records. Repeating it under the same ids is safe: what is known with the same content counts as a duplicate.
#[utoipa::path(
    post, path = "/v1/records", tag = "records",
    request_body(content((Submission<'_> = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 201, description = "The records are on disk.", body = Accepted)),
)]
pub(super) async fn enqueue(shared: &Shared, peer: &Peer, body: RequestBody) -> Result<Response, ApiError> {
    let is_ndjson = body.is_ndjson;
    let body = body.whole(shared).await?;
    let records = records(&body.bytes, is_ndjson).await?;
    let appended = shared.store.send(Write(Append::new(records, peer.uid))).await???;
    let accepted =
        Accepted { accepted: appended.accepted, duplicates: appended.duplicates, ids: appended.ids };
    Ok(http::json(StatusCode::CREATED, &accepted))
}

/// The records of a request. Others get their turn while those of a large one are looked into.
async fn records(body: &[u8], is_ndjson: bool) -> Result<Vec<NewRecord>, ApiError> {
    let invalid = |invalid: InvalidRecord| {
        let several = !is_ndjson && invalid.to_string().contains("trailing characters");
        let hint = if several { " (one object a line needs Content-Type: application/x-ndjson)" } else { "" };
        ApiError::bad_request("invalid_record", format!("{invalid}; nothing was stored{hint}"))
            .at(invalid.position)
    };
    let pieces = if is_ndjson { submission::ndjson(body) } else { submission::json(body) };
    let pieces = pieces.map_err(|refused| match refused {
        Refused::Invalid(record) => invalid(record),
        Refused::TooMany => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_too_large",
            format!("{refused}; nothing was stored; send fewer records at a time"),
        ),
    })?;
    let mut records = Vec::with_capacity(pieces.count());
    for record in pieces.records() {
        records.push(record.map_err(invalid)?);
        if records.len().is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
    }
    Ok(records)
}

/// What `GET /v1/records` takes.
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
    /// At most so many entries; more than 1000 are not given at once.
    #[param(value_type = Option<usize>, minimum = 1, default = 100)]
    limit: Option<String>,
    /// The `next` of the page before.
    after: Option<String>,
    /// Whether records of other users are listed, too: true for admins, else false. Of another user's record, key and message are for
    /// that user and admins.
    #[param(value_type = Option<bool>)]
    all: Option<String>,
}

impl ListQuery {
    /// The records that a query string asks for, and whether those of all users, where it says so.
    pub(super) fn read(query: &str) -> Result<(Filter, Option<bool>), ApiError> {
        let wrong = |message: String| ApiError::bad_request("invalid_query", message);
        let query: Self = http::read_query(query)?;
        // A parameter without a value is as none.
        let given = |value: Option<String>| value.filter(|value| !value.is_empty());
        let state = given(query.state).map(|state| state.parse()).transpose().map_err(wrong)?;
        let after = given(query.after).map(|cursor| cursor.parse().map(Place)).transpose();
        let after = after.map_err(|_| wrong("`after` must be the `next` of an earlier page".into()))?;
        let limit = given(query.limit).map(|limit| limit.parse::<usize>()).transpose();
        let limit = limit.map_err(|_| wrong("`limit` must be a whole number".into()))?;
        let limit = limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
        let all = given(query.all).map(|all| all.parse::<bool>()).transpose();
        let all = all.map_err(|_| wrong("`all` must be true or false".into()))?;
        let record_type = given(query.record_type);
        Ok((Filter { state, record_type, after, limit, ..Filter::default() }, all))
    }
}

/// A page of the manifest
///
/// The caller's own records; for an admin those of all users. In queue order: by priority, then by arrival. A page may have fewer entries
/// than asked for; the list goes on as long as `next` is not null, and a cursor stays good whatever happens in between.
#[utoipa::path(
    get, path = "/v1/records", tag = "records", params(ListQuery),
    responses((status = 200, description = "The page.", body = RecordPage)),
)]
pub(super) async fn list(shared: &Shared, peer: &Peer, query: &str) -> Result<Response, ApiError> {
    let (filter, all) = ListQuery::read(query)?;
    let audience = shared.audience(peer);
    let filter = Filter { submitter: audience.listed_submitter(all), ..filter };
    let answer = shared.answer_with(move |view| {
        let page = audience.page(view, &filter)?;
        Ok(RecordPage { records: page.entries, next: page.next.map(|place| place.0.to_string()) })
    });
    answer.await
}

/// The id in a path.
pub(super) fn record_id(path: &str) -> Result<RecordId, ApiError> {
    path.parse().map_err(|_| ApiError::bad_request("invalid_id", format!("`{path}` is no UUID")))
}

/// What `GET /v1/records/{id}` takes.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ShowQuery {
    /// With its payload, while that is kept: for the user who handed the record over, and admins.
    #[serde(default)]
    pub(super) payload: bool,
    /// With the recent sends of the batches that it was in.
    #[serde(default)]
    pub(super) lineage: bool,
}

/// One record
///
/// Of any user. Its key and the message of its error are for its submitter and admins.
#[utoipa::path(
    get, path = "/v1/records/{id}", tag = "records",
    params(("id" = String, Path, format = "uuid", description = "The record."), ShowQuery),
    responses((status = 200, description = "What is known of it.", body = RecordDetail)),
)]
pub(super) async fn show(shared: &Shared, peer: &Peer, id: &str, query: &str) -> Result<Response, ApiError> {
    let id = record_id(id)?;
    let query: ShowQuery = http::read_query(query)?;
    let audience = shared.audience(peer);
    let mut entry = shared.look(move |view| view.entry(id)).await?.ok_or_else(ApiError::no_such_record)?;
    let redacted = audience.redact_entry(&mut entry);
    let payload = if query.payload { payload_for(shared, audience, id).await? } else { None };
    let payload = payload.map(|payload| serde_json::value::RawValue::from_string(payload.into())).transpose();
    let payload = payload.map_err(|error| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "store_failed",
            format!("the payload does not read: {error}"),
        )
    })?;
    let lineage = match entry.batch_id.filter(|_| query.lineage) {
        Some(batch) => Some(shared.telemetry.send(Lineage(batch)).await?),
        None => query.lineage.then(Vec::new),
    };
    Ok(http::json(StatusCode::OK, &RecordDetail { entry, redacted, lineage, payload }))
}

/// The payload, for its submitter and admins.
async fn payload_for(
    shared: &Shared,
    audience: Audience,
    id: RecordId,
) -> Result<Option<Box<str>>, ApiError> {
    let Some((payload, submitter)) = shared.look(move |view| view.payload(id)).await? else {
        return Ok(None);
    };
    if audience.sees_all_of(Some(submitter)) {
        return Ok(Some(payload));
    }
    Err(ApiError::not_permitted("only its submitter and admins may see the payload of a record"))
}

/// Whether `peer` may change what record `id` says. Its payload is not looked at: it may be what is damaged.
pub(super) async fn may_mend(shared: &Shared, peer: &Peer, id: RecordId) -> Result<(), ApiError> {
    let submitter = shared.look(move |view| view.submitter(id)).await?;
    let submitter = submitter.ok_or_else(ApiError::no_such_record)?;
    if shared.audience(peer).sees_all_of(Some(submitter)) {
        return Ok(());
    }
    Err(ApiError::not_permitted("only its submitter and admins may mend a record"))
}

/// What `GET /v1/manifest` takes.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ManifestQuery {
    /// As in `GET /v1/records`.
    pub(super) all: Option<bool>,
}

/// The whole manifest
///
/// As `GET /v1/records` has it: the caller's own records, or those of all users. In queue order, one `ManifestEntry` a line. It is read as
/// it is sent: a record that moves meanwhile may be seen before or after.
#[utoipa::path(
    get, path = "/v1/manifest", tag = "records", params(ManifestQuery),
    responses((status = 200, description = "The entries.", body = String, content_type = "application/x-ndjson")),
)]
pub(super) fn manifest(shared: &Shared, peer: &Peer, query: &str) -> Result<Response, ApiError> {
    let query: ManifestQuery = http::read_query(query)?;
    let (shared, audience) = (shared.clone(), shared.audience(peer));
    let submitter = audience.listed_submitter(query.all);
    let pages = futures_util::stream::unfold(Some(None), move |after: Option<Option<Place>>| {
        let shared = shared.clone();
        async move {
            let filter = Filter { submitter, after: after?, limit: MANIFEST_STEP, ..Filter::default() };
            let page =
                shared.look(move |view| audience.page(view, &filter).map(|page| (lines(&page), page.next)));
            Some(match page.await {
                Ok((lines, next)) => (lines.map_err(|error| ApiError::cannot_write(&error)), next.map(Some)),
                Err(error) => (Err(error), None),
            })
        }
    });
    Ok(http::stream("application/x-ndjson", pages))
}

fn lines(page: &Page) -> serde_json::Result<Bytes> {
    let mut lines = Vec::new();
    for entry in &page.entries {
        serde_json::to_writer(&mut lines, entry)?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}
