//! Forwarded requests as webhooks: signatures, `CloudEvents`, and what a receiver may say to all of them.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fieldsync::clock::{Clock, wall_ms};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::receiver::{FORWARDED, Taken, wait_for_counts};
use crate::support::device::{Batch, Record};
use crate::support::gateway::{Gateway, refuses};
use crate::support::postgres::ledger_in;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::wait::{directory, pace, wait_for};

const STOPPED: &str = "fieldsync_gateway_forward_stopped";
/// Of the block of SHA-256.
const BLOCK_BYTES: usize = 64;

fn taken(_: &Request) -> Reply {
    Reply::text(204, "text/plain", "")
}

fn batch_of(records: usize) -> Batch {
    Batch::with((0..records).map(|n| Record::new(&format!("{{\"n\":{n}}}"))).collect())
}

/// HMAC-SHA256 as RFC 2104 defines it, independent of the gateway.
fn hmac(secret: &[u8], text: &[u8]) -> Vec<u8> {
    assert!(secret.len() <= BLOCK_BYTES);
    let pad = |byte: u8| -> Vec<u8> {
        (0..BLOCK_BYTES).map(|at| secret.get(at).copied().unwrap_or(0) ^ byte).collect()
    };
    let inner = digest(&SHA256, &[pad(0x36), text.to_vec()].concat());
    digest(&SHA256, &[pad(0x5c), inner.as_ref().to_vec()].concat()).as_ref().to_vec()
}

fn signature(secret: &str, request: &Request) -> String {
    let secret = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let head = format!("{}.{}.", request.header("webhook-id"), request.header("webhook-timestamp"));
    let text = [head.as_bytes(), &request.body].concat();
    format!("v1,{}", BASE64_STANDARD.encode(hmac(&secret, &text)))
}

