//! Points about headers that no device sends, and headers that contradict the body.

use hyper::Method;

use super::finding::{PointResult, require};
use super::point::{Point, REFUSE, SENDING};
use super::refusal::{require_alive, require_not_applied, require_refused};
use super::request::KitRequest;
use super::sample::SampleBatch;
use super::server::TestedServer;
use crate::model::{BatchId, DeviceId};
use crate::protocol::wire::{BATCH_ATTEMPT, BATCH_ID, BATCH_SEQUENCE, DEVICE_ID, DEVICE_NAME};

/// Devices send at most 64 characters.
const LONG_NAME_CHARS: usize = 1000;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "hostile.other-batch-id",
        title: "A body with another batch id than the header is refused",
        paragraph: REFUSE,
        check: |server| Box::pin(another_batch_id_in_the_body_is_refused(server)),
    },
    Point {
        id: "hostile.other-device-id",
        title: "A body with another device id than the header is refused",
        paragraph: REFUSE,
        check: |server| Box::pin(another_device_id_in_the_body_is_refused(server)),
    },
    Point {
        id: "hostile.missing-ids",
        title: "A request without a batch id or device id in its headers is refused",
        paragraph: REFUSE,
        check: |server| Box::pin(missing_ids_are_refused(server)),
    },
    Point {
        id: "hostile.header-values",
        title: "Values that no header of the protocol has get a response and do not stop the server",
        paragraph: SENDING,
        check: |server| Box::pin(nonsense_in_headers_gets_a_response(server)),
    },
    Point {
        id: "hostile.methods",
        title: "Other methods than POST do not apply a batch",
        paragraph: REFUSE,
        check: |server| Box::pin(other_methods_are_refused(server)),
    },
];

async fn another_batch_id_in_the_body_is_refused(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let request = KitRequest::post(&batch).with_body(batch.under_new_id().body());
    require_refused(server, &request, "a batch with two batch ids").await?;
    require_not_applied(server, &batch, "a batch with two batch ids").await
}

async fn another_device_id_in_the_body_is_refused(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let other = SampleBatch { device: DeviceId(BatchId::new().0), ..batch.clone() };
    let request = KitRequest::post(&batch).with_body(other.body());
    require_refused(server, &request, "a batch with two device ids").await?;
    require_not_applied(server, &batch, "a batch with two device ids").await
}

async fn missing_ids_are_refused(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let request = KitRequest::post(&batch);
    let requests = [
        (request.clone().without(BATCH_ID), "no X-Sync-Batch-ID"),
        (request.clone().without(DEVICE_ID), "no X-Sync-Device-ID"),
        (request.clone().with(BATCH_ID, "not-an-id"), "`X-Sync-Batch-ID: not-an-id`"),
        (request.clone().with(DEVICE_ID, "not-an-id"), "`X-Sync-Device-ID: not-an-id`"),
        (request.with(BATCH_ID, b"\xff\xfe"), "bytes that are not text in X-Sync-Batch-ID"),
    ];
    let query = KitRequest::look_up(batch.device, batch.id).without(DEVICE_ID);
    let query = (query, "an outcome query without X-Sync-Device-ID");
    for (request, what) in requests.into_iter().chain([query]) {
        let response = server.send(&request).await?;
        require(response.status.is_client_error(), format!("a refusal of {what}"), || response.describe())?;
    }
    require_not_applied(server, &batch, "a batch without its ids in the headers").await
}

async fn nonsense_in_headers_gets_a_response(server: &TestedServer) -> PointResult {
    let values: [(&str, Vec<u8>); 7] = [
        (BATCH_SEQUENCE, b"0/0".to_vec()),
        (BATCH_SEQUENCE, b"99999999999999999999/1".to_vec()),
        (BATCH_ATTEMPT, b"-1".to_vec()),
        (BATCH_ATTEMPT, b"99999999999999999999".to_vec()),
        (BATCH_ATTEMPT, b"\xff".to_vec()),
        (DEVICE_NAME, "Grüße".as_bytes().to_vec()),
        (DEVICE_NAME, vec![b'a'; LONG_NAME_CHARS]),
    ];
    for (name, value) in values {
        let request = KitRequest::post(&server.sample_batch(1)?).with(name, &value);
        let response = server.send(&request).await?;
        let holds = response.has_results() || response.status.is_client_error();
        require(holds, "results, or a refusal (HTTP 4xx)", || {
            format!("{} for `{name}: {}`", response.describe(), String::from_utf8_lossy(&value))
        })?;
    }
    require_alive(server, "such values").await
}

async fn other_methods_are_refused(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        let request = KitRequest::post(&batch).with_method(method.clone());
        let response = server.send(&request).await?;
        let is_refused = response.status.is_client_error() || response.status.as_u16() == 501;
        require(is_refused, format!("a refusal of {method}, for example 405"), || response.describe())?;
    }
    require_not_applied(server, &batch, "another method than POST").await
}
