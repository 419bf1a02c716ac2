//! Checks of a call before any of its records is looked at.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use serde_json::Value;

use crate::clock::monotonic_now;
use crate::storage::{Fields, index_key};
use crate::tally::Violation;
use crate::tokens::TokenCheck;

use super::SalesforceCrm;
use super::refusal::SalesforceRefusal;

const TOKEN_SCHEME: &str = "Bearer ";
const ATTRIBUTES: &str = "attributes";
/// Upserts of collections came with this version.
const API_VERSION_MIN: u32 = 46;
const API_VERSION_MAX: u32 = 99;

/// The body of an upsert, checked.
#[derive(Debug)]
pub(super) struct CollectionRequest {
    pub(super) is_all_or_none: bool,
    /// Without `attributes`.
    pub(super) records: Vec<Fields>,
    /// External ids that are in the call more than once.
    pub(super) repeated_ids: BTreeSet<String>,
}

impl SalesforceCrm {
    pub(super) fn authorize(&self, request: &HttpRequest) -> Result<(), SalesforceRefusal> {
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix(TOKEN_SCHEME));
        let token = token.ok_or_else(|| SalesforceRefusal::new("INVALID_SESSION_ID"))?;
        let mut state = self.stand_in.lock();
        match state.tokens.check(token, monotonic_now()) {
            TokenCheck::Valid => Ok(()),
            TokenCheck::Invalid => Err(SalesforceRefusal::new("INVALID_SESSION_ID")),
            TokenCheck::UsedAfterRefusal => {
                let note = || "a token was used again after it was refused with 401".to_owned();
                state.tally.count_violation(Violation::TokenUsedAfterRefusal, note);
                Err(SalesforceRefusal::new("INVALID_SESSION_ID"))
            }
        }
    }

    pub(super) fn parse_request(
        &self,
        object: &str,
        id_field: &str,
        body: &[u8],
    ) -> Result<CollectionRequest, SalesforceRefusal> {
        let malformed = |message: &str| SalesforceRefusal::with_message("JSON_PARSER_ERROR", message);
        let body: Value = serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))?;
        let records = body.get("records").and_then(Value::as_array);
        let records = records.ok_or_else(|| malformed("The body must have an array of records"))?;
        if records.len() > self.options.max_records {
            let note = || format!("{object}: a call of {} records", records.len());
            self.stand_in.lock().tally.count_violation(Violation::TooManyRecords, note);
            return Err(SalesforceRefusal::new("EXCEEDED_ID_LIMIT"));
        }
        let is_all_or_none = match body.get("allOrNone") {
            None => false,
            Some(value) => value.as_bool().ok_or_else(|| malformed("allOrNone must be a boolean"))?,
        };
        let objects: Option<Vec<Fields>> = records.iter().map(|record| record.as_object().cloned()).collect();
        let mut records = objects.ok_or_else(|| malformed("A record must be an object"))?;
        for record in &mut records {
            let attributes = record.remove(ATTRIBUTES);
            let type_name = attributes.as_ref().and_then(|attributes| attributes["type"].as_str());
            if type_name != Some(object) {
                let note = || format!("{object}: a record of the type {type_name:?}");
                self.stand_in.lock().tally.count_violation(Violation::MixedTypes, note);
                return Err(SalesforceRefusal::new("INVALID_TYPE"));
            }
        }
        let repeated_ids = find_repeated_ids(&records, id_field);
        Ok(CollectionRequest { is_all_or_none, records, repeated_ids })
    }
}

fn find_repeated_ids(records: &[Fields], id_field: &str) -> BTreeSet<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for id in records.iter().filter_map(|record| record.get(id_field).and_then(index_key)) {
        *counts.entry(id).or_default() += 1;
    }
    counts.into_iter().filter(|(_, count)| *count > 1).map(|(id, _)| id).collect()
}

/// `v62.0`.
pub(super) fn is_known_version(version: &str) -> bool {
    let number = version.strip_prefix('v').and_then(|version| version.strip_suffix(".0"));
    let number = number.and_then(|number| number.parse::<u32>().ok());
    number.is_some_and(|number| (API_VERSION_MIN..=API_VERSION_MAX).contains(&number))
}
