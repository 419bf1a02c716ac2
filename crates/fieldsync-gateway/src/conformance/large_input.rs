//! Points about input that is larger than what servers expect.

use super::finding::{PointResult, require};
use super::point::{Point, READ_BOUNDED};
use super::refusal::require_alive;
use super::request::KitRequest;
use super::sample::SampleBatch;
use super::server::TestedServer;

const LARGE_PAYLOAD_BYTES: usize = 32 << 20;
const MANY_RECORDS: usize = 5_000;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "large.body",
        title: "A body of 32 MiB gets results or 413, or the connection ends, and the server works on",
        paragraph: READ_BOUNDED,
        check: |server| Box::pin(a_large_body_gets_413_or_results(server)),
    },
    Point {
        id: "large.records",
        title: "A batch of 5,000 records gets results or a refusal, and does not stop the server",
        paragraph: READ_BOUNDED,
        check: |server| Box::pin(many_records_get_results_or_a_refusal(server)),
    },
];

async fn a_large_body_gets_413_or_results(server: &TestedServer) -> PointResult {
    let mut batch = server.sample_batch(1)?;
    batch.records[0].payload = format!(r#"{{"Filling":"{}"}}"#, "a".repeat(LARGE_PAYLOAD_BYTES));
    // A device cannot read an early response, either.
    if let Some(response) = server.send_large(&KitRequest::post(&batch)).await? {
        let is_too_large = response.status.as_u16() == 413;
        let expected = "HTTP 413, so that devices send fewer bytes at a time, or a result";
        let has_result = response.read_results(batch.id).is_ok_and(|results| !results.list().is_empty());
        require(is_too_large || has_result, expected, || response.describe())?;
    }
    require_alive(server, "a body of 32 MiB").await
}

async fn many_records_get_results_or_a_refusal(server: &TestedServer) -> PointResult {
    let batch = SampleBatch::new((0..MANY_RECORDS).map(|_| server.sample_record()).collect());
    let response = server.send(&KitRequest::post(&batch)).await?;
    if response.has_results() {
        let results = response.read_results(batch.id)?;
        let count = results.list().len();
        require(count == MANY_RECORDS, format!("{MANY_RECORDS} results"), || format!("{count} results"))?;
    } else {
        let is_busy = matches!(response.status.as_u16(), 429 | 503 | 504);
        let holds = response.status.is_client_error() || is_busy;
        require(holds, "results, or a refusal, for example 413", || response.describe())?;
    }
    require_alive(server, "a batch of 5,000 records").await
}
