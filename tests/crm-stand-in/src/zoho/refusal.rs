//! Refusals of whole calls.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::call::{CrmAnswer, retry_after_header};
use crate::options::RefusalShape;

use super::ZohoCrm;
use super::error_entry::error_entry;

/// A refusal of a whole call.
#[derive(Clone, Debug)]
pub(super) struct ZohoRefusal {
    code: String,
    details: Value,
    /// Sent as `retry_after` and as a header.
    retry_after: Option<Duration>,
}

/// Codes of whole calls, with their HTTP status and what a person reads.
const CALL_CODES: [(&str, u16, &str); 15] = [
    ("OAUTH_SCOPE_MISMATCH", 401, "invalid oauth scope to access this URL"),
    ("INVALID_TOKEN", 401, "invalid oauth token"),
    ("AUTHENTICATION_FAILURE", 401, "Authentication failed"),
    ("NO_PERMISSION", 403, "permission denied"),
    ("INVALID_URL_PATTERN", 404, "Please check if the URL trying to access is a correct one"),
    ("ALREADY_MODIFIED", 412, "the record has been already modified"),
    ("TOO_MANY_REQUESTS", 429, "Too many requests fired in concurrent"),
    ("RATE_LIMIT_EXCEEDED", 429, "the limit of API calls is exceeded"),
    ("INTERNAL_ERROR", 500, "Internal Server Error"),
    ("SERVICE_UNAVAILABLE", 503, "the service is temporarily unavailable"),
    ("INVALID_MODULE", 400, "the module name given seems to be invalid"),
    ("INVALID_REQUEST_METHOD", 400, "The http request method type is not a valid one"),
    ("AUTHORIZATION_FAILED", 400, "User does not have sufficient privilege"),
    ("LIMIT_EXCEEDED", 400, "the limit of records in a call is exceeded"),
    ("INVALID_HOST", 400, "the domain is not that of the data center"),
];

/// Whether a code refuses the whole call, and not a record of it.
pub(super) fn is_call_code(code: &str) -> bool {
    CALL_CODES.iter().any(|(known, ..)| *known == code)
}

impl ZohoRefusal {
    /// A refusal with the details that are usual for its code.
    pub(super) fn new(code: &str) -> Self {
        let details = match code {
            "INVALID_MODULE" => json!({ "resource_path_index": 0 }),
            "INVALID_REQUEST_METHOD" | "AUTHORIZATION_FAILED" => json!({ "resource_path_index": 1 }),
            "LIMIT_EXCEEDED" => json!({ "maximum_length": 100, "api_name": "data" }),
            "NO_PERMISSION" => json!({ "permissions": ["Crm_Implied_Create_Records"] }),
            _ => json!({}),
        };
        Self::with_details(code, details)
    }

    pub(super) fn with_details(code: &str, details: Value) -> Self {
        Self { code: code.to_owned(), details, retry_after: None }
    }

    /// A refusal of too many calls: with `retry_after`, it also says what the limit is.
    pub(super) fn throttled(code: &str, retry_after: Option<Duration>, limit: u64, window: Duration) -> Self {
        let mut details = Map::new();
        if let Some(wait) = retry_after {
            details.insert("retry_after".into(), wait.as_secs().max(1).into());
            details.insert("limit".into(), limit.into());
            details.insert("window".into(), window.as_secs().into());
            details.insert("trace_id".into(), "4f1c9d8e".into());
        }
        Self { code: code.to_owned(), details: Value::Object(details), retry_after }
    }

    pub(super) fn code(&self) -> &str {
        &self.code
    }

    /// As the client sees it. A request that is wrong as a whole is refused at the top, or in `data`.
    pub(super) fn to_answer(&self, crm: &ZohoCrm) -> CrmAnswer {
        let known = CALL_CODES.iter().find(|(code, ..)| *code == self.code);
        let (status, message) =
            known.map_or((400, "invalid data"), |(_, status, message)| (*status, *message));
        let entry = error_entry(&self.code, message, &self.details);
        let is_in_data = self.code == "ALREADY_MODIFIED"
            || status == 400 && crm.options.refusal_shape == RefusalShape::Data;
        let body = if is_in_data { json!({ "data": [entry] }) } else { entry };
        let mut answer = CrmAnswer::new(status, body);
        answer.headers.extend(self.retry_after.map(retry_after_header));
        answer
    }
}
