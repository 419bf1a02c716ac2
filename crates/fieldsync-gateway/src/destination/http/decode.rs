//! From the response to a call to a verdict for each of its records, or to the trouble that the call met.
//!
//! Pure, and careful: what is not certainly the destination's answer to this call leaves its outcome unknown.

use std::time::Duration;

use actix_web::web::Bytes;
use serde_json_borrow::Value;

use super::codes::CodeClass;
use super::pointer::JsonPointer;
use super::record_error::{DecodeContext, ErrorPlace, RecordError, build_receipt, find_place, shorten};
use super::results::{OrderedResults, ResultsTrouble, read_results};
use crate::destination::delivery::Verdict;
use crate::model::RecordId;

/// All records of a batch wait as long as the one that waits longest.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// The response to a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallResponse {
    pub(crate) status: u16,
    /// The header of that name.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) credits_left: Option<u64>,
    pub(crate) body: Bytes,
}

/// What a response says about the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecodedCall {
    /// In the order of the records.
    pub(crate) verdicts: Vec<Verdict>,
    /// Why the record type stops, if it does.
    pub(crate) stop: Option<String>,
    /// Whether it is certain that each verdict is that of its record.
    pub(crate) is_certain: bool,
}

/// Trouble of a whole call. It says nothing against a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallTrouble {
    /// The destination may have applied all, some or none of the records.
    Unknown { reason: String },
    /// Too many calls, or the destination is busy.
    Throttled {
        after: Option<Duration>,
        /// How many calls at a time it allows, if it says so.
        limit: Option<usize>,
        /// The number of calls is the cause.
        is_limit: bool,
        reason: String,
    },
    /// The token is not accepted.
    AuthExpired {
        reason: String,
        /// The destination says so itself, with a code.
        is_named: bool,
    },
    /// An operator has to act: the destination says so with a code that the mapping knows.
    Stopped { reason: String },
    /// An operator has to act, or one of the records is the cause: the response does not tell which.
    Denied { reason: String },
    /// The records may be taken later.
    Later { after: Duration, code: String, message: String },
    /// One of the records may be the cause.
    Refused {
        code: String,
        message: String,
        /// The error names the record, or the destination takes all records of a call or none.
        is_certain: bool,
    },
    /// Fewer records may pass.
    TooLarge {
        reason: String,
        /// The bytes are too many, and not the records.
        is_by_bytes: bool,
    },
}

/// The error of a whole call.
struct CallError {
    code: String,
    message: String,
    after: Option<Duration>,
    limit: Option<usize>,
    /// The part of the request that it names, if it names one.
    place: Option<ErrorPlace>,
}

/// What the response to a call with the records `ids` means.
pub(crate) fn decode_response(
    context: &DecodeContext<'_>,
    response: &CallResponse,
    ids: &[RecordId],
) -> Result<DecodedCall, CallTrouble> {
    let results = &context.mapping.results;
    let status = response.status;
    let has_results = match results.statuses.as_slice() {
        [] => (200..300).contains(&status),
        statuses => statuses.contains(&status),
    };
    if has_results && results.path.is_none() && response.body.trim_ascii().is_empty() {
        return apply_all(context, ids);
    }
    // A page of a proxy is no confirmation, whatever its status is.
    let body = serde_json::from_slice::<Value<'_>>(&response.body);
    let Ok(body) = body else { return Err(judge_status(response, None)) };
    if has_results && results.path.is_none() {
        return apply_all(context, ids);
    }
    let has_array = |path: &Option<JsonPointer>| {
        path.as_ref().and_then(|path| path.find(&body)).is_some_and(Value::is_array)
    };
    if has_results && (has_array(&results.path) || has_array(&results.errors_path)) {
        return match read_results(context, &body, ids) {
            Ok(ordered) => Ok(collect_entries(ordered)),
            Err(ResultsTrouble::CallError(error)) => Err(judge_lone_error(context, response, &body, &error)),
            Err(ResultsTrouble::Unusable(reason)) => Err(CallTrouble::Unknown { reason: reason.into() }),
        };
    }
    Err(judge_call_error(context, response, read_call_error(context, &body)))
}

fn apply_all(context: &DecodeContext<'_>, ids: &[RecordId]) -> Result<DecodedCall, CallTrouble> {
    let receipt = build_receipt(context.record_type.module(), None, None).ok_or_else(|| {
        CallTrouble::Unknown { reason: "the module's name is too long for a receipt".into() }
    })?;
    Ok(DecodedCall {
        verdicts: ids.iter().map(|_| Verdict::Applied(receipt.clone())).collect(),
        stop: None,
        is_certain: true,
    })
}

