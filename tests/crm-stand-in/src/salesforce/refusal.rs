//! Refusals of whole calls: `[{"errorCode", "message"}]`.

use serde_json::json;

use crate::call::CrmAnswer;

/// A refusal of a whole call.
#[derive(Clone, Debug)]
pub(super) struct SalesforceRefusal {
    code: String,
    message: String,
}

/// Codes of whole calls, with their HTTP status and what a person reads. [from memory] All but the first four.
const CALL_CODES: [(&str, u16, &str); 12] = [
    ("INVALID_SESSION_ID", 401, "Session expired or invalid"),
    ("REQUEST_LIMIT_EXCEEDED", 403, "TotalRequests Limit exceeded."),
    ("NOT_FOUND", 404, "The requested resource does not exist"),
    ("SERVER_UNAVAILABLE", 503, "The server is temporarily unavailable. Try again later."),
    (
        "UNKNOWN_EXCEPTION",
        500,
        "An unexpected error occurred. Please include this ErrorId if you contact support.",
    ),
    ("METHOD_NOT_ALLOWED", 405, "HTTP Method not allowed."),
    ("INSUFFICIENT_ACCESS", 403, "insufficient access rights on cross-reference id"),
    ("API_DISABLED_FOR_ORG", 403, "The REST API is not enabled for this Organization."),
    ("INVALID_TYPE", 400, "All records of a call must be of the type that the path names"),
    ("EXCEEDED_ID_LIMIT", 400, "The number of records exceeds the limit of the call"),
    ("INVALID_CROSS_REFERENCE_KEY", 400, "invalid cross reference id"),
    ("MALFORMED_REQUEST", 400, "The request is malformed"),
];

/// Whether a code refuses the whole call, and not a record of it.
pub(super) fn is_call_code(code: &str) -> bool {
    CALL_CODES.iter().any(|(known, ..)| *known == code)
}

impl SalesforceRefusal {
    pub(super) fn new(code: &str) -> Self {
        let known = CALL_CODES.iter().find(|(known, ..)| *known == code);
        Self::with_message(code, known.map_or("the call was refused", |(_, _, message)| message))
    }

    pub(super) fn with_message(code: &str, message: &str) -> Self {
        Self { code: code.to_owned(), message: message.to_owned() }
    }

    pub(super) fn code(&self) -> &str {
        &self.code
    }

    /// As the client sees it. A code that is not in the table, such as `JSON_PARSER_ERROR`, is a 400.
    pub(super) fn to_answer(&self) -> CrmAnswer {
        let status =
            CALL_CODES.iter().find(|(known, ..)| *known == self.code).map_or(400, |(_, status, _)| *status);
        CrmAnswer::new(status, json!([{ "errorCode": self.code, "message": self.message }]))
    }
}
