//! What the destination says against a record: an error object, and the verdict that follows from it.

use std::borrow::Cow;

use serde_json_borrow::Value;

use super::codes::{CodeClass, CodeTable};
use super::mapping::{HttpMapping, ResultsMapping};
use super::pointer::{JsonPointer, find_first_text};
use super::stops::PROBE_INTERVAL;
use super::template::match_pattern;
use super::type_mapping::TypeMapping;
use crate::destination::delivery::{DESTINATION_STOPPED, Verdict};
use crate::protocol::receipt::Receipt;

/// The device keeps 200 characters of a message.
const MESSAGE_CHARS_MAX: usize = 200;
/// A longer text is not an id.
const ID_BYTES_MAX: usize = 200;
/// What is done with a record that an earlier call stored.
const EXISTS_ACTION: &str = "exists";

/// What decoding needs to know of a call.
#[derive(Clone, Copy)]
pub(crate) struct DecodeContext<'a> {
    pub(crate) mapping: &'a HttpMapping,
    pub(crate) codes: &'a CodeTable,
    pub(crate) record_type: &'a TypeMapping,
}

/// What an error concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ErrorPlace {
    /// The record at this position, or the one whose result it is.
    Record(Option<usize>),
    /// The request, and no record of it.
    Request,
}

/// An error that the destination has with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordError {
    pub(crate) class: CodeClass,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) place: ErrorPlace,
    /// The destination's name of the field.
    field_name: Option<String>,
    /// The part of the record that is at fault, from the field inwards.
    path: Vec<String>,
    duplicate_id: Option<String>,
}

/// The error of one result, or of a part of it.
pub(crate) fn read_error(context: &DecodeContext<'_>, error: &Value<'_>) -> RecordError {
    let results = &context.mapping.results;
    let text = |pointer: &Option<JsonPointer>| pointer.as_ref().and_then(|path| path.find_text(error));
    let code = text(&results.code).unwrap_or_default();
    let own_message = text(&results.message).unwrap_or_default();
    let mut field_name = find_first_text(&results.field, error);
    let mut duplicate_id = None;
    if let Some(duplicate) = &results.duplicate {
        let of_message = |name: &str| {
            let found = match_pattern(duplicate.message.as_deref()?, &own_message)?;
            found.iter().find(|(found, _)| *found == name).map(|(_, text)| Cow::Owned((*text).to_owned()))
        };
        duplicate_id = text(&duplicate.id).or_else(|| of_message("id"));
        field_name = field_name.or_else(|| text(&duplicate.field)).or_else(|| of_message("field"));
    }
    let (place, path) = read_place(results, error);
    let path = match (path.as_slice(), &field_name) {
        ([], Some(name)) => vec![name.to_string()],
        _ => path,
    };
    RecordError {
        class: context.codes.classify(&code, text(&results.qualifier).as_deref()),
        message: compose_message(results, error, &own_message, field_name.as_deref()),
        code: code.into_owned(),
        place,
        field_name: field_name.map(Cow::into_owned),
        path,
        duplicate_id: duplicate_id.filter(|id| is_id(id)).map(Cow::into_owned),
    }
}

fn read_place(results: &ResultsMapping, error: &Value<'_>) -> (ErrorPlace, Vec<String>) {
    let own = (ErrorPlace::Record(None), Vec::new());
    let Some(rule) = &results.index else { return own };
    let Some(text) = find_first_text(&rule.paths, error).filter(|text| text.starts_with('$')) else {
        return own;
    };
    parse_place(&text, &rule.root)
}

/// The place that an error of a whole call names, if it names one.
pub(crate) fn find_place(results: &ResultsMapping, error: &Value<'_>) -> Option<ErrorPlace> {
    let rule = results.index.as_ref()?;
    let text = find_first_text(&rule.paths, error)?;
    Some(parse_place(&text, &rule.root).0)
}

/// The place in the request that a path names, and the part of the record.
fn parse_place(text: &str, root: &str) -> (ErrorPlace, Vec<String>) {
    match text.strip_prefix(root) {
        Some("") | None => (ErrorPlace::Request, Vec::new()),
        Some(rest) => {
            let index = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            match index.and_then(|(index, rest)| Some((index.parse().ok()?, rest))) {
                Some((index, rest)) => (ErrorPlace::Record(Some(index)), split_path(rest)),
                None if rest.starts_with('.') => (ErrorPlace::Record(None), split_path(rest)),
                None => (ErrorPlace::Request, Vec::new()),
            }
        }
    }
}

