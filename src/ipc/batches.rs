//! One batch: how it was sent, and what became of its records.

use hyper::StatusCode;

use super::auth::Peer;
use super::error::ApiError;
use super::http::{HttpResponse, json_response};
use super::newest::ID_PART_DIGITS_MIN;
use super::state::ApiState;
use crate::actors::telemetry::{BatchSends, FindBatches};
use crate::api::BatchDetail;
use crate::model::{BatchId, ManifestEntry};
use crate::store::NewestFilter;
use crate::telemetry::audience::Audience;

/// A batch has no more records.
const RECORDS_MAX: usize = 1000;
/// Pages of the queue that are searched for them, the newest first.
const PAGES_MAX: usize = 25;
/// An ambiguous part of an id is answered with so many ids.
const CANDIDATES_MAX: usize = 5;
/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 32;

/// One batch
///
/// Its recent sends, those of the batches that it was split from and into, and its records. Batches are known as long as one of their
/// sends is among the recent ones, or one of their records is found among the newest. Any user may see any batch; of the records of others,
/// as in `GET /v1/records/{id}`, not all fields.
#[utoipa::path(
    get, path = "/v1/batches/{id}", tag = "status", operation_id = "batch",
    params(("id" = String, Path, description = "The id of the batch, or at least four digits of its beginning or end.")),
    responses((status = 200, description = "The batch.", body = BatchDetail)),
)]
pub(super) async fn get_batch(state: &ApiState, peer: &Peer, id: &str) -> Result<HttpResponse, ApiError> {
    let _permit = state.call_throttle.acquire().await?;
    let id = resolve_batch_id(state, id).await?;
    let (lineage, parts) = state.telemetry.send(BatchSends(id)).await?;
    let own: Vec<_> = lineage.iter().filter(|send| send.id == id).collect();
    let size = own.iter().map(|send| send.records).max().unwrap_or(RECORDS_MAX);
    let records = read_records(state, state.audience_of(peer), id, size).await?;
    if own.is_empty() && parts.is_empty() && records.is_empty() {
        return Err(no_such_batch());
    }
    Ok(json_response(StatusCode::OK, &BatchDetail { id, lineage, parts, records }))
}

fn no_such_batch() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "no_such_batch", "there is no such batch among the recent ones")
}

/// The batch with this id, or the only one whose id begins or ends like this.
async fn resolve_batch_id(state: &ApiState, text: &str) -> Result<BatchId, ApiError> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let digits: String = text.chars().filter(|digit| *digit != '-').collect();
    let is_part = (ID_PART_DIGITS_MIN..ID_DIGITS).contains(&digits.len())
        && digits.chars().all(|digit| digit.is_ascii_hexdigit());
    if !is_part {
        return Err(ApiError::invalid_id_or_part(text));
    }
    let open = state.with_view(|view| Ok(view.list_open_batches())).await?;
    let found = state.telemetry.send(FindBatches { digits, open }).await?;
    match found.as_slice() {
        [] => Err(no_such_batch()),
        [id] => Ok(*id),
        several => {
            let ids: Vec<String> = several.iter().take(CANDIDATES_MAX).map(ToString::to_string).collect();
            let message =
                format!("several batches have ids that begin or end with {text}: {}", ids.join(", "));
            Err(ApiError::new(StatusCode::CONFLICT, "ambiguous_id", message))
        }
    }
}

/// The records of a batch, as this caller may see them.
async fn read_records(
    state: &ApiState,
    audience: Audience,
    batch: BatchId,
    limit: usize,
) -> Result<Vec<ManifestEntry>, ApiError> {
    let mut records: Vec<ManifestEntry> = Vec::new();
    let mut before = None;
    for _ in 0..PAGES_MAX {
        let filter = NewestFilter {
            batch: Some(batch),
            before,
            limit: limit.saturating_sub(records.len()),
            ..NewestFilter::default()
        };
        let page = state.with_view(move |view| view.list_newest(&filter)).await?;
        records.extend(page.entries);
        before = page.next;
        if before.is_none() || records.len() >= limit {
            break;
        }
    }
    for entry in &mut records {
        audience.redact_entry(entry);
    }
    Ok(records)
}
