//! Points about records that arrive again: each is applied once, whichever batches carry it.

use uuid::Uuid;

use super::concurrent::{CONCURRENT_REQUESTS, send_at_once};
use super::finding::{PointResult, require};
use super::point::{KNOW_RECORDS, Point};
use super::request::KitRequest;
use super::response::BatchResults;
use super::sample::SampleBatch;
use super::server::TestedServer;
use crate::model::{DeviceId, RecordId};
use crate::protocol::wire::{ID_CONFLICT, ID_OF_OTHER_DEVICE, RecordStatus};

/// A race that is lost only sometimes is found in one of so many.
const RACE_ROUNDS: usize = 5;
const RACE_RECORDS: usize = 3;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "records.duplicate",
        title: "A record that is known comes back as duplicate in another batch",
        paragraph: KNOW_RECORDS,
        check: |server| Box::pin(known_records_are_duplicates(server)),
    },
    Point {
        id: "records.mixed",
        title: "New records beside known ones are applied",
        paragraph: KNOW_RECORDS,
        check: |server| Box::pin(new_records_beside_known_ones_are_applied(server)),
    },
    Point {
        id: "records.id-conflict",
        title: "A known id with another payload is rejected with ID_CONFLICT",
        paragraph: KNOW_RECORDS,
        check: |server| Box::pin(other_content_under_a_known_id_is_rejected(server)),
    },
    Point {
        id: "records.other-device",
        title: "The id of a record of another device with another payload is rejected",
        paragraph: KNOW_RECORDS,
        check: |server| Box::pin(the_id_of_another_device_is_rejected(server)),
    },
    Point {
        id: "records.twice-in-batch",
        title: "A record that is in a batch twice is applied at most once",
        paragraph: KNOW_RECORDS,
        check: |server| Box::pin(a_record_twice_in_a_batch_is_applied_once(server)),
    },
    Point {
        id: "records.concurrent",
        title: "The same records in several batches at once are applied once",
        paragraph: KNOW_RECORDS,
        check: |server| Box::pin(records_in_concurrent_batches_are_applied_once(server)),
    },
];

async fn known_records_are_duplicates(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let batch = server.sample_batch(3).unwrap_or(batch);
    server.submit(&batch).await?;
    let results = server.submit(&batch.under_new_id()).await?;
    results.require_all(&batch, RecordStatus::Duplicate, "an earlier batch stored it")
}

async fn new_records_beside_known_ones_are_applied(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(2)?;
    server.submit(&batch.followed_by(vec![batch.records[0].clone()])).await?;
    let results = server.submit(&batch).await?;
    results.require_status(batch.records[0].id, RecordStatus::Duplicate, "an earlier batch stored it")?;
    results.require_status(batch.records[1].id, RecordStatus::Applied, "no earlier batch had it")
}

async fn other_content_under_a_known_id_is_rejected(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    server.submit(&batch).await?;
    let record = &batch.records[0];
    let results = server.submit(&batch.followed_by(vec![record.with_other_payload()])).await?;
    require_conflict(&results, record.id, &[ID_CONFLICT])?;
    let results = server.submit(&batch.under_new_id()).await?;
    results.require_all(
        &batch,
        RecordStatus::Duplicate,
        "the record itself is known, after the conflict, too",
    )
}

fn require_conflict(results: &BatchResults, id: RecordId, codes: &[&str]) -> PointResult {
    let code = results.result_of(id).and_then(|result| result["code"].as_str());
    let holds = results.status_of(id) == Some(RecordStatus::Rejected)
        && code.is_some_and(|code| codes.contains(&code));
    require(holds, format!("`rejected` with the code {}", codes.join(" or ")), || results.text.clone())
}

async fn the_id_of_another_device_is_rejected(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    server.submit(&batch).await?;
    let other = SampleBatch {
        device: DeviceId(Uuid::new_v4()),
        records: vec![batch.records[0].with_other_payload()],
        ..batch.under_new_id()
    };
    let results = server.submit(&other).await?;
    require_conflict(&results, batch.records[0].id, &[ID_OF_OTHER_DEVICE, ID_CONFLICT])
}

async fn a_record_twice_in_a_batch_is_applied_once(server: &TestedServer) -> PointResult {
    let mut batch = server.sample_batch(2)?;
    batch.records[1] = batch.records[0].clone();
    let response = server.send(&KitRequest::post(&batch)).await?;
    if response.is_refusal() {
        return Ok(());
    }
    let results = response.read_results(batch.id)?;
    let applied = results.list().iter().filter(|result| result["status"] == "applied").count();
    require(applied <= 1, "at most one `applied`, or a refusal of the whole batch", || results.text.clone())
}

async fn records_in_concurrent_batches_are_applied_once(server: &TestedServer) -> PointResult {
    for _ in 0..RACE_ROUNDS {
        let records = server.records_max().map_or(RACE_RECORDS, |limit| limit.min(RACE_RECORDS));
        race_batches(server, &server.sample_batch(records)?).await?;
    }
    Ok(())
}

async fn race_batches(server: &TestedServer, batch: &SampleBatch) -> PointResult {
    let batches: Vec<SampleBatch> = (0..CONCURRENT_REQUESTS).map(|_| batch.under_new_id()).collect();
    let requests: Vec<KitRequest> = batches.iter().map(KitRequest::post).collect();
    let responses = send_at_once(server, &requests).await?;
    let mut settled = Vec::new();
    for (batch, response) in batches.iter().zip(responses) {
        let response = response?;
        // The first response says most; where it is something else, the batch is settled as by a device.
        let results = if response.has_results() {
            response.read_results(batch.id)?
        } else {
            server.submit(batch).await?
        };
        settled.push(results);
    }
    for id in batch.record_ids() {
        let applied =
            settled.iter().filter(|results| results.status_of(id) == Some(RecordStatus::Applied)).count();
        let expected = format!("`applied` in one of {CONCURRENT_REQUESTS} batches with the record {id}");
        require(applied == 1, expected, || format!("`applied` in {applied} of them"))?;
        let is_stored = settled.iter().all(|results| results.status_of(id) != Some(RecordStatus::Rejected));
        require(is_stored, "`duplicate` or `retry` in the other batches", || "`rejected`".to_owned())?;
    }
    Ok(())
}