#[test]
fn requests_are_signed_by_each_secret_of_the_file() {
    // A vector of the specification's reference libraries.
    let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let signed = hmac(&secret, br#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#);
    assert_eq!(BASE64_STANDARD.encode(signed), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");

    let [old, new] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];
    let server = ScriptedServer::start(taken);
    let directory = directory();
    let file = directory.path().join("secrets");
    fs::write(&file, format!("{old}\n")).unwrap();
    let arguments = ["--forward", &server.url(), "--forward-secret-file", file.to_str().unwrap()];
    let gateway = Gateway::start(directory.path(), &arguments);
    gateway.post(&batch_of(2)).batch();
    wait_for_counts(&gateway, [2, 0, 0, 0]);
    let request = &server.requests()[0];
    assert_eq!(request.header("webhook-id"), request.header("idempotency-key"));
    assert_eq!(request.header("webhook-signature"), signature(old, request));
    let now = wall_ms() / 1000;
    assert!(request.header("webhook-timestamp").parse::<u64>().unwrap().abs_diff(now) < 60);

    fs::write(&file, format!("# the new one first\n{new}\n{old}\n")).unwrap();
    gateway.signal("HUP");
    let rotated = wait_for("a request signed by both secrets", || {
        gateway.post(&batch_of(1)).batch();
        server.requests().pop().filter(|request| request.header("webhook-signature").contains(' '))
    });
    let both = format!("{} {}", signature(new, &rotated), signature(old, &rotated));
    assert_eq!(rotated.header("webhook-signature"), both);
}

#[test]
fn a_file_of_secrets_with_a_mistake_is_refused_and_quotes_nothing() {
    let directory = directory();
    let store = directory.path().join("ledger.redb");
    for (text, said) in
        [("whsec_MfKQ9r8G\nwhsec_s3cret!\n", "line 2"), ("# none\n", "does not hold a secret")]
    {
        let file = directory.path().join("secrets");
        fs::write(&file, text).unwrap();
        let arguments = ["--forward", "http://127.0.0.1:9/", "--forward-secret-file", file.to_str().unwrap()];
        let (code, message) = refuses(store.to_str().unwrap(), &arguments);
        assert_eq!(code, Some(78), "{message}");
        assert!(message.contains(said) && !message.contains("s3cret"), "{message}");
    }
}

#[test]
fn records_are_forwarded_as_a_batch_of_cloud_events_on_request() {
    let server = ScriptedServer::start(taken);
    let directory = directory();
    let arguments = ["--forward", &server.url(), "--forward-format", "cloudevents"];
    let gateway = Gateway::start(directory.path(), &arguments);
    let mut batch = Batch::of(&[r#"{ "Amount":120.50 }"#, "{}"]);
    batch.records[0].key = Some("account-17".into());
    gateway.post(&batch).batch();
    wait_for_counts(&gateway, [2, 0, 0, 0]);
    let request = &server.requests()[0];
    assert_eq!(request.header("content-type"), "application/cloudevents-batch+json");
    assert!(request.text().contains(r#""data":{ "Amount":120.50 }"#), "{}", request.text());
    let event = |n: usize| {
        json!({
            "specversion": "1.0",
            "id": batch.records[n].id.to_string(),
            "source": format!("urn:uuid:{}", batch.device),
            "type": "Visits",
            "time": gateway.ledger()[n]["applied_at"],
            "datacontenttype": "application/json",
            "sequence": format!("{:020}", n + 1),
            "data": serde_json::from_str::<Value>(&batch.records[n].payload).unwrap(),
        })
    };
    let mut first = event(0);
    first["subject"] = "account-17".into();
    assert_eq!(request.json(), json!([first, event(1)]));
}

#[test]
fn a_receiver_that_is_gone_stops_forwarding_until_a_reload() {
    let server = ScriptedServer::start(|_| Reply::error(410, "GONE"));
    let directory = directory();
    let log = directory.path().join("log");
    let arguments = ["--forward", &server.url(), "--forward-max-wait", "20ms"];
    let gateway = Gateway::start_logging(&ledger_in(directory.path()), &log, &arguments);
    assert_eq!(gateway.get("/healthz").json(), json!({"status": "ok"}));
    gateway.post(&batch_of(3)).batch();
    wait_for("forwarding to stop", || (gateway.metric(STOPPED) == 1).then_some(()));
    assert_eq!(gateway.get("/healthz").expect_json(200), json!({"status": "ok", "forwarding": "stopped"}));
    assert!(fs::read_to_string(&log).unwrap().contains("forwarding stopped"));
    gateway.post(&batch_of(3)).batch();
    pace(Duration::from_millis(300));
    assert_eq!(server.requests().len(), 1, "nothing is sent to a receiver that is gone");

    gateway.signal("HUP");
    server.wait_for_batches(2);
    server.set_script(taken);
    wait_for("forwarding to stop again", || (gateway.metric(STOPPED) == 1).then_some(()));
    gateway.signal("HUP");
    wait_for_counts(&gateway, [6, 0, 0, 0]);
    assert_eq!(gateway.metric(STOPPED), 0);
    assert_eq!(gateway.get("/healthz").json(), json!({"status": "ok"}));
}

#[test]
fn forwarding_waits_as_long_as_the_receiver_asks_in_seconds_or_until_a_date() {
    let date = |from_now: u64| {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(wall_ms() + from_now * 1000))
    };
    let mut answered: Vec<Clock> = Vec::new();
    let waits = Taken::default();
    let noted = waits.clone();
    let server = ScriptedServer::start(move |request| {
        if let Some(last) = answered.last() {
            let n = u64::try_from(last.now().as_millis()).unwrap();
            noted.take([json!({"id": answered.len(), "payload": {"n": n}})]);
        }
        answered.push(Clock::start());
        match answered.len() {
            1 => Reply::text(429, "text/plain", "").with("retry-after", "1"),
            2 => Reply::text(503, "text/plain", "").with("date", date(100)).with("retry-after", date(101)),
            _ => taken(request),
        }
    });
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--forward", &server.url()]);
    gateway.post(&batch_of(3)).batch();
    wait_for("the records to be forwarded", || (gateway.metric(FORWARDED) == 3).then_some(()));
    let waits = waits.numbers();
    assert!(waits.len() == 2 && waits.iter().all(|wait| (1000..30_000).contains(wait)), "{waits:?}");
}
