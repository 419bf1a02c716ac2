//! Points about connections that end: what has begun is finished, and what did not arrive whole is not applied.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::finding::{Finding, PointResult, require};
use super::point::{FINISH, LOOK_UP, Point};
use super::request::KitRequest;
use super::response::{BatchResults, OutcomeState};
use super::sample::SampleBatch;
use super::server::{RawStream, TestedServer};
use crate::clock::Clock;
use crate::protocol::wire::RecordStatus;

/// A hang-up at another moment is tried so often.
const HANG_UPS: usize = 3;
/// A server that neither responds nor closes its side has had this long to notice a hang-up.
const HANG_UP_WAIT: Duration = Duration::from_secs(2);
/// More than any response to a request that broke off.
const HANG_UP_BYTES_MAX: u64 = 1 << 20;
/// How a response with a 5xx begins.
const SERVER_ERROR: &[u8] = b"HTTP/1.1 5";

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "hang-up.finished",
        title: "A batch that has begun is finished when the client hangs up",
        paragraph: FINISH,
        check: |server| Box::pin(a_batch_is_finished_after_a_hang_up(server)),
    },
    Point {
        id: "hang-up.at-once",
        title: "A client that hangs up after the last byte leaves a batch that is either known or not begun",
        paragraph: FINISH,
        check: |server| Box::pin(a_hang_up_after_the_last_byte_leaves_all_or_nothing(server)),
    },
    Point {
        id: "hang-up.in-body",
        title: "A body that breaks off is not applied",
        paragraph: LOOK_UP,
        check: |server| Box::pin(a_body_that_breaks_off_is_not_applied(server)),
    },
    Point {
        id: "hang-up.in-chunks",
        title: "A body in chunks without its last chunk is not applied",
        paragraph: LOOK_UP,
        check: |server| Box::pin(a_body_without_its_last_chunk_is_not_applied(server)),
    },
];

/// Sends these bytes over a connection of their own, which stays open.
async fn send_raw(server: &TestedServer, parts: &[&[u8]]) -> PointResult<RawStream> {
    let mut stream = server.connect().await?;
    let writing = async {
        for part in parts {
            stream.write_all(part).await?;
        }
        stream.flush().await
    };
    match timeout(server.time_limit, writing).await {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(error)) => Err(Finding::failed("a server that reads the request", error.to_string())),
        Err(_) => Err(Finding::failed("a server that reads the request", "it does not read")),
    }
}

/// Hangs up, and waits until the server has noticed it: it responds, or closes its side.
async fn hang_up(mut stream: RawStream) {
    let leaving = async {
        stream.shutdown().await?;
        stream.take(HANG_UP_BYTES_MAX).read_to_end(&mut Vec::new()).await
    };
    // Only the effect counts, which the caller looks up.
    drop(timeout(HANG_UP_WAIT, leaving).await);
}

fn length_header(length: usize) -> String {
    format!("content-length: {length}")
}

/// Sends a batch as a whole; the connection stays open.
async fn send_whole(server: &TestedServer, batch: &SampleBatch) -> PointResult<RawStream> {
    let body = batch.body();
    let head = server.raw_head(&KitRequest::post(batch), &length_header(body.len()));
    send_raw(server, &[&head, body.as_bytes()]).await
}

async fn a_batch_is_finished_after_a_hang_up(server: &TestedServer) -> PointResult {
    for _ in 0..HANG_UPS {
        let batch = server.large_batch();
        let mut stream = send_whole(server, &batch).await?;
        if !await_start(server, &batch, &mut stream).await? {
            continue;
        }
        drop(stream);
        let state = server.await_begun_outcome(&batch).await?;
        return match &state {
            OutcomeState::Completed(results) => require_stored(results, &batch),
            state => Err(Finding::failed(
                "the results of a batch that was being processed when its client hung up",
                format!("the outcome query says: {}", describe_state(state)),
            )),
        };
    }
    Err(Finding::skipped(
        "no batch was being processed at the hang-up: the server was too fast, or responded with 5xx",
    ))
}

