//! Points about batches that arrive again: the first response is kept, and repeated.

use hyper::header::RETRY_AFTER;
use uuid::Uuid;

use super::concurrent::{CONCURRENT_REQUESTS, send_at_once};
use super::finding::{Finding, PointResult, require};
use super::point::{KNOW_BATCHES, Point, REFUSE};
use super::request::KitRequest;
use super::response::{BatchResults, KitResponse};
use super::sample::{SampleBatch, SampleRecord};
use super::server::TestedServer;
use super::settling::is_unclear;
use crate::model::DeviceId;
use crate::protocol::wire::{BATCH_ID_REUSED, RecordStatus};
use crate::retry_after::parse_retry_after;

const REPLAYED: &str = "HTTP 200 or 207 with the results and `\"replayed\": true`";

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "batches.replay",
        title: "A resend gets a response that says that it is a replay",
        paragraph: KNOW_BATCHES,
        check: |server| Box::pin(a_resend_is_replayed(server)),
    },
    Point {
        id: "batches.same-results",
        title: "A replay has the results of the first response",
        paragraph: KNOW_BATCHES,
        check: |server| Box::pin(a_replay_has_the_first_results(server)),
    },
    Point {
        id: "batches.kept",
        title: "The response is kept after it was repeated",
        paragraph: KNOW_BATCHES,
        check: |server| Box::pin(a_response_is_kept_after_its_replay(server)),
    },
    Point {
        id: "batches.id-reused",
        title: "A known batch id with another body gets 422 BATCH_ID_REUSED, and nothing of it is applied",
        paragraph: KNOW_BATCHES,
        check: |server| Box::pin(another_body_under_a_known_id_is_refused(server)),
    },
    Point {
        id: "batches.after-415",
        title: "A batch that got 415 is sent again under its id, and applied",
        paragraph: REFUSE,
        check: |server| Box::pin(a_batch_may_be_sent_again_after_415(server)),
    },
    Point {
        id: "batches.per-device",
        title: "The same batch id of another device is another batch",
        paragraph: KNOW_BATCHES,
        check: |server| Box::pin(a_batch_id_belongs_to_its_device(server)),
    },
    Point {
        id: "batches.concurrent",
        title: "The same batch several times at once gets one response",
        paragraph: KNOW_BATCHES,
        check: |server| Box::pin(concurrent_resends_get_one_response(server)),
    },
    Point {
        id: "batches.processing",
        title: "A resend of a batch that is being processed gets 409 with Retry-After",
        paragraph: KNOW_BATCHES,
        check: |server| Box::pin(a_resend_during_processing_has_to_wait(server)),
    },
];

async fn a_resend_is_replayed(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    server.submit(&batch).await?;
    let again = server.send(&KitRequest::resend(&batch, 2)).await?;
    let results = again.read_results(batch.id)?;
    require(results.is_replayed, REPLAYED, || results.text.clone())
}

async fn a_replay_has_the_first_results(server: &TestedServer) -> PointResult {
    let batch = mixed_batch(server).await?;
    let first = server.submit(&batch).await?;
    let again = server.send(&KitRequest::resend(&batch, 2)).await?.read_results(batch.id)?;
    require_same_results(&first, &again)
}

/// A batch whose results are of several kinds: `applied`, `duplicate` and `rejected`.
pub(super) async fn mixed_batch(server: &TestedServer) -> PointResult<SampleBatch> {
    let known = server.sample_batch(1)?;
    let known = server.sample_batch(2).unwrap_or(known);
    server.submit(&known).await?;
    let records = [Some(server.sample_record()), known.records.first().cloned()];
    let conflict = known.records.get(1).map(SampleRecord::with_other_payload);
    let records = records.into_iter().chain([conflict]).flatten();
    Ok(known.followed_by(records.take(server.records_max().unwrap_or(usize::MAX)).collect()))
}

fn require_same_results(first: &BatchResults, again: &BatchResults) -> PointResult {
    let expected = format!("the results of the first response, {}", first.results);
    require(again.results == first.results, expected, || again.text.clone())
}

