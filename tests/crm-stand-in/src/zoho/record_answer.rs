//! What an upsert answers: an entry for each record, and the status that follows from all of them.

use serde_json::{Value, json};

use crate::call::CrmAnswer;
use crate::state::CrmState;
use crate::storage::StoredRecord;
use crate::upsert::UpsertResult;

use super::error_entry::{duplicate_entry, format_time, not_an_object_entry};

/// The entry of a record that was looked at.
pub(super) fn result_entry(position: usize, module: &str, result: &UpsertResult) -> Value {
    match result {
        UpsertResult::Created(record) => success_entry(record, "insert", None),
        UpsertResult::Updated { record, field } => success_entry(record, "update", Some(field)),
        UpsertResult::Conflict { record, field } => duplicate_entry(position, module, field, &record.id),
        // Records are never deleted: only a module that went away would lead here.
        UpsertResult::NotFound => not_an_object_entry(position),
    }
}

fn success_entry(record: &StoredRecord, action: &str, duplicate_field: Option<&String>) -> Value {
    let user = json!({ "name": "Stand In", "id": "4150868000000225013" });
    let message = if action == "insert" { "record added" } else { "record updated" };
    json!({
        "code": "SUCCESS",
        "status": "success",
        "action": action,
        "duplicate_field": duplicate_field,
        "message": message,
        "details": {
            "id": record.id,
            "Created_Time": format_time(record.created),
            "Modified_Time": format_time(record.modified),
            "Created_By": user,
            "Modified_By": user,
            "$approval_state": "approved",
        },
    })
}

/// 200 if every record was done, 400 if none was, 207 otherwise.
pub(super) fn build_answer(state: &mut CrmState, module: &str, entries: &[Value]) -> CrmAnswer {
    let is_success = |entry: &&Value| entry["status"] == "success";
    let done = entries.iter().filter(is_success).count();
    for entry in entries.iter().filter(|entry| !is_success(entry)) {
        state.tally.module(module).count_refused(entry["code"].as_str().unwrap_or_default());
    }
    let status = match done {
        _ if done == entries.len() => 200,
        0 => 400,
        _ => 207,
    };
    let mut answer = CrmAnswer::new(status, json!({ "data": entries }));
    answer.results_key = Some("data");
    answer
}
