//! Points about encoded bodies that no device sends.

use super::encoding::KitEncoding;
use super::finding::{Finding, PointResult, require};
use super::point::{Point, READ_BOUNDED, REFUSE};
use super::refusal::{require_alive, require_not_applied, require_refused};
use super::request::KitRequest;
use super::server::TestedServer;
use crate::protocol::wire::RecordStatus;

/// The body of a decompression bomb, decoded. Devices send at most a few MiB.
const BOMB_BYTES: usize = 64 << 20;
/// Marks in a payload where the filling is.
const FILLING_MARK: &str = "@filling@";

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "hostile.unknown-encoding",
        title: "An encoding that nobody knows gets 415",
        paragraph: REFUSE,
        check: |server| Box::pin(an_unknown_encoding_gets_415(server)),
    },
    Point {
        id: "hostile.corrupt-encoding",
        title: "A body that cannot be decoded, or breaks off, is refused",
        paragraph: REFUSE,
        check: |server| Box::pin(a_corrupt_body_is_refused(server)),
    },
    Point {
        id: "hostile.decompression-bomb",
        title: "A small body that decodes to 64 MiB is refused",
        paragraph: READ_BOUNDED,
        check: |server| Box::pin(a_decompression_bomb_is_refused(server)),
    },
];

async fn an_unknown_encoding_gets_415(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let request = KitRequest::post(&batch).with_encoded_body("x-conformance", batch.body());
    let response = server.send(&request).await?;
    require(
        response.status.as_u16() == 415,
        "HTTP 415, so that devices send the batch uncompressed",
        || response.describe(),
    )?;
    require_not_applied(server, &batch, "a batch that got 415").await
}

async fn a_corrupt_body_is_refused(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    for encoding in KitEncoding::ALL {
        let name = encoding.name();
        let whole = encoding.encode(batch.body().as_bytes())?;
        let cut = whole.slice(..whole.len() / 2);
        for (body, what) in [
            (batch.body().into(), format!("plain text that is said to be {name}")),
            (cut, format!("a body of {name} that breaks off")),
        ] {
            let request = KitRequest::post(&batch.under_new_id()).with_encoded_body(name, body);
            require_refused(server, &request, &what).await?;
        }
    }
    require_not_applied(server, &batch, "a body that cannot be decoded").await
}

async fn a_decompression_bomb_is_refused(server: &TestedServer) -> PointResult {
    for encoding in KitEncoding::ALL {
        let mut batch = server.sample_batch(1)?;
        batch.records[0].payload = format!(r#"{{"Filling":"{FILLING_MARK}"}}"#);
        let body = batch.body();
        let (start, end) =
            body.split_once(FILLING_MARK).ok_or_else(|| Finding::skipped("the body cannot be built"))?;
        let bomb = encoding.encode_filled(start.as_bytes(), BOMB_BYTES, end.as_bytes())?;
        let bytes = bomb.len();
        let request = KitRequest::post(&batch).with_encoded_body(encoding.name(), bomb);
        // It is small enough to be read whole, so that there is a response to it.
        let response = server.send(&request).await?;
        let results = response.read_results(batch.id);
        let is_applied = results
            .is_ok_and(|results| results.status_of(batch.records[0].id) == Some(RecordStatus::Applied));
        let is_failure = response.status.is_server_error();
        require(
            !is_applied && !is_failure,
            "HTTP 413, or another refusal, before the whole body is decoded",
            || {
                let name = encoding.name();
                format!("{bytes} bytes of {name} that decode to {BOMB_BYTES} got {}", response.describe())
            },
        )?;
    }
    require_alive(server, "a decompression bomb").await
}
