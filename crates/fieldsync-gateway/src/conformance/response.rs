//! What a server responded, read as the protocol says.

use std::sync::Arc;

use actix_web::web::Bytes;
use hyper::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::finding::{Finding, PointResult, require};
use super::quote::quote;
use super::sample::SampleBatch;
use crate::model::{BatchId, RecordId};
use crate::protocol::wire::{ErrorBody, Processing, RecordStatus, UNKNOWN_BATCH};

/// A report quotes this much of a body.
const QUOTED_CHARS_MAX: usize = 300;

/// A complete response.
#[derive(Clone, Debug)]
pub(super) struct KitResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// There was a 1xx response before it.
    pub(super) has_interim: bool,
    /// What a report must not repeat.
    pub(super) token: Option<Arc<str>>,
}

/// The results of a batch.
#[derive(Clone, Debug)]
pub(super) struct BatchResults {
    pub(super) is_replayed: bool,
    /// The results as they came, with what this program does not know.
    pub(super) results: Value,
    pub(super) headers: HeaderMap,
    /// For a report.
    pub(super) text: String,
}

/// What is known about a batch.
#[derive(Debug)]
pub(super) enum OutcomeState {
    Completed(BatchResults),
    Processing,
    Unknown,
    /// The server has no look-up, or it failed.
    NotTold,
}

impl KitResponse {
    /// Status and start of the body, for a report.
    pub(super) fn describe(&self) -> String {
        let body = String::from_utf8_lossy(self.body.trim_ascii_end());
        let quoted = quote(&body, self.token.as_deref(), QUOTED_CHARS_MAX);
        let quoted = if quoted.is_empty() { "without a body" } else { &quoted };
        format!("HTTP {} {quoted}", self.status.as_u16())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    pub(super) fn has_results(&self) -> bool {
        matches!(self.status, StatusCode::OK | StatusCode::MULTI_STATUS)
    }

    /// The results of the batch with this id.
    pub(super) fn read_results(&self, batch: BatchId) -> PointResult<BatchResults> {
        let expected = "HTTP 200 or 207 with the results of the batch as JSON";
        require(self.has_results(), expected, || self.describe())?;
        let mut value: Value = serde_json::from_slice(&self.body)
            .map_err(|error| Finding::failed(expected, format!("{error}: {}", self.describe())))?;
        let named: Option<BatchId> = value["batch_id"].as_str().and_then(|id| id.parse().ok());
        require(named == Some(batch), format!("the batch_id {batch} in the response"), || self.describe())?;
        require(value["results"].is_array(), "an array `results` in the response", || self.describe())?;
        Ok(BatchResults {
            is_replayed: value["replayed"] == true,
            results: value["results"].take(),
            headers: self.headers.clone(),
            text: self.describe(),
        })
    }

    pub(super) fn error_code(&self) -> Option<String> {
        serde_json::from_slice::<ErrorBody>(&self.body).ok().map(|body| body.error.code)
    }

    /// Whether the request as a whole was refused because of what it holds.
    pub(super) fn is_refusal(&self) -> bool {
        self.status.is_client_error()
            && !matches!(self.status.as_u16(), 401 | 403 | 404 | 405 | 409 | 410 | 429)
    }

    /// The response to a look-up.
    pub(super) fn read_outcome(&self, batch: BatchId) -> OutcomeState {
        if let Ok(results) = self.read_results(batch) {
            OutcomeState::Completed(results)
        } else if self.status == StatusCode::ACCEPTED
            && serde_json::from_slice::<Processing>(&self.body).is_ok_and(|body| body.batch_id == batch)
        {
            OutcomeState::Processing
        } else if self.status == StatusCode::NOT_FOUND && self.error_code().as_deref() == Some(UNKNOWN_BATCH)
        {
            OutcomeState::Unknown
        } else {
            OutcomeState::NotTold
        }
    }
}

impl BatchResults {
    /// All results, well formed or not.
    pub(super) fn list(&self) -> &[Value] {
        self.results.as_array().map_or(&[], Vec::as_slice)
    }

    /// The first result of a record, which is the one that counts.
    pub(super) fn result_of(&self, id: RecordId) -> Option<&Value> {
        self.list().iter().find(|result| record_id(result) == Some(id))
    }

    /// `None` without a result for the record, or with a status that the protocol does not have.
    pub(super) fn status_of(&self, id: RecordId) -> Option<RecordStatus> {
        RecordStatus::deserialize(&self.result_of(id)?["status"]).ok()
    }

    /// Every record of the batch has this status.
    pub(super) fn require_all(
        &self,
        batch: &SampleBatch,
        status: RecordStatus,
        because: &str,
    ) -> PointResult {
        let expected = format!("`{}` for every record: {because}", status_name(status));
        let holds = batch.records.iter().all(|record| self.status_of(record.id) == Some(status));
        require(holds, expected, || self.text.clone())
    }

    /// This record has this status.
    pub(super) fn require_status(&self, id: RecordId, status: RecordStatus, because: &str) -> PointResult {
        let expected = format!("`{}` for the record {id}: {because}", status_name(status));
        require(self.status_of(id) == Some(status), expected, || self.text.clone())
    }
}

/// The record of a result.
pub(super) fn record_id(result: &Value) -> Option<RecordId> {
    result["id"].as_str()?.parse().ok()
}

/// The status as it is on the wire.
pub(super) fn status_name(status: RecordStatus) -> &'static str {
    match status {
        RecordStatus::Applied => "applied",
        RecordStatus::Duplicate => "duplicate",
        RecordStatus::Rejected => "rejected",
        RecordStatus::Retry => "retry",
    }
}
