//! Lists the newest records first, and finds the record that a part of an id means: what people ask for.

use hyper::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Peer;
use super::error::ApiError;
use super::http::{HttpResponse, read_query};
use super::state::ApiState;
use crate::api::RecordPage;
use crate::model::{RecordId, RecordState};
use crate::store::{IdDigits, NewestFilter};

const PAGE_ENTRIES_DEFAULT: usize = 100;
const PAGE_ENTRIES_MAX: usize = 1000;
/// Fewer digits of an id mean nothing.
pub(super) const ID_PART_DIGITS_MIN: usize = 4;
/// Ids that are compared with an end before other readers have their turn.
const END_STEP_IDS: usize = 20_000;
/// So 10,000,000 ids can be compared: twice as many as `queue.max_records` allows by default.
const END_STEPS_MAX: usize = 500;
/// Of the ids that a part may mean, so many are named.
const CANDIDATES_NAMED_MAX: usize = 5;

/// The query of `GET /v1/records` besides that of the queue order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "only the document has these: with another order, the query is parsed as a whole"
)]
pub(super) struct NewestParams {
    /// `queue` or `newest`.
    #[param(value_type = Option<String>, default = "queue")]
    order: Option<String>,
    /// With `order=newest`: only records with this key. Of other users' records, only admins find any.
    key: Option<String>,
    /// With `order=newest`: only records that were accepted at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<String>,
}

#[derive(Deserialize)]
struct Order {
    order: Option<String>,
}

/// Whether the query asks for the newest records first.
pub(super) fn is_newest_wanted(query: &str) -> Result<bool, ApiError> {
    let Order { order } = read_query(query)?;
    match order.as_deref() {
        Some("newest") => Ok(true),
        None => Ok(false),
        Some(_) => Err(ApiError::bad_request("invalid_query", "`order` must be newest, or left out")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewestQuery {
    #[serde(rename = "order")]
    _order: Option<String>,
    state: Option<String>,
    #[serde(rename = "type")]
    record_type: Option<String>,
    key: Option<String>,
    since: Option<String>,
    limit: Option<String>,
    after: Option<String>,
    all: Option<String>,
}

impl NewestQuery {
    fn parse(query: &str) -> Result<(NewestFilter, Option<bool>), ApiError> {
        let invalid = |message: String| ApiError::bad_request("invalid_query", message);
        let query: Self = read_query(query)?;
        // A parameter without a value counts as missing.
        let given = |value: Option<String>| value.filter(|value| !value.is_empty());
        let states = given(query.state).unwrap_or_default();
        let states = states.split(',').filter(|state| !state.is_empty()).map(str::parse);
        let states = states.collect::<Result<Vec<RecordState>, _>>().map_err(invalid)?;
        let before = given(query.after).map(|cursor| cursor.parse()).transpose();
        let before = before.map_err(|_| invalid("`after` must be the `next` of an earlier page".into()))?;
        let limit = given(query.limit).map(|limit| limit.parse::<usize>()).transpose();
        let limit = limit.map_err(|_| invalid("`limit` must be a whole number".into()))?;
        let all = given(query.all).map(|all| all.parse::<bool>()).transpose();
        let all = all.map_err(|_| invalid("`all` must be true or false".into()))?;
        let since = given(query.since).map(|since| since.parse::<Timestamp>()).transpose();
        let since = since.map_err(|_| invalid("`since` must be a time as in RFC 3339".into()))?;
        let filter = NewestFilter {
            states,
            record_type: given(query.record_type),
            key: given(query.key),
            batch: None,
            submitter: None,
            created_from: since.map(|since| u64::try_from(since.as_millisecond()).unwrap_or(0)),
            before,
            limit: limit.unwrap_or(PAGE_ENTRIES_DEFAULT).clamp(1, PAGE_ENTRIES_MAX),
        };
        Ok((filter, all))
    }
}

pub(super) async fn list_newest(
    state: &ApiState,
    peer: &Peer,
    query: &str,
) -> Result<HttpResponse, ApiError> {
    let (filter, all) = NewestQuery::parse(query)?;
    let audience = state.audience_of(peer);
    // Whether another user has a record of a key is for admins.
    let all = all.filter(|_| filter.key.is_none() || audience.sees_all_of(None));
    let filter = NewestFilter { submitter: audience.listed_submitter(all), ..filter };
    let response = state.json_from_view(move |view| {
        let mut page = view.list_newest(&filter)?;
        for entry in &mut page.entries {
            audience.redact_entry(entry);
        }
        let next = page.next.map(|next| next.to_string());
        Ok(RecordPage { records: page.entries, unknown: Vec::new(), next })
    });
    response.await
}

/// The record with this id, or the only one whose id begins or ends like this.
pub(super) async fn resolve_record_id(state: &ApiState, text: &str) -> Result<RecordId, ApiError> {
    let part: String = text.chars().filter(|digit| *digit != '-').collect();
    let digits = IdDigits::parse(&part).filter(|_| part.len() >= ID_PART_DIGITS_MIN);
    let Some(digits) = digits else {
        return text.parse().map_err(|_| ApiError::invalid_id_or_part(text));
    };
    let mut found = state.with_view(move |view| view.find_by_beginning(digits)).await?;
    let mut last = None;
    let mut is_complete = false;
    for _ in 0..END_STEPS_MAX {
        let step = state.with_view(move |view| view.find_by_end(digits, last, END_STEP_IDS)).await?;
        for id in step.found {
            if !found.contains(&id) {
                found.push(id);
            }
        }
        last = step.next;
        is_complete = last.is_none();
        if is_complete || found.len() > 1 {
            break;
        }
    }
    judge_candidates(&found, is_complete, text)
}

/// `is_complete`: whether all ids were compared.
fn judge_candidates(found: &[RecordId], is_complete: bool, text: &str) -> Result<RecordId, ApiError> {
    let ambiguous = |message| Err(ApiError::new(StatusCode::CONFLICT, "ambiguous_id", message));
    match found {
        [_, _, ..] => {
            let ids = found.iter().take(CANDIDATES_NAMED_MAX).map(ToString::to_string);
            ambiguous(format!(
                "several records have ids that begin or end with {text}: {}; give more digits, or the whole id",
                ids.collect::<Vec<_>>().join(", ")
            ))
        }
        // One that was not compared may end like this, too.
        _ if !is_complete => {
            ambiguous(format!("there are too many records to compare all ids with {text}: give the whole id"))
        }
        [id] => Ok(*id),
        [] => Err(ApiError::no_such_record()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_means_a_record_only_if_all_ids_were_compared() {
        let ids = [RecordId::new(), RecordId::new()];
        assert_eq!(judge_candidates(&ids[..1], true, "beef").unwrap(), ids[0]);
        for (found, is_complete, words) in [
            (&ids[..], true, "several records"),
            (&ids[..], false, "several records"),
            (&ids[..1], false, "too many records"),
            (&[], false, "too many records"),
            (&[], true, "no record has this id"),
        ] {
            let error = judge_candidates(found, is_complete, "beef").unwrap_err();
            let is_conflict = error.status() == StatusCode::CONFLICT;
            assert_eq!(is_conflict, !(is_complete && found.is_empty()), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
