//! What the fuzz targets call of the local API: the functions of the handlers themselves.

use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::events::EventsQuery;
use super::http::read_query;
use super::overview::BatchesQuery;
use super::records::{self, ListQuery, ManifestQuery, ShowQuery};
use crate::api::submission::{self, Refused};
use crate::model::{NewRecord, RecordId};
use crate::store::Filter;

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Of the record or line at fault, from 1; none when there are too many records.
    pub position: Option<u64>,
    /// What the caller is told.
    pub message: String,
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        let position = match &refused {
            Refused::Invalid(record) => Some(record.position),
            Refused::TooMany => None,
        };
        Self { position, message: refused.to_string() }
    }
}

/// The records that `POST /v1/records` reads in a body.
pub fn read_records(body: &[u8], is_ndjson: bool) -> Result<Vec<NewRecord>, Rejection> {
    let pieces = if is_ndjson { submission::ndjson(body) } else { submission::json(body) }?;
    pieces.records().map(|record| record.map_err(|record| Refused::Invalid(record).into())).collect()
}

/// What the query of `GET /v1/records` asks for, and whether of all users, or what the caller is told.
pub fn read_list_query(query: &str) -> Result<(Filter, Option<bool>), String> {
    ListQuery::read(query).map_err(message)
}

/// Whether the query of `GET /v1/manifest` asks for the records of all users.
pub fn read_manifest_query(query: &str) -> Result<Option<bool>, String> {
    read::<ManifestQuery>(query).map(|query| query.all)
}

/// The id in `/v1/records/{id}`.
pub fn read_record_id(path: &str) -> Result<RecordId, String> {
    records::record_id(path).map_err(message)
}

/// Whether the query of `GET /v1/records/{id}` asks for the payload, and for the lineage.
pub fn read_show_query(query: &str) -> Result<(bool, bool), String> {
    read::<ShowQuery>(query).map(|query| (query.payload, query.lineage))
}

/// How many batches the query of `GET /v1/batches` asks for.
pub fn read_batches_query(query: &str) -> Result<Option<usize>, String> {
    read::<BatchesQuery>(query).map(|query| query.limit)
}

/// Which event the query of `GET /v1/events` says was the last that the reader saw.
pub fn read_events_query(query: &str) -> Result<Option<String>, String> {
    read::<EventsQuery>(query).map(|query| query.last_event_id)
}

/// As handlers have their queries read.
fn read<T: DeserializeOwned>(query: &str) -> Result<T, String> {
    read_query(query).map_err(message)
}

fn message(error: ApiError) -> String {
    error.into_parts().1
}
