//! The responses of the server, in the protocol and without it.

use std::str::FromStr;

use fieldsync::model::{BatchId, RecordId};
use fieldsync::protocol::wire::{
    BatchResponse, ErrorBody, Processing, ProcessingState, RecordResult, RecordStatus, UNKNOWN_BATCH,
};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::ledger::{AppliedRecord, BatchState};
use crate::record::id_of;

pub(crate) type Reply = Response<Full<Bytes>>;

const FIREWALL_PAGE: &str = "<!DOCTYPE html><title>Request blocked</title><h1>403 Forbidden</h1>";

/// The results of a batch of the protocol.
pub(crate) fn to_batch(id: &str, applied: &[AppliedRecord], replayed: bool) -> Reply {
    let result = |record: &AppliedRecord| {
        let status = if record.is_new { RecordStatus::Applied } else { RecordStatus::Duplicate };
        RecordResult::new(record_id(record.number), status)
    };
    let results = applied.iter().map(result).collect();
    json(StatusCode::OK, &BatchResponse { batch_id: batch_id(id), replayed, results })
}

/// The response to a batch that was sent before.
pub(crate) fn to_resend(id: &str, known: &BatchState) -> Reply {
    match known {
        BatchState::Applied(applied) => to_batch(id, applied, true),
        BatchState::Processing => {
            with_retry_after(json(StatusCode::CONFLICT, &ErrorBody::new("BATCH_IN_PROGRESS", "not finished")))
        }
    }
}

/// The response to an outcome query.
pub(crate) fn to_query(id: &str, known: Option<&BatchState>) -> Reply {
    match known {
        None => json(StatusCode::NOT_FOUND, &ErrorBody::new(UNKNOWN_BATCH, "never received")),
        Some(BatchState::Applied(applied)) => to_batch(id, applied, true),
        Some(BatchState::Processing) => {
            let processing = Processing { batch_id: batch_id(id), state: ProcessingState::Processing };
            with_retry_after(json(StatusCode::ACCEPTED, &processing))
        }
    }
}

/// The response to a client without the protocol.
pub(crate) fn to_plain_post(records: usize) -> Reply {
    json(StatusCode::OK, &serde_json::json!({ "accepted": records }))
}

pub(crate) fn forbidden() -> Reply {
    let mut reply = with_status(StatusCode::FORBIDDEN);
    *reply.body_mut() = FIREWALL_PAGE.into();
    reply.headers_mut().insert(CONTENT_TYPE, "text/html".parse().expect("a header value"));
    reply
}

pub(crate) fn with_status(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply
}

fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    let mut reply = with_status(status);
    *reply.body_mut() = serde_json::to_vec(value).expect("a response is JSON").into();
    reply.headers_mut().insert(CONTENT_TYPE, "application/json".parse().expect("a header value"));
    reply
}

fn with_retry_after(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(RETRY_AFTER, "1".parse().expect("a header value"));
    reply
}

fn batch_id(id: &str) -> BatchId {
    BatchId::from_str(id).expect("the device sends UUIDs")
}

fn record_id(number: usize) -> RecordId {
    RecordId::from_str(&id_of(number)).expect("ids are UUIDs")
}
