//! Functions of the local API that the fuzz targets call.

use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::events::EventsQuery;
use super::http::read_query;
use super::overview::BatchesQuery;
use super::records::{self, ListQuery, ManifestQuery, ShowQuery};
use crate::api::submission::{self, SubmissionError};
use crate::model::{NewRecord, RecordId};
use crate::store::Filter;

/// Why a request is rejected.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Of the record or line at fault, from 1. None if there are too many records.
    pub position: Option<u64>,
    /// The error message.
    pub message: String,
}

impl From<SubmissionError> for Rejection {
    fn from(refused: SubmissionError) -> Self {
        let position = match &refused {
            SubmissionError::Invalid(record) => Some(record.position),
            SubmissionError::TooMany => None,
        };
        Self { position, message: refused.to_string() }
    }
}

/// Parses the body of `POST /v1/records`.
pub fn read_records(body: &[u8], is_ndjson: bool) -> Result<Vec<NewRecord>, Rejection> {
    let pieces = if is_ndjson { submission::split_ndjson(body) } else { submission::split_json(body) }?;
    pieces.records().map(|record| record.map_err(|record| SubmissionError::Invalid(record).into())).collect()
}

/// Parses the query of `GET /v1/records`: the filter, and whether it asks for all users.
pub fn read_list_query(query: &str) -> Result<(Filter, Option<bool>), String> {
    ListQuery::parse(query).map(|request| (request.filter, request.all)).map_err(into_message)
}

/// Parses the query of `GET /v1/manifest`: whether it asks for all users.
pub fn read_manifest_query(query: &str) -> Result<Option<bool>, String> {
    parse_query::<ManifestQuery>(query).map(|query| query.all)
}

/// Parses the id in `/v1/records/{id}`.
pub fn read_record_id(path: &str) -> Result<RecordId, String> {
    records::parse_record_id(path).map_err(into_message)
}

/// Parses the query of `GET /v1/records/{id}`: whether it asks for the payload, and for the lineage.
pub fn read_show_query(query: &str) -> Result<(bool, bool), String> {
    parse_query::<ShowQuery>(query).map(|query| (query.payload, query.lineage))
}

/// Parses the query of `GET /v1/batches`: its limit.
pub fn read_batches_query(query: &str) -> Result<Option<usize>, String> {
    parse_query::<BatchesQuery>(query).map(|query| query.limit)
}

/// Parses the query of `GET /v1/events`: the last event that the reader received.
pub fn read_events_query(query: &str) -> Result<Option<String>, String> {
    parse_query::<EventsQuery>(query).map(|query| query.last_event_id)
}

fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, String> {
    read_query(query).map_err(into_message)
}

fn into_message(error: ApiError) -> String {
    error.into_parts().1
}
