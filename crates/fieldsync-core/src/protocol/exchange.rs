//! The result of one request: the response, or how much of the request was sent.
//!
//! The transport fills these types in; [`crate::policy::verdict`] decides what they mean for a batch.

use std::time::Duration;

use crate::model::{BatchId, ConnectFailure};
use crate::protocol::receipt::Receipt;
use crate::protocol::wire::{BatchResponse, ErrorDetail};

/// The longest server text that is stored, in characters: each record of a batch keeps a copy.
const TEXT_CHARS_MAX: usize = 200;

/// The result of one request.
#[derive(Clone, Debug)]
pub enum RequestResult {
    /// A complete response arrived.
    Response(Response),
    /// No complete response arrived.
    Failure(RequestFailure),
}

/// A response, decoded.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, counted from now.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: ResponseBody,
}

/// What the body of a response is.
#[derive(Clone, Debug, PartialEq)]
pub enum ResponseBody {
    /// The results of a batch.
    Batch(BatchResponse),
    /// `{"state": "processing"}` for this batch.
    Processing(BatchId),
    /// An error in the protocol's format.
    Error(ErrorDetail),
    /// Any other JSON.
    OtherJson,
    /// HTML, plain text, anything else.
    NotJson,
    /// The content encoding could not be undone; the reason, for people.
    Undecodable(String),
    /// No body.
    Empty,
}

/// Why there is no response.
#[derive(Clone, Debug)]
pub struct RequestFailure {
    /// How much of the request was sent.
    pub delivery: Delivery,
    /// For people: what failed.
    pub message: String,
    /// Why no connection could be opened, if that is the reason.
    pub connect_failure: Option<ConnectFailure>,
}

impl RequestFailure {
    /// A failure on an open connection, or before one was needed.
    pub fn new(delivery: Delivery, message: impl Into<String>) -> Self {
        Self { delivery, message: message.into(), connect_failure: None }
    }
}

/// How much of a request without a response was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Certainly not all of it: the server cannot have the batch.
    NotSent,
    /// The link was too slow, and the transport gave up before the whole request was out.
    Partial,
    /// All of it; then the connection was lost.
    Sent,
    /// All of it; then the time limit passed.
    TimedOut,
}

/// What the server says for the next batches, in headers of its own responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerHints {
    /// `X-Sync-Max-Records`
    pub max_records: Option<usize>,
    /// `X-Sync-Max-Bytes`
    pub max_bytes: Option<u64>,
    /// `X-Sync-Max-In-Flight`
    pub max_in_flight: Option<usize>,
    /// `X-Sync-Time-Budget-Ms`
    pub time_budget: Option<Duration>,
    /// `X-Sync-Holds-Keys: true`
    pub holds_keys: bool,
}

impl Response {
    /// Whether the response follows the protocol: its JSON, for this batch or as an error. Advice in any other
    /// response is followed for a short time, or not at all.
    pub fn is_protocol(&self, id: BatchId) -> bool {
        match &self.body {
            ResponseBody::Batch(batch) => batch.batch_id == id,
            ResponseBody::Processing(batch) => *batch == id,
            ResponseBody::Error(_) => true,
            ResponseBody::OtherJson
            | ResponseBody::NotJson
            | ResponseBody::Undecodable(_)
            | ResponseBody::Empty => false,
        }
    }
}

impl RequestResult {
    /// Whether this is a response that follows the protocol, to a request about batch `id`.
    pub fn is_protocol(&self, id: BatchId) -> bool {
        matches!(self, Self::Response(response) if response.is_protocol(id))
    }

    /// Whether the server repeated the results of an earlier request, whose response may have been lost.
    pub fn is_replayed(&self) -> bool {
        matches!(self, Self::Response(Response { body: ResponseBody::Batch(batch), .. }) if batch.replayed)
    }

    /// Drops receipts that do not meet a condition.
    pub fn retain_receipts(&mut self, keep: impl Fn(&Receipt) -> bool) {
        if let Self::Response(Response { body: ResponseBody::Batch(batch), .. }) = self {
            for result in &mut batch.results {
                result.receipt = result.receipt.take().filter(&keep);
            }
        }
    }

    /// Applies `change` to every text that did not come from this device, but for receipts.
    pub fn each_text(&mut self, mut change: impl FnMut(&mut String)) {
        match self {
            Self::Response(Response { body: ResponseBody::Batch(batch), .. }) => {
                let results = batch.results.iter_mut();
                let texts = results
                    .flat_map(|result| [&mut result.code, &mut result.message, &mut result.field])
                    .flatten();
                texts.for_each(change);
            }
            Self::Response(Response { body: ResponseBody::Error(detail), .. }) => {
                [&mut detail.code, &mut detail.message].into_iter().for_each(change);
            }
            Self::Response(_) => {}
            Self::Failure(failure) => change(&mut failure.message),
        }
    }
}

/// A server text, cut to the stored length. Control characters could look like a row in a raw store, so they are
/// replaced.
pub fn truncate_text(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(end);
    }
    if text.contains(char::is_control) { text.replace(char::is_control, "\u{fffd}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_texts_are_cut_between_characters() {
        assert_eq!(truncate_text("ä".repeat(500)).chars().count(), TEXT_CHARS_MAX);
        assert_eq!(truncate_text("short".into()), "short");
        assert_eq!(truncate_text("fsr1\0\n".into()), "fsr1\u{fffd}\u{fffd}");
    }
}
