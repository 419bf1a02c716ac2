//! Points about records of one key: no record is applied before an earlier one of its key.
//!
//! No server rejects the same records as another, except for a known id with another payload. So the kit uses such a
//! record where it needs one that is not applied.

use super::finding::{Finding, PointResult, require};
use super::point::{KEEP_ORDER, Point};
use super::request::KitRequest;
use super::response::BatchResults;
use super::sample::{SampleBatch, SampleRecord};
use super::server::TestedServer;
use crate::protocol::wire::{HOLDS_KEYS, RecordStatus};

const KEY: &str = "conformance-key";
const OTHER_KEY: &str = "conformance-other-key";
/// Code of a record behind one of its key that was not applied.
const HELD: &str = "HELD";

/// How many records stand behind a rejected one.
const HELD_RECORDS: usize = 3;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "order.same-key",
        title: "Several records of a key in one batch are applied",
        paragraph: KEEP_ORDER,
        check: |server| Box::pin(records_of_a_key_are_applied(server)),
    },
    Point {
        id: "order.held",
        title: "Records behind a rejected one of their key get retry with HELD, and are not applied",
        paragraph: KEEP_ORDER,
        check: |server| Box::pin(a_record_behind_a_rejected_one_is_not_applied(server)),
    },
    Point {
        id: "order.other-keys",
        title: "A rejected record does not hold records of other keys, or without a key",
        paragraph: KEEP_ORDER,
        check: |server| Box::pin(other_keys_are_not_held(server)),
    },
    Point {
        id: "order.header",
        title: "A server that holds keys says so on outcome queries, too",
        paragraph: KEEP_ORDER,
        check: |server| Box::pin(the_header_is_on_all_responses(server)),
    },
];

fn holds_keys(results: &BatchResults) -> bool {
    results.headers.get(HOLDS_KEYS).is_some_and(|value| value == "true")
}

/// A record of the key that the server will reject, and the results that show whether it holds keys.
async fn prepare_conflict(server: &TestedServer) -> PointResult<(SampleBatch, SampleRecord)> {
    let mut batch = server.sample_batch(1)?;
    batch.records[0].key = Some(KEY.into());
    let results = server.submit(&batch).await?;
    if !holds_keys(&results) {
        return Err(Finding::skipped(
            "the server does not send X-Sync-Holds-Keys: true, so that no batch for it has two records of a key",
        ));
    }
    let conflict = batch.records[0].with_other_payload();
    Ok((batch, conflict))
}

/// The results of a batch that starts with the record to be rejected.
async fn submit_behind_conflict(
    server: &TestedServer,
    batch: &SampleBatch,
    conflict: &SampleRecord,
) -> PointResult<BatchResults> {
    if server.records_max().is_some_and(|limit| limit < batch.records.len()) {
        return Err(Finding::skipped("the server takes too few records in a batch (X-Sync-Max-Records)"));
    }
    let results = server.submit(batch).await?;
    if results.status_of(conflict.id) != Some(RecordStatus::Rejected) {
        return Err(Finding::skipped(
            "the server did not reject the known id with another payload (see records.id-conflict)",
        ));
    }
    Ok(results)
}

async fn records_of_a_key_are_applied(server: &TestedServer) -> PointResult {
    let (first, _) = prepare_conflict(server).await?;
    let limit = server.records_max().unwrap_or(4).min(4);
    let batch = first.followed_by((0..limit).map(|_| server.sample_record().with_key(KEY)).collect());
    let results = server.submit(&batch).await?;
    results.require_all(&batch, RecordStatus::Applied, "every record before it in its key was applied")
}

async fn a_record_behind_a_rejected_one_is_not_applied(server: &TestedServer) -> PointResult {
    let (first, conflict) = prepare_conflict(server).await?;
    // Each is behind one that this batch does not apply: the first behind the rejected record, the others behind `retry`.
    let count = server.records_max().unwrap_or(usize::MAX).clamp(2, HELD_RECORDS + 1) - 1;
    let behind: Vec<_> = (0..count).map(|_| server.sample_record().with_key(KEY)).collect();
    let batch = first.followed_by([std::slice::from_ref(&conflict), &behind[..]].concat());
    let results = submit_behind_conflict(server, &batch, &conflict).await?;
    for record in &behind {
        let result = results.result_of(record.id);
        let is_held = results.status_of(record.id) == Some(RecordStatus::Retry)
            && result.is_some_and(|result| result["code"] == HELD);
        require(is_held, format!("`retry` with the code {HELD} for the record {}", record.id), || {
            results.text.clone()
        })?;
    }
    let alone = first.followed_by(behind);
    let results = server.submit(&alone).await?;
    results.require_all(&alone, RecordStatus::Applied, "it was held and not stored, and arrives alone now")
}

async fn other_keys_are_not_held(server: &TestedServer) -> PointResult {
    let (first, conflict) = prepare_conflict(server).await?;
    let others = [server.sample_record().with_key(OTHER_KEY), server.sample_record()];
    let batch = first.followed_by([vec![conflict.clone()], others.to_vec()].concat());
    let results = submit_behind_conflict(server, &batch, &conflict).await?;
    for record in &others {
        let because = "the rejected record is not of its key";
        results.require_status(record.id, RecordStatus::Applied, because)?;
    }
    Ok(())
}

async fn the_header_is_on_all_responses(server: &TestedServer) -> PointResult {
    let (batch, _) = prepare_conflict(server).await?;
    let replay = server.send(&KitRequest::resend(&batch, 2)).await?;
    let query = server.send(&KitRequest::look_up(batch.device, batch.id)).await?;
    for (name, response) in [("resend", replay), ("outcome query", query)] {
        if response.has_results() {
            let expected =
                format!("`X-Sync-Holds-Keys: true` on the response to the {name}, as on the first one");
            require(response.header(HOLDS_KEYS) == Some("true"), expected, || {
                format!("{} with the headers {:?}", response.describe(), response.headers)
            })?;
        }
    }
    Ok(())
}