/// Waits until a batch is being processed. False if it is completed already, or was lost: a proxy responds with 5xx, and the
/// server does not know the batch.
async fn await_start(
    server: &TestedServer,
    batch: &SampleBatch,
    stream: &mut RawStream,
) -> PointResult<bool> {
    let clock = Clock::start();
    let mut response = Vec::new();
    while clock.now() < server.time_limit {
        match server.look_up(batch).await? {
            OutcomeState::Processing => return Ok(true),
            OutcomeState::Completed(_) => return Ok(false),
            OutcomeState::Unknown => {
                // The query after the response decides.
                if response.starts_with(SERVER_ERROR) {
                    return Ok(false);
                }
                if response.len() < SERVER_ERROR.len() {
                    // Without data, this ends at once.
                    drop(stream.read_buf(&mut response).now_or_never());
                }
            }
            OutcomeState::NotTold => {
                return Err(Finding::skipped(
                    "outcome queries do not work (see lookup.unknown, lookup.processing)",
                ));
            }
        }
    }
    Err(Finding::failed("a batch that is processed once its last byte has arrived", "it is unknown"))
}

fn describe_state(state: &OutcomeState) -> &'static str {
    match state {
        OutcomeState::Completed(_) => "completed",
        OutcomeState::Processing => "still being processed",
        OutcomeState::Unknown => "unknown",
        OutcomeState::NotTold => "nothing that the protocol has",
    }
}

async fn a_hang_up_after_the_last_byte_leaves_all_or_nothing(server: &TestedServer) -> PointResult {
    for _ in 0..HANG_UPS {
        let batch = server.large_batch();
        drop(send_whole(server, &batch).await?);
        let state = server.await_outcome(&batch).await?;
        if let OutcomeState::Completed(results) = &state {
            require_stored(results, &batch)?;
            continue;
        }
        let results = server.submit(&batch).await?;
        if results.is_replayed {
            // It was received whole a moment after the query.
            require_stored(&results, &batch)?;
        } else {
            let because =
                "after the hang-up, the outcome query did not know the batch, so that it had not begun";
            results.require_all(&batch, RecordStatus::Applied, because)?;
        }
    }
    Ok(())
}

/// The server has every record of the batch.
fn require_stored(results: &BatchResults, batch: &SampleBatch) -> PointResult {
    let is_stored =
        batch.records.iter().all(|record| results.status_of(record.id).is_some_and(RecordStatus::is_stored));
    require(is_stored, "`applied` for every record of the batch", || results.text.clone())
}

async fn a_body_that_breaks_off_is_not_applied(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let batch = server.sample_batch(4).unwrap_or(batch);
    let body = batch.body();
    // In the middle; after the JSON, before the announced end; before the body.
    for (sent, announced) in [(body.len() * 3 / 4, body.len()), (body.len(), body.len() + 1), (0, body.len())]
    {
        let batch = batch.under_new_id();
        let body = batch.body();
        let head = server.raw_head(&KitRequest::post(&batch), &length_header(announced));
        hang_up(send_raw(server, &[&head, &body.as_bytes()[..sent]]).await?).await;
        require_untouched(server, &batch, &format!("{sent} of {announced} bytes of the body arrived"))
            .await?;
    }
    let results = server.submit(&batch.under_new_id()).await?;
    results.require_all(&batch, RecordStatus::Applied, "no body with it arrived completely before")
}

async fn a_body_without_its_last_chunk_is_not_applied(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let body = batch.body();
    let head = server.raw_head(&KitRequest::post(&batch), "transfer-encoding: chunked");
    let chunk = format!("{:x}\r\n{body}\r\n", body.len());
    hang_up(send_raw(server, &[&head, chunk.as_bytes()]).await?).await;
    require_untouched(server, &batch, "the last chunk of the body is missing").await?;
    let results = server.submit(&batch.under_new_id()).await?;
    results.require_all(&batch, RecordStatus::Applied, "no body with it arrived completely before")
}

/// The batch is not known as completed.
async fn require_untouched(server: &TestedServer, batch: &SampleBatch, because: &str) -> PointResult {
    let state = server.await_outcome(batch).await?;
    let is_completed = matches!(state, OutcomeState::Completed(_));
    require(!is_completed, format!("a batch that the server does not know: {because}"), || {
        "the outcome query finds it completed".into()
    })
}