/// `.Lines[0].Name` as its names.
fn split_path(path: &str) -> Vec<String> {
    path.split(['.', '[', ']']).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The destination's message, and what its details add.
fn compose_message(
    results: &ResultsMapping,
    error: &Value<'_>,
    message: &str,
    field: Option<&str>,
) -> String {
    let mut details: Vec<String> =
        field.filter(|name| !message.contains(*name)).map(str::to_owned).into_iter().collect();
    for hint in &results.hints {
        match hint.find(error) {
            None | Some(Value::Null) => {}
            Some(Value::Str(text)) => details.push(format!("{}: {text}", hint.last_name())),
            Some(value) => details.push(format!("{}: {value}", hint.last_name())),
        }
    }
    let text = match (message, details.as_slice()) {
        (_, []) => message.to_owned(),
        ("", _) => details.join(", "),
        _ => format!("{message} ({})", details.join(", ")),
    };
    shorten(&text)
}

/// The start of a text, without control characters.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

impl RecordError {
    /// An earlier call stored the record: another record has a unique value, and it is this record's own id.
    fn is_own_duplicate(&self, record_type: &TypeMapping) -> bool {
        self.class == CodeClass::Duplicate && self.field_name.as_deref() == Some(&record_type.id_field)
    }

    /// How grave it is for this type: a duplicate of something else is the record's fault.
    fn gravity(&self, record_type: &TypeMapping) -> CodeClass {
        match self.class {
            CodeClass::Duplicate if !self.is_own_duplicate(record_type) => CodeClass::Rejected,
            // The mapping writes the field with the id: its value is never the record's fault.
            CodeClass::Rejected if self.field_name.as_deref() == Some(&record_type.id_field) => {
                CodeClass::Stop
            }
            class => class,
        }
    }

    /// For the device: what the destination said.
    fn describe(&self) -> String {
        shorten(&format!("{}: {}", self.code, self.message))
    }

    /// For logs and health checks: without the message, which may quote the record.
    fn describe_cause(&self) -> String {
        match &self.field_name {
            Some(name) => shorten(&format!("{} (field {name})", self.code)),
            None => shorten(&self.code),
        }
    }

    fn reject(&self, record_type: &TypeMapping) -> Verdict {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let message = match (&self.class, &self.duplicate_id) {
            (CodeClass::Duplicate, Some(id)) => {
                shorten(&format!("possible duplicate of {} {id}: {}", record_type.module(), self.message))
            }
            _ => self.message.clone(),
        };
        let is_shown = |field: &String| *field == shorten(field);
        let field = record_type.point_into_payload(&path).filter(is_shown);
        Verdict::Rejected { code: shorten(&self.code), message, field }
    }
}

/// What became of a record, and why its type stops, if it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryVerdict {
    pub(crate) verdict: Verdict,
    pub(crate) stop: Option<String>,
}

/// The verdict that follows from all errors of a record, by the gravest of them.
pub(crate) fn judge_errors(context: &DecodeContext<'_>, errors: &[RecordError]) -> EntryVerdict {
    let record_type = context.record_type;
    // Of several, people read about the first.
    let Some(worst) = errors.iter().rev().max_by_key(|error| error.gravity(record_type)) else {
        let message = "the destination refused the record without an error";
        return EntryVerdict { verdict: retry_record(context, "", message), stop: None };
    };
    let mut stop = None;
    let verdict = match worst.gravity(record_type) {
        CodeClass::Duplicate => match &worst.duplicate_id {
            Some(id) => build_receipt(record_type.module(), Some(id), Some(EXISTS_ACTION))
                .map_or_else(|| retry_record(context, &worst.code, &worst.message), Verdict::Applied),
            None => retry_record(context, &worst.code, &worst.message),
        },
        CodeClass::Rejected => worst.reject(record_type),
        CodeClass::Stop => {
            stop = Some(worst.describe_cause());
            Verdict::retry(Some(PROBE_INTERVAL), DESTINATION_STOPPED, worst.describe())
        }
        CodeClass::Unclear
        | CodeClass::Retry
        | CodeClass::Throttled
        | CodeClass::Unauthorized
        | CodeClass::TooLarge => retry_record(context, &worst.code, &worst.message),
    };
    EntryVerdict { verdict, stop }
}

fn retry_record(context: &DecodeContext<'_>, code: &str, message: &str) -> Verdict {
    Verdict::retry(Some(context.mapping.limits.record_retry_after), &shorten(code), message)
}

/// The receipt of a record. `None` if it would be too long.
pub(crate) fn build_receipt(module: &str, id: Option<&str>, action: Option<&str>) -> Option<Receipt> {
    Receipt::from_texts([("module", Some(module)), ("id", id), ("action", action)])
}

/// Whether a text can be the destination's id of a record.
pub(crate) fn is_id(text: &str) -> bool {
    let is_id_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    !text.is_empty() && text.len() <= ID_BYTES_MAX && text.bytes().all(is_id_byte)
}
