//! Reports of a send: to the journal while it is in progress, to telemetry once it is settled.

use std::time::Duration;

use super::under_way::AwaitedBatch;
use crate::api::BatchReport;
use crate::clock::millis;
use crate::journal;
use crate::model::{Batch, BatchId, BatchPhase, LastError};
use crate::policy::outcome_reply::OutcomeReply;
use crate::policy::scheduler::Disposition;
use crate::policy::service_time::{Forecast, Load};
use crate::policy::verdict::{UploadResult, Verdict};

/// The report of a send, without the number of synced records.
pub(super) fn batch_report(
    batch: &Batch,
    sent: Option<&AwaitedBatch>,
    result: &UploadResult,
    disposition: &Disposition,
    expected: Option<Forecast>,
    time_limit: Duration,
) -> BatchReport {
    let Batch { open, sequence, .. } = batch;
    let UploadResult { verdict, error, elapsed, .. } = result;
    let note = describe_disposition(disposition);
    // This is logged. A message of the server may quote payloads, so only its code is used.
    let said = match error {
        LastError { http_status: Some(status), code: Some(code), .. } => {
            format!("the server responded with HTTP {status} {code}")
        }
        LastError { message, .. } => message.clone(),
    };
    BatchReport {
        id: open.id,
        parent: open.parent,
        sequence: *sequence,
        records: open.records,
        bytes: open.bytes,
        attempt: open.attempt,
        outcome: verdict.outcome().into(),
        http_status: error.http_status,
        duration_ms: millis(*elapsed),
        synced: 0,
        rule: open.rule.into(),
        expected_ms: expected.map(|expected| expected.mean_ms()),
        at_most_ms: expected.map(|expected| expected.upper_ms()),
        time_limit_ms: millis(time_limit),
        in_flight: sent.map_or(1, |sent| sent.in_flight),
        in_flight_rule: sent.map(|sent| sent.rule).unwrap_or_default().into(),
        note: if matches!(verdict, Verdict::Completed(_)) { note } else { format!("{said}: {note}") },
        at: error.at,
    }
}

pub(super) fn describe_disposition(disposition: &Disposition) -> String {
    match disposition {
        Disposition::Close { .. } => "a result for each record".into(),
        Disposition::Keep { phase: BatchPhase::Unclear, .. } => "its outcome is looked up".into(),
        Disposition::Keep { .. } => "it waits to be sent again".into(),
        Disposition::Cut { cut, .. } => format!("cut into {} parts", cut.parts.len()),
        Disposition::Rename { .. } => "it is sent again under a new id".into(),
    }
}

pub(super) fn log_sending(batch: &Batch) {
    let Batch { open, sequence, .. } = batch;
    tracing::debug!(
        batch_id = %open.id,
        records = open.records,
        bytes = open.bytes,
        attempt = open.attempt,
        "batch {} ({sequence}, {} records) is sent, attempt {}",
        open.id,
        open.records,
        open.attempt,
    );
}

/// Failed queries are repeated without limit, so they are logged at debug.
pub(super) fn log_outcome_reply(id: BatchId, reply: &OutcomeReply, disposition: Option<&Disposition>) {
    let class = reply.class();
    match (reply, disposition) {
        (OutcomeReply::Failed | OutcomeReply::Throttled | OutcomeReply::Unreachable, None) => {
            tracing::debug!(batch_id = %id, outcome = class, "batch {id} cannot be looked up: {class}");
        }
        (_, disposition) => {
            let then = disposition.map_or("it is asked for again".to_owned(), describe_disposition);
            tracing::info!(
                name: journal::BATCH_LOOKED_UP,
                batch_id = %id,
                outcome = class,
                "looked up batch {id}: {class}; {then}"
            );
        }
    }
}

/// The part of a batch that its duration depends on.
pub(super) fn load_of(batch: &Batch) -> Load {
    let mut load = Load::default();
    for record in &batch.records {
        load.add_record(&record.record_type, record.payload.len() as u64);
    }
    load
}

pub(super) fn types_of(batch: &Batch) -> Vec<(String, u64)> {
    load_of(batch).types().iter().map(|(name, count)| (name.clone(), u64::from(*count))).collect()
}
