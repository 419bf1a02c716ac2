//! Points about outcome queries.

use std::pin::pin;

use futures_util::future::{Either, select};
use uuid::Uuid;

use super::batches::mixed_batch;
use super::finding::{Finding, PointResult, require};
use super::point::{LOOK_UP, Point, REFUSE};
use super::request::KitRequest;
use super::response::{KitResponse, OutcomeState};
use super::sample::SampleBatch;
use super::server::TestedServer;
use crate::model::DeviceId;
use crate::protocol::wire::{RecordStatus, UNKNOWN_BATCH};

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "lookup.completed",
        title: "The outcome of a batch can be looked up: its results, as a replay",
        paragraph: LOOK_UP,
        check: |server| Box::pin(the_outcome_is_found(server)),
    },
    Point {
        id: "lookup.unknown",
        title: "A batch that never arrived gets 404 UNKNOWN_BATCH",
        paragraph: LOOK_UP,
        check: |server| Box::pin(an_unknown_batch_gets_404(server)),
    },
    Point {
        id: "lookup.then-sent",
        title: "A batch can be sent after its id was looked up",
        paragraph: LOOK_UP,
        check: |server| Box::pin(a_query_does_not_take_the_id(server)),
    },
    Point {
        id: "lookup.other-device",
        title: "A batch of another device is not found",
        paragraph: LOOK_UP,
        check: |server| Box::pin(a_batch_of_another_device_is_not_found(server)),
    },
    Point {
        id: "lookup.processing",
        title: "A batch that is being processed gets 202 with the state processing",
        paragraph: LOOK_UP,
        check: |server| Box::pin(a_batch_in_flight_gets_202(server)),
    },
    Point {
        id: "lookup.not-an-id",
        title: "A query for something that is not a batch id is refused",
        paragraph: REFUSE,
        check: |server| Box::pin(a_query_for_nonsense_is_refused(server)),
    },
];

async fn the_outcome_is_found(server: &TestedServer) -> PointResult {
    let batch = mixed_batch(server).await?;
    let first = server.submit(&batch).await?;
    let found = server.send(&KitRequest::look_up(batch.device, batch.id)).await?.read_results(batch.id)?;
    let expected = format!("`\"replayed\": true` with the results {}", first.results);
    require(found.is_replayed && found.results == first.results, expected, || found.text.clone())
}

async fn an_unknown_batch_gets_404(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let response = server.send(&KitRequest::look_up(batch.device, batch.id)).await?;
    let is_unknown = matches!(response.read_outcome(batch.id), OutcomeState::Unknown);
    require(is_unknown, format!("HTTP 404 with the code {UNKNOWN_BATCH}"), || response.describe())
}

async fn a_query_does_not_take_the_id(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    server.look_up(&batch).await?;
    let results = server.submit(&batch).await?;
    results.require_all(&batch, RecordStatus::Applied, "a query before it stores nothing")
}

async fn a_batch_of_another_device_is_not_found(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    server.submit(&batch).await?;
    let other = SampleBatch { device: DeviceId(Uuid::new_v4()), ..batch };
    let response = server.send(&KitRequest::look_up(other.device, other.id)).await?;
    require(!response.status.is_success(), format!("HTTP 404 with the code {UNKNOWN_BATCH}"), || {
        response.describe()
    })
}

/// The first wrong one of the 202s to outcome queries, from the moment that a batch is sent until it has its response, or
/// else one of them. The others are not kept: a server may send many, and long ones.
async fn query_while_sending(server: &TestedServer, batch: &SampleBatch) -> PointResult<Option<KitResponse>> {
    let request = KitRequest::post(batch);
    let mut seen = None;
    let is_processing =
        |response: &KitResponse| matches!(response.read_outcome(batch.id), OutcomeState::Processing);
    let querying = async {
        loop {
            match server.send(&KitRequest::look_up(batch.device, batch.id)).await {
                Ok(response)
                    if response.status.as_u16() == 202 && seen.as_ref().is_none_or(is_processing) =>
                {
                    seen = Some(response);
                }
                Ok(_) => {}
                Err(finding) => return finding,
            }
        }
    };
    match select(pin!(server.send(&request)), pin!(querying)).await {
        Either::Left((response, _)) => response?,
        Either::Right((finding, _)) => return Err(finding),
    };
    Ok(seen)
}

async fn a_batch_in_flight_gets_202(server: &TestedServer) -> PointResult {
    let batch = server.large_batch();
    let seen = query_while_sending(server, &batch).await?;
    server.submit(&batch).await?;
    let Some(response) = seen else {
        return Err(Finding::skipped(
            "the server was too fast: no query met a batch that was being processed",
        ));
    };
    let is_processing = matches!(response.read_outcome(batch.id), OutcomeState::Processing);
    require(is_processing, r#"{"batch_id": "…", "state": "processing"}"#, || response.describe())
}

async fn a_query_for_nonsense_is_refused(server: &TestedServer) -> PointResult {
    let device = server.sample_batch(1)?.device;
    for nonsense in ["not-a-batch-id", "00000000", "%00", "a/b"] {
        let response = server.send(&KitRequest::look_up_text(device, nonsense)).await?;
        require(response.status.is_client_error(), "a refusal (HTTP 4xx)", || {
            format!("{} for `{nonsense}`", response.describe())
        })?;
    }
    Ok(())
}
