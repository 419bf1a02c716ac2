//! Points about bodies that no device sends, in plain text.

use super::finding::{PointResult, require};
use super::point::{Point, READ_BOUNDED, REFUSE, RESPONSE, SENDING};
use super::refusal::{require_alive, require_not_applied, require_refused};
use super::request::KitRequest;
use super::server::TestedServer;
use crate::protocol::wire::RecordStatus;

/// Far more than the stack of a recursive parser can take.
const HOSTILE_LEVELS: usize = 100_000;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "hostile.truncated-json",
        title: "JSON that breaks off is refused, and nothing of it is applied",
        paragraph: REFUSE,
        check: |server| Box::pin(truncated_json_is_refused(server)),
    },
    Point {
        id: "hostile.not-a-batch",
        title: "JSON that is not a batch, and what is not JSON, is refused",
        paragraph: REFUSE,
        check: |server| Box::pin(what_is_not_a_batch_is_refused(server)),
    },
    Point {
        id: "hostile.bad-record",
        title: "A record without id, type or payload is not applied",
        paragraph: SENDING,
        check: |server| Box::pin(incomplete_records_are_not_applied(server)),
    },
    Point {
        id: "hostile.utf-8",
        title: "Text that is not UTF-8 is not applied",
        paragraph: REFUSE,
        check: |server| Box::pin(text_that_is_not_utf_8_is_not_applied(server)),
    },
    Point {
        id: "hostile.nesting",
        title: "A payload of 100,000 levels does not stop the server",
        paragraph: READ_BOUNDED,
        check: |server| Box::pin(deep_nesting_does_not_stop_the_server(server)),
    },
    Point {
        id: "hostile.no-records",
        title: "A batch without records is refused, or gets no results",
        paragraph: RESPONSE,
        check: |server| Box::pin(a_batch_without_records_has_no_results(server)),
    },
];

async fn truncated_json_is_refused(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let batch = server.sample_batch(4).unwrap_or(batch);
    let body = batch.body();
    for length in [body.len() - 1, body.len() - 2, body.len() * 3 / 4, body.len() / 2, 1] {
        let batch = batch.under_new_id();
        let request = KitRequest::post(&batch).with_body(batch.body()[..length].to_owned());
        let what = format!("the first {length} of {} bytes of a batch", body.len());
        require_refused(server, &request, &what).await?;
    }
    require_not_applied(server, &batch, "JSON that breaks off").await
}

async fn what_is_not_a_batch_is_refused(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let body = batch.body();
    let bodies = [
        String::new(),
        "null".into(),
        "[]".into(),
        "{}".into(),
        "<html></html>".into(),
        r#"{"batch_id":7,"device_id":[],"sequence":"1/1","records":{}}"#.into(),
        body.replace(r#""records":["#, r#""other":["#),
        format!("{body}{body}"),
    ];
    for hostile in bodies {
        let start: String = hostile.chars().take(20).collect();
        let request = KitRequest::post(&batch.under_new_id()).with_body(hostile);
        require_refused(server, &request, &format!("the body `{start}`")).await?;
    }
    require_not_applied(server, &batch, "what is not a batch").await
}

async fn incomplete_records_are_not_applied(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?;
    let id = batch.records[0].id.to_string();
    for (part, instead) in [
        (format!(r#""id":"{id}","#), String::new()),
        (format!(r#""id":"{id}""#), r#""id":"not-an-id""#.to_owned()),
        (r#""payload""#.into(), r#""other""#.into()),
        (r#""type""#.into(), r#""other""#.into()),
    ] {
        let batch = batch.under_new_id();
        let body = batch.body().replacen(&part, &instead, 1);
        let response = server.send(&KitRequest::post(&batch).with_body(body)).await?;
        if !response.is_refusal() {
            let results = response.read_results(batch.id)?;
            let is_applied = results.list().iter().any(|result| result["status"] == "applied");
            let expected = format!("a refusal, or no `applied`, with `{instead}` instead of `{part}`");
            require(!is_applied, expected, || results.text.clone())?;
        }
    }
    Ok(())
}

async fn text_that_is_not_utf_8_is_not_applied(server: &TestedServer) -> PointResult {
    let mut batch = server.sample_batch(1)?;
    batch.records[0].payload = r#"{"Subject":"@"}"#.into();
    let body: Vec<u8> = batch.body().bytes().map(|byte| if byte == b'@' { 0xff } else { byte }).collect();
    let response = server.send(&KitRequest::post(&batch).with_body(body)).await?;
    if !response.is_refusal() {
        let results = response.read_results(batch.id)?;
        let is_applied = results.status_of(batch.records[0].id) == Some(RecordStatus::Applied);
        require(!is_applied, "a refusal of a body that is not UTF-8", || results.text.clone())?;
    }
    require_not_applied(server, &batch, "a body that is not UTF-8").await
}

async fn deep_nesting_does_not_stop_the_server(server: &TestedServer) -> PointResult {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let mut batch = server.sample_batch(1)?;
        let levels = [&open.repeat(HOSTILE_LEVELS), "1", &close.repeat(HOSTILE_LEVELS)].concat();
        batch.records[0].payload = format!(r#"{{"Deep":{levels}}}"#);
        let response = server.send(&KitRequest::post(&batch)).await?;
        let holds = response.status.as_u16() < 500;
        require(holds, "a refusal, or a result", || response.describe())?;
    }
    require_alive(server, "a payload of 100,000 levels").await
}

async fn a_batch_without_records_has_no_results(server: &TestedServer) -> PointResult {
    let batch = server.sample_batch(1)?.followed_by(Vec::new());
    let response = server.send(&KitRequest::post(&batch)).await?;
    if response.is_refusal() {
        return Ok(());
    }
    let results = response.read_results(batch.id)?;
    require(results.list().is_empty(), "no results, as there are no records", || results.text.clone())
}
