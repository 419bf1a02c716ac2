//! The results of a call: which of them belongs to which record, and what each says.
//!
//! A result is believed only if it is certain whose it is. Otherwise the outcome of the whole call is unknown, and
//! the call is sent again.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json_borrow::Value;

use super::codes::CodeClass;
use super::mapping::Correlation;
use super::pointer::{JsonPointer, find_first_text};
use super::record_error::{
    DecodeContext, EntryVerdict, ErrorPlace, RecordError, build_receipt, is_id, judge_errors, read_error,
};
use crate::destination::delivery::Verdict;
use crate::model::RecordId;

/// Why results cannot be believed, or what they say about the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResultsTrouble {
    /// It is not certain which result belongs to which record.
    Unusable(&'static str),
    /// The only result concerns the whole call.
    CallError(Box<RecordError>),
}

/// One result for each record, in the order of the records.
pub(crate) struct OrderedResults {
    pub(crate) entries: Vec<EntryVerdict>,
    /// Whether the order could be checked, or does not matter.
    pub(crate) is_certain: bool,
}

/// One result before its record is known.
struct ResultEntry<'a> {
    value: &'a Value<'a>,
    /// The position that its errors name.
    index: Option<usize>,
    judged: EntryVerdict,
    /// The destination's id of the applied record.
    server_id: Option<Cow<'a, str>>,
    errors: Vec<RecordError>,
}

/// The verdicts of the records `ids`, from the body of a response.
pub(crate) fn read_results(
    context: &DecodeContext<'_>,
    body: &Value<'_>,
    ids: &[RecordId],
) -> Result<OrderedResults, ResultsTrouble> {
    let results = &context.mapping.results;
    let find_array =
        |path: &Option<JsonPointer>| path.as_ref().and_then(|path| path.find(body)).and_then(Value::as_array);
    let done = find_array(&results.path).unwrap_or_default();
    let refused = find_array(&results.errors_path).unwrap_or_default();
    let mut entries = Vec::with_capacity(done.len() + refused.len());
    for (array, is_refused) in [(done, false), (refused, true)] {
        for value in array {
            entries.push(read_entry(context, value, is_refused)?);
        }
    }
    if let [entry] = entries.as_slice()
        && let Some(error) = find_call_error(entry, ids.len())
    {
        return Err(ResultsTrouble::CallError(Box::new(error.clone())));
    }
    let mut server_ids: Vec<&str> = entries.iter().filter_map(|entry| entry.server_id.as_deref()).collect();
    server_ids.sort_unstable();
    if server_ids.array_windows().any(|[one, next]| one == next) {
        return Err(ResultsTrouble::Unusable("two results have the same id"));
    }
    match results.by {
        Correlation::Position => order_by_position(entries, ids.len()),
        Correlation::Field => order_by_field(entries, &results.record_id, ids)
            .map(|entries| OrderedResults { entries, is_certain: true }),
    }
}

fn read_entry<'a>(
    context: &DecodeContext<'_>,
    value: &'a Value<'a>,
    is_refused: bool,
) -> Result<ResultEntry<'a>, ResultsTrouble> {
    let results = &context.mapping.results;
    let is_ok = !is_refused
        && results
            .ok
            .as_ref()
            .is_none_or(|rule| rule.path.find(value).is_some_and(|found| *found == Value::from(&rule.value)));
    if is_ok {
        return read_success(context, value);
    }
    if !value.is_object() {
        return Err(ResultsTrouble::Unusable("a result is not an object"));
    }
    let mut lists = results.errors.iter().filter_map(|path| path.find(value)?.as_array());
    let errors: Vec<RecordError> = match lists.find(|parts| !parts.is_empty()) {
        Some(parts) => parts.iter().map(|part| read_error(context, part)).collect(),
        None => vec![read_error(context, value)],
    };
    let mut indices = errors.iter().filter_map(|error| match error.place {
        ErrorPlace::Record(index) => index,
        ErrorPlace::Request => None,
    });
    let index = indices.next();
    if indices.any(|other| Some(other) != index) {
        return Err(ResultsTrouble::Unusable("the errors of one result concern several records"));
    }
    let judged = judge_errors(context, &errors);
    // Behind the verdict "an earlier call stored it" there is an id, too.
    let server_id = match &judged.verdict {
        Verdict::Applied(receipt) => receipt.destination_id().map(|id| Cow::Owned(id.into_owned())),
        Verdict::Rejected { .. } | Verdict::Retry { .. } => None,
    };
    Ok(ResultEntry { value, index, judged, server_id, errors })
}

