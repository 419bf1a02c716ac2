//! Points about the request that sends a batch: every form in which a device may send it.

use super::encoding::{KitEncoding, lists_encoding};
use super::finding::{Finding, PointResult, require};
use super::point::{ALL_RESPONSES, Point, RESPONSE, SENDING};
use super::request::KitRequest;
use super::response::KitResponse;
use super::sample::SampleBatch;
use super::server::TestedServer;
use crate::protocol::wire::{BATCH_SEQUENCE, RecordStatus};

/// Devices send payloads of at most 128 levels.
const PAYLOAD_LEVELS: usize = 100;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "sending.applied",
        title: "A batch of new records is applied",
        paragraph: RESPONSE,
        check: |server| Box::pin(new_records_are_applied(server)),
    },
    Point {
        id: "sending.payload",
        title: "Payloads of every form that devices send get a result",
        paragraph: SENDING,
        check: |server| Box::pin(payloads_of_every_form_get_results(server)),
    },
    Point {
        id: "sending.priority",
        title: "A record with a priority is applied",
        paragraph: SENDING,
        check: |server| Box::pin(a_priority_is_accepted(server)),
    },
    Point {
        id: "sending.out-of-order",
        title: "The second batch of a run may arrive before the first",
        paragraph: SENDING,
        check: |server| Box::pin(a_later_batch_may_arrive_first(server)),
    },
    Point {
        id: "sending.zstd",
        title: "A body compressed by zstd is applied, or refused with 415 unless Accept-Encoding lists zstd",
        paragraph: ALL_RESPONSES,
        check: |server| Box::pin(an_encoded_body_is_taken_or_refused(server, KitEncoding::Zstd)),
    },
    Point {
        id: "sending.gzip",
        title: "A body compressed by gzip is applied, or refused with 415 unless Accept-Encoding lists gzip",
        paragraph: ALL_RESPONSES,
        check: |server| Box::pin(an_encoded_body_is_taken_or_refused(server, KitEncoding::Gzip)),
    },
    Point {
        id: "sending.encoded-resend",
        title: "A resend is recognized although its encoding is another",
        paragraph: SENDING,
        check: |server| Box::pin(a_resend_may_have_another_encoding(server)),
    },
    Point {
        id: "sending.chunked",
        title: "A body in chunks is applied, or refused with 411",
        paragraph: SENDING,
        check: |server| Box::pin(a_chunked_body_is_taken_or_refused(server)),
    },
];

async fn new_records_are_applied(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let mut batch = server.sample_batch(3).unwrap_or(batch);
    for (at, record) in batch.records.iter_mut().enumerate() {
        record.key = (at == 1).then(|| "conformance-key".to_owned());
    }
    let results = server.submit(&batch).await?;
    results.require_all(&batch, RecordStatus::Applied, "no record of it was ever sent before")
}

async fn payloads_of_every_form_get_results(server: &TestedServer) -> PointResult {
    let nested = "{\"a\":".repeat(PAYLOAD_LEVELS) + "{}" + &"}".repeat(PAYLOAD_LEVELS);
    let payloads = [
        "{}".to_owned(),
        r#"{"Subject":"Grüße, 世界 🌍","Note":"\u0000\n\"\\ \ud83c\udf0d"}"#.to_owned(),
        r#"{ "Amount" : 12345678901234567890.123456789e-5 , "List":[1,[2,[]],null,true] }"#.to_owned(),
        nested,
    ];
    for payload in payloads {
        let mut batch = server.sample_batch(1)?;
        batch.records[0].payload = payload;
        let results = server.submit(&batch).await?;
        let status = results.status_of(batch.records[0].id);
        let holds = matches!(status, Some(RecordStatus::Applied | RecordStatus::Rejected));
        require(holds, "`applied`, or `rejected` by name", || results.text.clone())?;
    }
    Ok(())
}

async fn a_priority_is_accepted(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let body = batch.body().replace(r#""created_at""#, r#""priority":9,"created_at""#);
    let request = KitRequest::post(&batch).with_body(body);
    let results = server.settle(&request, batch.device, batch.id).await?;
    results.require_all(&batch, RecordStatus::Applied, "a record may have a priority from 0 to 9")
}

async fn a_later_batch_may_arrive_first(server: &TestedServer) -> PointResult {
    let first = server.sample_batch(1)?;
    let second = first.followed_by(vec![server.sample_record()]);
    for (batch, index) in [(&second, 2), (&first, 1)] {
        let request = KitRequest::post(batch)
            .with_body(batch.body_with_sequence(index, 2))
            .with(BATCH_SEQUENCE, format!("{index}/2"));
        let results = server.settle(&request, batch.device, batch.id).await?;
        let because = format!("batch {index}/2 of a run may arrive in any order");
        results.require_all(batch, RecordStatus::Applied, &because)?;
    }
    Ok(())
}

async fn an_encoded_body_is_taken_or_refused(server: &TestedServer, encoding: KitEncoding) -> PointResult {
    let (batch, request) = encoded_batch(server, encoding)?;
    let response = server.send(&request).await?;
    if !takes_encoding(&response, encoding)? {
        return Ok(());
    }
    let results = server.settle(&request, batch.device, batch.id).await?;
    let is_stored =
        batch.records.iter().all(|record| results.status_of(record.id).is_some_and(RecordStatus::is_stored));
    require(is_stored, "`applied` for the records of the decoded body", || results.text.clone())
}

/// Whether the server accepts the encoding. It must if it lists it.
fn takes_encoding(response: &KitResponse, encoding: KitEncoding) -> PointResult<bool> {
    if response.status.as_u16() != 415 {
        return Ok(true);
    }
    let name = encoding.name();
    let is_listed = lists_encoding(&response.headers, encoding);
    require(!is_listed, format!("no 415: Accept-Encoding lists {name}"), || response.describe())?;
    Ok(false)
}

fn encoded_batch(server: &TestedServer, encoding: KitEncoding) -> PointResult<(SampleBatch, KitRequest)> {
    let batch = server.sample_batch(1)?;
    let body = encoding.encode(batch.body().as_bytes())?;
    let request = KitRequest::post(&batch).with_encoded_body(encoding.name(), body);
    Ok((batch, request))
}

async fn a_resend_may_have_another_encoding(server: &TestedServer) -> PointResult {
    for encoding in KitEncoding::ALL {
        let (batch, request) = encoded_batch(server, encoding)?;
        let first = server.send(&request).await?;
        if first.status.as_u16() == 415 {
            continue;
        }
        if !first.has_results() {
            server.settle(&request, batch.device, batch.id).await?;
        }
        let again = server.send(&KitRequest::resend(&batch, 2)).await?.read_results(batch.id)?;
        let expected = format!(
            "`\"replayed\": true` for the resend without {}: it is the same batch before compression",
            encoding.name()
        );
        return require(again.is_replayed, expected, || again.text.clone());
    }
    Err(Finding::skipped("the server accepts neither zstd nor gzip"))
}

async fn a_chunked_body_is_taken_or_refused(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let request = KitRequest::post(&batch).in_chunks();
    let response = server.send(&request).await?;
    if matches!(response.status.as_u16(), 411 | 501) {
        return Ok(());
    }
    let results = server.settle(&request, batch.device, batch.id).await?;
    let is_stored = results.status_of(batch.records[0].id).is_some_and(RecordStatus::is_stored);
    require(is_stored, "`applied`, or 411 for the whole request", || results.text.clone())
}
