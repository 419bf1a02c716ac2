//! Results of single records: `{id, success, created, errors: [{statusCode, message, fields}]}`.

use serde_json::{Value, json};

use crate::magic_values::{MAGIC_FIELD, MagicCode};
use crate::schema::{FieldProblem, FieldType};
use crate::storage::StoredRecord;

pub(super) fn success_result(record: &StoredRecord, is_created: bool) -> Value {
    json!({ "id": record.id, "success": true, "errors": [], "created": is_created })
}

/// [from memory] A refused record has no id.
pub(super) fn refused_result(errors: &[Value]) -> Value {
    json!({ "success": false, "errors": errors })
}

pub(super) fn record_error(code: &str, message: &str, fields: &[&str]) -> Value {
    json!({ "statusCode": code, "message": message, "fields": fields })
}

/// An error of one field.
pub(super) fn field_error(field: &str, problem: &FieldProblem) -> Value {
    let (code, message) = match problem {
        FieldProblem::Missing => {
            ("REQUIRED_FIELD_MISSING", format!("Required fields are missing: [{field}]"))
        }
        FieldProblem::WrongType(FieldType::Email) => {
            ("INVALID_EMAIL_ADDRESS", format!("{field}: invalid email address"))
        }
        FieldProblem::WrongType(expected) => return parser_error(field, *expected),
        FieldProblem::TooLong { max_length } => {
            ("STRING_TOO_LONG", format!("{field}: data value too large (max length={max_length})"))
        }
        FieldProblem::NotInPicklist { .. } => (
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
            format!("{field}: bad value for restricted picklist field"),
        ),
        FieldProblem::PatternNotMatched => {
            ("FIELD_CUSTOM_VALIDATION_EXCEPTION", format!("{field}: the value has another form"))
        }
    };
    record_error(code, &message, &[field])
}

fn parser_error(field: &str, expected: FieldType) -> Value {
    let message = format!("{field}: Cannot deserialize instance of {}", expected.name());
    record_error("JSON_PARSER_ERROR", &message, &[field])
}

/// Whether the real one may refuse the whole call for it, as the parser sees it before any record is looked at.
pub(super) fn is_parser_problem(problem: &FieldProblem) -> bool {
    matches!(problem, FieldProblem::WrongType(expected) if *expected != FieldType::Email)
}

pub(super) fn unknown_field_error(object: &str, field: &str) -> Value {
    let message = format!("No such column '{field}' on sobject of type {object}");
    record_error("INVALID_FIELD", &message, &[field])
}

/// The same unique value in another record, also when a call at the same time created it.
pub(super) fn duplicate_value_error(field: &str, record_id: &str) -> Value {
    let message = format!("duplicate value found: {field} duplicates value on record with id: {record_id}");
    record_error("DUPLICATE_VALUE", &message, &[])
}

/// [from memory] The same external id twice in a call: neither record is stored.
pub(super) fn repeated_id_error(field: &str, value: &str) -> Value {
    record_error("DUPLICATE_VALUE", &format!("Duplicate external id specified: {value}"), &[field])
}

/// Several records of the CRM have the external id.
pub(super) fn ambiguous_id_error(field: &str) -> Value {
    let message = "More than one record found for external id field";
    record_error("DUPLICATE_EXTERNAL_ID", message, &[field])
}

/// The errors of a record that is refused on demand.
pub(super) fn demanded_errors(demanded: &MagicCode) -> Vec<Value> {
    let first = record_error(&demanded.code, "refused by a magic value", &[MAGIC_FIELD]);
    let others = demanded.arguments.iter().map(|code| record_error(code, "refused by a magic value", &[]));
    std::iter::once(first).chain(others).collect()
}