fn read_success<'a>(
    context: &DecodeContext<'_>,
    value: &'a Value<'a>,
) -> Result<ResultEntry<'a>, ResultsTrouble> {
    let results = &context.mapping.results;
    let server_id = match &results.id {
        None => None,
        Some(path) => {
            let id = path.find_text(value).filter(|id| is_id(id));
            Some(id.ok_or(ResultsTrouble::Unusable("an applied record has no id"))?)
        }
    };
    let action = results.action.as_ref().and_then(|path| path.find(value)).and_then(|action| match action {
        Value::Bool(is_created) => Some(if *is_created { "insert" } else { "update" }),
        other => other.as_str().filter(|action| is_id(action)),
    });
    let receipt = build_receipt(context.record_type.module(), server_id.as_deref(), action)
        .ok_or(ResultsTrouble::Unusable("a result is too long for a receipt"))?;
    let judged = EntryVerdict { verdict: Verdict::Applied(receipt), stop: None };
    Ok(ResultEntry { value, index: None, judged, server_id, errors: Vec::new() })
}

/// The error of a lone result, if it concerns the call: for its place, its class, or because there are more records.
fn find_call_error<'a>(entry: &'a ResultEntry<'_>, records: usize) -> Option<&'a RecordError> {
    entry.errors.iter().find(|error| {
        let concerns_call = match error.class {
            CodeClass::Throttled | CodeClass::Unauthorized | CodeClass::Unclear => true,
            CodeClass::Stop | CodeClass::Rejected | CodeClass::Retry | CodeClass::TooLarge => records > 1,
            CodeClass::Duplicate => false,
        };
        concerns_call || error.place == ErrorPlace::Request
    })
}

/// Results that name their position are believed; the others must then be in the order of the records.
fn order_by_position(
    results: Vec<ResultEntry<'_>>,
    records: usize,
) -> Result<OrderedResults, ResultsTrouble> {
    if results.len() != records {
        return Err(ResultsTrouble::Unusable("the number of results is not that of the records"));
    }
    if results.iter().enumerate().all(|(at, entry)| entry.index.is_none_or(|index| index == at)) {
        let mut unnamed =
            results.iter().filter(|entry| entry.index.is_none()).map(|entry| &entry.judged.verdict);
        let first = unnamed.next();
        let is_certain = first.is_none_or(|first| unnamed.all(|other| is_same_kind(first, other)));
        let entries = results.into_iter().map(|entry| entry.judged).collect();
        return Ok(OrderedResults { entries, is_certain });
    }
    let mut places: Vec<Option<EntryVerdict>> = (0..records).map(|_| None).collect();
    let mut unnamed = None;
    for entry in results {
        let Some(index) = entry.index else {
            if unnamed.replace(entry.judged).is_some() {
                return Err(ResultsTrouble::Unusable("the results are not in the order of the records"));
            }
            continue;
        };
        let place = places.get_mut(index).filter(|place| place.is_none());
        *place
            .ok_or(ResultsTrouble::Unusable("a result names a record twice, or one that was not sent"))? =
            Some(entry.judged);
    }
    let fill = |place: Option<EntryVerdict>| place.or_else(|| unnamed.take());
    let entries: Option<Vec<EntryVerdict>> = places.into_iter().map(fill).collect();
    let entries = entries.ok_or(ResultsTrouble::Unusable("a record has no result"))?;
    Ok(OrderedResults { entries, is_certain: true })
}

/// Whether two results may change places without harm to a record.
fn is_same_kind(one: &Verdict, other: &Verdict) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

fn order_by_field(
    entries: Vec<ResultEntry<'_>>,
    record_id: &[JsonPointer],
    ids: &[RecordId],
) -> Result<Vec<EntryVerdict>, ResultsTrouble> {
    let mut by_id = HashMap::with_capacity(entries.len());
    for entry in entries {
        let id = find_first_text(record_id, entry.value);
        let id = id.ok_or(ResultsTrouble::Unusable("a result does not name its record"))?;
        if by_id.insert(id, entry.judged).is_some() {
            return Err(ResultsTrouble::Unusable("two results name the same record"));
        }
    }
    let ordered: Option<Vec<EntryVerdict>> =
        ids.iter().map(|id| by_id.remove(id.to_string().as_str())).collect();
    match ordered {
        Some(ordered) if by_id.is_empty() => Ok(ordered),
        Some(_) => Err(ResultsTrouble::Unusable("a result names a record that was not sent")),
        None => Err(ResultsTrouble::Unusable("a record has no result")),
    }
}