fn collect_entries(ordered: OrderedResults) -> DecodedCall {
    let mut stop = None;
    let verdicts = ordered
        .entries
        .into_iter()
        .map(|entry| {
            stop = stop.take().or(entry.stop);
            entry.verdict
        })
        .collect();
    DecodedCall { verdicts, stop, is_certain: ordered.is_certain }
}

fn judge_lone_error(
    context: &DecodeContext<'_>,
    response: &CallResponse,
    body: &Value<'_>,
    error: &RecordError,
) -> CallTrouble {
    let own = read_call_error(context, body);
    let (after, limit) = own.map_or((None, None), |own| (own.after, own.limit));
    let place = Some(error.place.clone());
    let call_error =
        CallError { code: error.code.clone(), message: error.message.clone(), after, limit, place };
    judge_call_error(context, response, Some(call_error))
}

fn read_call_error(context: &DecodeContext<'_>, body: &Value<'_>) -> Option<CallError> {
    let rule = &context.mapping.call_error;
    let error = rule.paths.iter().find_map(|path| path.find(body).filter(|error| error.is_object()))?;
    let code = rule.code.as_ref()?.find_text(error).filter(|code| !code.is_empty())?;
    let message = rule.message.as_ref().and_then(|path| path.find_text(error)).unwrap_or_default();
    let number = |path: &Option<JsonPointer>| path.as_ref()?.find_text(error)?.parse::<u64>().ok();
    let limits = &context.mapping.limits;
    Some(CallError {
        code: code.into_owned(),
        message: shorten(&message),
        after: number(&limits.retry_after).map(Duration::from_secs),
        limit: number(&limits.announced).and_then(|limit| usize::try_from(limit).ok()),
        place: find_place(&context.mapping.results, error),
    })
}

fn judge_call_error(
    context: &DecodeContext<'_>,
    response: &CallResponse,
    error: Option<CallError>,
) -> CallTrouble {
    let Some(error) = error else { return judge_status(response, None) };
    // Logs and health checks show it: a message may quote a record.
    let reason = shorten(&format!("{} (status {})", error.code, response.status));
    let class = match context.codes.find(&error.code, None) {
        // The destination itself failed, whatever the code means for a record.
        _ if response.status >= 500 => return judge_status(response, Some(reason)),
        Some(class) => class,
        None if context.mapping.atomic => context.codes.other(),
        None => return judge_status(response, Some(reason)),
    };
    match class {
        CodeClass::Stop => CallTrouble::Stopped { reason },
        CodeClass::Rejected if error.place == Some(ErrorPlace::Request) => CallTrouble::Stopped { reason },
        CodeClass::Rejected => CallTrouble::Refused {
            code: shorten(&error.code),
            message: error.message,
            is_certain: context.mapping.atomic || matches!(error.place, Some(ErrorPlace::Record(Some(_)))),
        },
        CodeClass::Throttled => CallTrouble::Throttled {
            after: error.after.or(response.retry_after),
            limit: error.limit.filter(|limit| *limit > 0),
            is_limit: true,
            reason,
        },
        CodeClass::Unauthorized => CallTrouble::AuthExpired { reason, is_named: true },
        CodeClass::TooLarge => CallTrouble::TooLarge { reason, is_by_bytes: false },
        CodeClass::Retry => {
            let after = error.after.unwrap_or(context.mapping.limits.record_retry_after).min(RETRY_AFTER_MAX);
            CallTrouble::Later { after, code: shorten(&error.code), message: error.message }
        }
        CodeClass::Duplicate | CodeClass::Unclear => CallTrouble::Unknown { reason },
    }
}

/// What a status code means without an error of the destination, or with one that is in no list.
fn judge_status(response: &CallResponse, reason: Option<String>) -> CallTrouble {
    let status = response.status;
    let is_error = reason.is_some();
    let reason =
        reason.unwrap_or_else(|| format!("the response with status {status} is not the destination's"));
    match status {
        401 => CallTrouble::AuthExpired { reason, is_named: is_error },
        403..=405 | 410 => CallTrouble::Denied { reason },
        413 => CallTrouble::TooLarge { reason, is_by_bytes: true },
        // Without a word of the destination, a proxy whose server died over one record looks the same.
        503 if !is_error && response.retry_after.is_none() => CallTrouble::Unknown { reason },
        429 | 503 => CallTrouble::Throttled {
            after: response.retry_after,
            limit: None,
            is_limit: status == 429,
            reason,
        },
        408 => CallTrouble::Unknown { reason },
        400..500 if is_error => CallTrouble::Denied { reason },
        _ => CallTrouble::Unknown { reason },
    }
}
