//! The review of records that the receiver of forwarded records refused.

use actix_web::http::header::ContentType;
use actix_web::web::{Data, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::AdminState;
use super::shapes::{ChangedRecords, RefusedDetail, RefusedPage, RefusedSelection, RefusedSummary};
use crate::clock::wall_ms;
use crate::ledger::{Ledger, LedgerError, PageLimit};
use crate::ledger::{RefusedEntry, ReviewDecision};
use crate::model::RecordId;
use crate::request_error::RequestError;

const DEFAULT_PAGE_ROWS: usize = 100;
const PAGE_ROWS_MAX: usize = 1000;
/// Payloads that a page holds in memory.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Records that one transaction decides on.
const REVIEW_ROWS: usize = 500;

#[derive(Debug, Deserialize)]
pub(super) struct PageQuery {
    after: Option<RecordId>,
    limit: Option<usize>,
}

pub(super) async fn list_refused(
    request: HttpRequest,
    state: Data<AdminState>,
) -> Result<HttpResponse, RequestError> {
    state.authorize(request.headers())?;
    let PageQuery { after, limit } = Query::<PageQuery>::from_query(request.query_string())
        .map_err(|_| RequestError::InvalidReview("`after` is a record id, and `limit` a number"))?
        .into_inner();
    let rows = limit.unwrap_or(DEFAULT_PAGE_ROWS).clamp(1, PAGE_ROWS_MAX);
    let page = state.refused_after(after, rows).await?;
    let records: Vec<RefusedSummary> = page.iter().map(RefusedSummary::from_entry).collect();
    let next = match records.last().map(|record| record.id) {
        Some(last) if !state.refused_after(Some(last), 1).await?.is_empty() => Some(last),
        _ => None,
    };
    Ok(HttpResponse::Ok().json(RefusedPage { records, next }))
}

pub(super) async fn show_refused(
    request: HttpRequest,
    id: Path<String>,
    state: Data<AdminState>,
) -> Result<HttpResponse, RequestError> {
    let refused = state.find_refused(&request, &id).await?;
    let summary = RefusedSummary::from_entry(&refused);
    let payload = RawValue::from_string(refused.entry.payload).map_err(LedgerError::from)?;
    Ok(HttpResponse::Ok().json(RefusedDetail { summary, payload }))
}

/// The payload as the device sent it: numbers keep their digits.
pub(super) async fn show_payload(
    request: HttpRequest,
    id: Path<String>,
    state: Data<AdminState>,
) -> Result<HttpResponse, RequestError> {
    let refused = state.find_refused(&request, &id).await?;
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(refused.entry.payload))
}

pub(super) async fn retry_refused(
    request: HttpRequest,
    payload: Payload,
    state: Data<AdminState>,
) -> Result<HttpResponse, RequestError> {
    state.review(&request, payload, ReviewDecision::Retry).await
}

pub(super) async fn discard_refused(
    request: HttpRequest,
    payload: Payload,
    state: Data<AdminState>,
) -> Result<HttpResponse, RequestError> {
    state.review(&request, payload, ReviewDecision::Discard).await
}

pub(super) async fn replace_payload(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    state: Data<AdminState>,
) -> Result<HttpResponse, RequestError> {
    state.authorize(request.headers())?;
    let id = parse_id(&id)?;
    let body = state.read_body(payload).await?;
    let payload: Box<RawValue> = serde_json::from_slice(&body)
        .map_err(|_| RequestError::InvalidReview("the new payload is not JSON: nothing was changed"))?;
    if !payload.get().starts_with('{') {
        return Err(RequestError::InvalidReview(
            "the new payload must be a JSON object: nothing was changed",
        ));
    }
    let replace = move |ledger: &dyn Ledger| ledger.replace_refused_payload(id, payload.get(), wall_ms());
    if !state.processor.write_ledger(replace).await? {
        return Err(RequestError::NotUnderReview(id));
    }
    state.forward_control.notify_reviewed();
    tracing::info!(record_id = %id, "the payload of a refused record was replaced: it is sent again");
    Ok(HttpResponse::Ok().json(ChangedRecords { changed: 1 }))
}

fn parse_id(text: &str) -> Result<RecordId, RequestError> {
    text.parse().map_err(|_| RequestError::InvalidReview("the path needs a record id: a UUID was expected"))
}

impl AdminState {
    async fn find_refused(&self, request: &HttpRequest, id: &str) -> Result<RefusedEntry, RequestError> {
        self.authorize(request.headers())?;
        let id = parse_id(id)?;
        let refused = self.processor.read_ledger(move |ledger| ledger.refused_record(id)).await?;
        refused.ok_or(RequestError::NotUnderReview(id))
    }

    async fn review(
        &self,
        request: &HttpRequest,
        payload: Payload,
        decision: ReviewDecision,
    ) -> Result<HttpResponse, RequestError> {
        self.authorize(request.headers())?;
        let body = self.read_body(payload).await?;
        let wrong = RequestError::InvalidReview(r#"the body must be {"ids": [record ids]} or {"all": true}"#);
        let changed = match serde_json::from_slice(&body) {
            Ok(RefusedSelection { ids: Some(ids), all: false }) => self.review_ids(&ids, decision).await?,
            Ok(RefusedSelection { ids: None, all: true }) => self.review_all(decision).await?,
            _ => return Err(wrong),
        };
        Ok(HttpResponse::Ok().json(ChangedRecords { changed }))
    }

    async fn review_ids(&self, ids: &[RecordId], decision: ReviewDecision) -> Result<u64, LedgerError> {
        let mut changed = 0;
        for part in ids.chunks(REVIEW_ROWS) {
            let part = part.to_vec();
            changed += self
                .processor
                .write_ledger(move |ledger| ledger.review_records(&part, decision, wall_ms()))
                .await?;
            self.forward_control.notify_reviewed();
        }
        match decision {
            ReviewDecision::Retry => tracing::info!(records = changed, "refused records are sent again"),
            ReviewDecision::Discard => tracing::info!(records = changed, "refused records were discarded"),
        }
        Ok(changed)
    }

    /// In the order of ids, each once: a record that is refused meanwhile is not decided on again.
    async fn review_all(&self, decision: ReviewDecision) -> Result<u64, LedgerError> {
        let (mut changed, mut after) = (0, None);
        loop {
            let page = self.refused_after(after, REVIEW_ROWS).await?;
            let ids: Vec<RecordId> = page.iter().map(|refused| refused.entry.record.id).collect();
            let Some(last) = ids.last() else {
                return Ok(changed);
            };
            after = Some(*last);
            changed += self.review_ids(&ids, decision).await?;
        }
    }

    async fn refused_after(
        &self,
        after: Option<RecordId>,
        rows: usize,
    ) -> Result<Vec<RefusedEntry>, LedgerError> {
        let limit = PageLimit { rows, bytes: PAGE_BYTES_MAX };
        self.processor.read_ledger(move |ledger| ledger.refused_after(after, limit)).await
    }
}