async fn a_response_is_kept_after_its_replay(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    server.submit(&batch).await?;
    for attempt in 2..=4 {
        let again = server.send(&KitRequest::resend(&batch, attempt)).await?;
        // Whether the first replay is one, and what it says, are points of their own.
        if attempt > 2 {
            let results = again.read_results(batch.id)?;
            let expected =
                format!("`\"replayed\": true` for attempt {attempt}, as for the attempts before it");
            require(results.is_replayed, expected, || results.text.clone())?;
        }
    }
    Ok(())
}

async fn another_body_under_a_known_id_is_refused(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    server.submit(&batch).await?;
    let other = SampleBatch { records: vec![server.sample_record()], ..batch.clone() };
    let other_payload = SampleBatch { records: vec![batch.records[0].with_other_payload()], ..batch.clone() };
    for (body, what) in [(&other, "another record"), (&other_payload, "another payload of the record")] {
        let response = server.send(&KitRequest::post(body)).await?;
        let is_refused =
            response.status.as_u16() == 422 && response.error_code().as_deref() == Some(BATCH_ID_REUSED);
        let expected = format!("HTTP 422 with the code {BATCH_ID_REUSED} for {what}");
        require(is_refused, expected, || response.describe())?;
    }
    let results = server.submit(&other.under_new_id()).await?;
    results.require_all(
        &other,
        RecordStatus::Applied,
        "the request that was refused with 422 applied nothing",
    )
}

async fn a_batch_may_be_sent_again_after_415(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let encoded = KitRequest::post(&batch).with_encoded_body("x-conformance", batch.body());
    let response = server.send(&encoded).await?;
    if response.status.as_u16() != 415 {
        return Err(Finding::skipped("an unknown encoding did not get 415 (see hostile.unknown-encoding)"));
    }
    let results = server.settle(&KitRequest::resend(&batch, 2), batch.device, batch.id).await?;
    results.require_all(
        &batch,
        RecordStatus::Applied,
        "devices send it again uncompressed, under the same id",
    )
}

async fn a_batch_id_belongs_to_its_device(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    server.submit(&batch).await?;
    let other = SampleBatch {
        device: DeviceId(Uuid::new_v4()),
        records: vec![server.sample_record()],
        ..batch.clone()
    };
    let results = server.submit(&other).await?;
    results.require_all(&other, RecordStatus::Applied, "no other batch of this device has this id")
}

async fn concurrent_resends_get_one_response(server: &TestedServer) -> PointResult {
    let batch = server.large_batch();
    let requests = vec![KitRequest::post(&batch); CONCURRENT_REQUESTS];
    let responses = send_at_once(server, &requests).await?;
    let mut completed = Vec::new();
    for response in responses {
        let response = response?;
        if response.has_results() {
            completed.push(response.read_results(batch.id)?);
        } else {
            let may_wait = is_unclear(&response) || response.status.as_u16() == 429;
            let expected = "results, or 409 while the batch is being processed";
            require(may_wait, expected, || response.describe())?;
        }
    }
    let firsts: Vec<_> = completed.iter().filter(|results| !results.is_replayed).collect();
    require(firsts.len() <= 1, "one first response, and replays of it", || {
        format!("{} responses with `\"replayed\": false`", firsts.len())
    })?;
    for results in firsts {
        results.require_all(&batch, RecordStatus::Applied, "no other batch has its records")?;
    }
    server.submit(&batch).await?;
    let results = server.submit(&batch.under_new_id()).await?;
    results.require_all(&batch, RecordStatus::Duplicate, "the requests before it stored the records")
}

async fn a_resend_during_processing_has_to_wait(server: &TestedServer) -> PointResult {
    let batch = server.large_batch();
    let requests = vec![KitRequest::post(&batch); CONCURRENT_REQUESTS];
    let responses: Vec<KitResponse> =
        send_at_once(server, &requests).await?.into_iter().collect::<PointResult<_>>()?;
    server.submit(&batch).await?;
    let waiting: Vec<_> = responses.iter().filter(|response| response.status.as_u16() == 409).collect();
    if waiting.is_empty() {
        return Err(Finding::skipped(
            "the server was too fast: no resend met a batch that was being processed",
        ));
    }
    for response in waiting {
        let has_wait = parse_retry_after(&response.headers).is_some();
        require(has_wait, "`Retry-After` with seconds or an HTTP date, with the 409", || {
            let value = response.headers.get(RETRY_AFTER);
            format!("{value:?} with {}", response.describe())
        })?;
    }
    Ok(())
}
