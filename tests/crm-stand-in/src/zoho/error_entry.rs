//! Error entries of single records: `{code, message, status, details}`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::magic_values::{MAGIC_FIELD, MagicCode};
use crate::schema::FieldProblem;
use crate::storage::StoredRecord;

/// An argument of a magic value: a `json_path` without the index of the record, as one example of the vendor has it.
const UNINDEXED: &str = "unindexed";

pub(super) fn error_entry(code: &str, message: &str, details: &Value) -> Value {
    json!({ "code": code, "message": message, "status": "error", "details": details })
}

/// Times have no fractions of a second.
pub(super) fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// Where a field of a record is in the request.
fn field_path(position: usize, field: &str) -> String {
    format!("$.data[{position}].{field}")
}

/// The entry of a record that is wrong by itself. Several problems come in one entry.
pub(super) fn problems_entry(position: usize, problems: &[(String, FieldProblem)]) -> Value {
    if let [(field, problem)] = problems {
        return problem_entry(position, field, problem);
    }
    let entry = |(field, problem): &(String, FieldProblem)| problem_entry(position, field, problem);
    several_errors(&problems.iter().map(entry).collect::<Vec<_>>())
}

fn several_errors(entries: &[Value]) -> Value {
    error_entry("MULTIPLE_OR_MULTI_ERRORS", "the record has several errors", &json!({ "errors": entries }))
}

fn problem_entry(position: usize, field: &str, problem: &FieldProblem) -> Value {
    let mut details = json!({ "api_name": field, "json_path": field_path(position, field) });
    let (code, message) = match problem {
        FieldProblem::Missing => ("MANDATORY_NOT_FOUND", "required field not found"),
        FieldProblem::WrongType(expected) => {
            details["expected_data_type"] = expected.name().into();
            ("INVALID_DATA", "invalid data")
        }
        FieldProblem::TooLong { max_length } => {
            details["maximum_length"] = (*max_length).into();
            ("INVALID_DATA", "invalid data")
        }
        FieldProblem::NotInPicklist { values } => {
            details["supported_values"] = values.clone().into();
            ("INVALID_DATA", "invalid data")
        }
        FieldProblem::PatternNotMatched => ("PATTERN_NOT_MATCHED", "the pattern of the field does not match"),
    };
    error_entry(code, message, &details)
}

pub(super) fn unknown_field_entry(position: usize, field: &str) -> Value {
    let details = json!({ "api_name": field, "json_path": field_path(position, field) });
    error_entry("INVALID_DATA", "invalid data", &details)
}

/// A record, or an element of `data` that is not one.
pub(super) fn not_an_object_entry(position: usize) -> Value {
    let path = format!("$.data[{position}]");
    let details = json!({ "expected_data_type": "jsonobject", "api_name": "data", "json_path": path });
    error_entry("INVALID_DATA", "invalid data", &details)
}

pub(super) fn duplicate_entry(position: usize, module: &str, field: &str, record_id: &str) -> Value {
    let details = json!({
        "api_name": field,
        "json_path": field_path(position, field),
        "duplicate_record": {
            "id": record_id,
            "Owner": { "name": "Stand In", "id": "4150868000000225013", "zuid": "693543432" },
            "module": { "api_name": module, "id": "4150868000000002179" },
        },
        "more_records": false,
    });
    error_entry("DUPLICATE_DATA", "duplicate data", &details)
}

/// Another client changed the record after `If-Unmodified-Since`.
pub(super) fn modified_details(record: &StoredRecord) -> Value {
    json!({ "id": record.id, "Modified_Time": format_time(record.modified) })
}

/// The entry of a record that is refused on demand.
pub(super) fn demanded_entry(position: usize, module: &str, demanded: &MagicCode) -> Value {
    let code = demanded.code.as_str();
    let is_unindexed = demanded.arguments.iter().any(|argument| argument == UNINDEXED);
    let path_of = |field: &str| {
        if is_unindexed { format!("$.data.{field}") } else { field_path(position, field) }
    };
    let path = path_of(MAGIC_FIELD);
    let details = match code {
        "MULTIPLE_OR_MULTI_ERRORS" => {
            let usual = ["MANDATORY_NOT_FOUND".to_owned(), "INVALID_DATA".to_owned()];
            let inner = if demanded.arguments.is_empty() { &usual[..] } else { &demanded.arguments };
            let entry = |code: &String| demanded_entry(position, module, &MagicCode::new(code));
            return several_errors(&inner.iter().map(entry).collect::<Vec<_>>());
        }
        "DUPLICATE_DATA" => {
            return duplicate_entry(
                position,
                module,
                demanded.argument_or(MAGIC_FIELD),
                "4150868000000999001",
            );
        }
        "INVALID_DATA" => json!({ "api_name": MAGIC_FIELD, "json_path": path, "expected_data_type": "text" }),
        "DEPENDENT_FIELD_MISSING" | "DEPENDENT_MISMATCH" => json!({
            "api_name": MAGIC_FIELD,
            "json_path": path,
            "dependee": { "api_name": "Country", "json_path": path_of("Country") },
        }),
        "RECORD_LOCKED" => json!({ "action": "record_locking", "json_path": path }),
        "NOT_APPROVED" | "NOT_REVIEWED" | "RECORD_IN_BLUEPRINT" | "ID_ALREADY_CONVERTED" => {
            json!({ "id": "4150868000000999001", "json_path": path })
        }
        "DEPENDENT_SERVICE_ERROR" => {
            json!({ "dependency_error": demanded.argument_or("PROCESSING_ERROR"), "json_path": path })
        }
        "EXPECTED_FIELD_MISSING" => {
            json!({ "expected_fields": [{ "api_name": MAGIC_FIELD, "json_path": path }] })
        }
        "NOT_ALLOWED" | "STORAGE_SPACE_EXCEEDED" => json!({}),
        _ => json!({ "api_name": MAGIC_FIELD, "json_path": path }),
    };
    error_entry(code, "refused by a magic value", &details)
}
