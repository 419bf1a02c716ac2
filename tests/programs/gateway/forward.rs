//! Applied records are forwarded: all of them, in order, whatever happens to either side.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;

use serde_json::Value;

use super::receiver::without_payloads;
use crate::support::device::{Batch, Record};
use crate::support::gateway::{ANY_PORT, Gateway, command};
use crate::support::server::{Gate, Reply, Request, ScriptedServer};
use crate::support::wait::{directory, wait_for};

const WAITING: &str = "fieldsync_gateway_forward_waiting";
const FORWARDED: &str = "fieldsync_gateway_forwarded_total";
const REFUSED: &str = "fieldsync_gateway_forward_refused";

fn taken(_: &Request) -> Reply {
    Reply::text(204, "text/plain", "")
}

fn start(directory: &Path, server: &ScriptedServer, more: &[&str]) -> Gateway {
    let url = format!("{}/hook?of=field", server.url());
    let arguments = [&["--forward", url.as_str(), "--forward-max-wait", "50ms"], more].concat();
    Gateway::start(directory, &arguments)
}

fn batch_of(records: usize) -> Batch {
    Batch::with((0..records).map(|n| Record::new(&format!("{{\"n\":{n}}}"))).collect())
}

/// The ids in the order in which they were first forwarded.
fn forwarded_ids(server: &ScriptedServer) -> Vec<String> {
    let mut seen = HashSet::new();
    server.requests().iter().flat_map(Request::ids).filter(|id| seen.insert(id.clone())).collect()
}

#[track_caller]
fn wait_until_forwarded(server: &ScriptedServer, gateway: &Gateway) {
    let ledger: Vec<String> = gateway.applied_ids().iter().map(ToString::to_string).collect();
    wait_for("all records to be forwarded", || {
        (gateway.metric(WAITING) == 0 && forwarded_ids(server).len() == ledger.len()).then_some(())
    });
    assert_eq!(forwarded_ids(server), ledger);
}

#[test]
fn records_are_forwarded_in_the_promised_form_and_order() {
    let server = ScriptedServer::start(taken);
    let directory = directory();
    let token = directory.path().join("token");
    fs::write(&token, "s3cret-token\n").unwrap();
    let gateway = start(directory.path(), &server, &["--forward-token-file", token.to_str().unwrap()]);
    let mut batch = Batch::of(&[r#"{ "Amount":120.50 }"#, "{\"a\":\n1}"]);
    batch.records[0].key = Some("account-17".into());
    gateway.post(&batch).batch();
    wait_until_forwarded(&server, &gateway);
    assert_eq!(gateway.metric(FORWARDED), 2);

    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hook?of=field"));
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("authorization"), "Bearer s3cret-token");
    assert_eq!(request.header("idempotency-key").len(), 43);
    // Each record is as the ledger lists it, and has its payload.
    assert_eq!(without_payloads(request.records()), gateway.ledger());
    assert!(request.text().contains(r#""payload":{ "Amount":120.50 }"#), "{}", request.text());
    assert_eq!(request.records()[0]["key"], "account-17");
    assert_eq!(request.records()[1]["key"], Value::Null);
    // What was not applied is not forwarded.
    gateway.post(&batch.again()).batch();
    gateway.post(&batch_of(1)).batch();
    wait_until_forwarded(&server, &gateway);
    assert_eq!(server.requests().iter().map(|request| request.records().len()).sum::<usize>(), 3);
}

#[test]
fn devices_do_not_wait_for_the_forwarding_target() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = ScriptedServer::start(move |request| taken(request).held_by(&held));
    let directory = directory();
    let gateway = start(directory.path(), &server, &["--forward-max-records", "10"]);
    for _ in 0..5 {
        gateway.post(&batch_of(10)).batch();
    }
    server.wait_for_batches(1);
    assert_eq!(gateway.metric(FORWARDED), 0);
    gate.open();
    wait_until_forwarded(&server, &gateway);
    assert!(server.sizes().iter().all(|size| *size <= 10), "{:?}", server.sizes());
}

#[test]
fn records_that_are_not_accepted_are_sent_again_and_later_ones_wait() {
    let mut requests = 0;
    let server = ScriptedServer::start(move |request| {
        requests += 1;
        match requests {
            1 => Reply::text(500, "text/plain", "no"),
            2 => Reply::text(429, "text/plain", "").with("retry-after", "0"),
            3 => Reply::Close,
            4 => Reply::text(302, "text/plain", "").with("location", "http://127.0.0.1:9/"),
            5 => Reply::Reset,
            6 => Reply::Hang,
            _ => taken(request),
        }
    });
    let directory = directory();
    let gateway =
        start(directory.path(), &server, &["--forward-max-records", "3", "--forward-timeout", "300ms"]);
    for _ in 0..3 {
        gateway.post(&batch_of(4)).batch();
    }
    wait_until_forwarded(&server, &gateway);
    let requests = server.requests();
    // The same body has the same key, and another body another key.
    for pair in requests.windows(2) {
        let keys = [&pair[0], &pair[1]].map(|request| request.header("idempotency-key"));
        assert_eq!(keys[0] == keys[1], pair[0].body == pair[1].body);
    }
    assert_eq!(requests[0].records()[0]["id"], gateway.ledger()[0]["id"]);
    assert_eq!(gateway.metric(FORWARDED), 12);
}

#[test]
fn a_body_that_was_not_accepted_is_repeated_with_its_key_although_more_records_wait() {
    let gate = Gate::default();
    let held = gate.clone();
    let mut requests = 0;
    let server = ScriptedServer::start(move |request| {
        requests += 1;
        match requests {
            1 => Reply::Close.held_by(&held),
            2 => Reply::text(503, "text/plain", ""),
            _ => taken(request),
        }
    });
    let directory = directory();
    let gateway = start(directory.path(), &server, &[]);
    gateway.post(&batch_of(2)).batch();
    server.wait_for_batches(1);
    gateway.post(&batch_of(3)).batch();
    gate.open();
    wait_until_forwarded(&server, &gateway);
    let requests = server.requests();
    for again in &requests[1..3] {
        assert_eq!(again.body, requests[0].body);
        assert_eq!(again.header("idempotency-key"), requests[0].header("idempotency-key"));
    }
}

#[test]
fn a_2xx_counts_although_the_response_never_ends() {
    let mut requests = 0;
    let server = ScriptedServer::start(move |request| {
        requests += 1;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
        if requests == 1 { Reply::Drip(head.into(), Vec::new()) } else { taken(request) }
    });
    let directory = directory();
    // The second response has to arrive within it, too.
    let gateway = start(directory.path(), &server, &["--forward-timeout", "3s"]);
    gateway.post(&batch_of(2)).batch();
    wait_for("the records to be taken", || (gateway.metric(FORWARDED) == 2).then_some(()));
    gateway.post(&batch_of(1)).batch();
    wait_until_forwarded(&server, &gateway);
    assert_eq!(server.sizes(), [2, 1]);
}

#[test]
fn a_token_that_is_no_longer_valid_is_read_again_and_nothing_is_split() {
    let server = ScriptedServer::start(|request| {
        if request.header("authorization") == "Bearer new" { taken(request) } else { Reply::error(401, "NO") }
    });
    let directory = directory();
    let token = directory.path().join("token");
    fs::write(&token, "old\n").unwrap();
    let gateway = start(directory.path(), &server, &["--forward-token-file", token.to_str().unwrap()]);
    gateway.post(&batch_of(4)).batch();
    server.wait_for_batches(2);
    fs::write(&token, "new\n").unwrap();
    wait_until_forwarded(&server, &gateway);
    assert!(server.sizes().iter().all(|size| *size == 4), "{:?}", server.sizes());
}

#[test]
fn a_rejected_record_is_set_aside_and_named_and_others_pass() {
    let server = ScriptedServer::start(|request| {
        if request.text().contains("\"n\":5") { Reply::error(422, "NOT_LIKED") } else { taken(request) }
    });
    let directory = directory();
    let log = directory.path().join("log");
    let store = crate::support::postgres::ledger_in(directory.path());
    let arguments = ["--forward", &server.url(), "--forward-max-wait", "20ms"];
    let gateway = Gateway::start_logging(&store, &log, &arguments);
    let batch = batch_of(8);
    gateway.post(&batch).batch();
    let refused = batch.records[5].id.to_string();
    wait_for("the other records to be forwarded", || {
        ((gateway.metric(FORWARDED), gateway.metric(WAITING)) == (7, 0)).then_some(())
    });
    wait_for("the refused record to be counted", || (gateway.metric(REFUSED) == 1).then_some(()));
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.lines().any(|line| line.contains("was refused") && line.contains(&refused)), "{log}");
    assert!(!log.contains("NOT_LIKED"), "{log}");
}

#[test]
fn records_to_be_forwarded_survive_a_crash() {
    let server = ScriptedServer::start(|_| Reply::text(503, "text/plain", "later"));
    let directory = directory();
    let gateway = start(directory.path(), &server, &["--forward-max-records", "7"]);
    for _ in 0..4 {
        gateway.post(&batch_of(10)).batch();
    }
    server.wait_for_batches(2);
    gateway.kill();
    // A gateway without forwarding keeps the waiting records.
    Gateway::start(directory.path(), &[]).kill();
    // A late request of the killed gateway has the body that the next one begins with, and so the same key.
    let key = |request: &Request| request.header("idempotency-key").to_owned();
    let mut seen = HashSet::new();
    server.set_script(move |request| {
        let is_new = seen.insert(key(request));
        // The gateway crashes while it waits for this response.
        if is_new && seen.len() == 3 { Reply::Hang } else { taken(request) }
    });
    let keys = || server.requests().iter().map(key).collect::<HashSet<_>>();
    let gateway = start(directory.path(), &server, &["--forward-max-records", "7"]);
    wait_for("some records to be forwarded", || (keys().len() >= 3).then_some(()));
    assert_eq!(gateway.metric(FORWARDED), 14);
    gateway.kill();
    let gateway = start(directory.path(), &server, &["--forward-max-records", "7"]);
    wait_until_forwarded(&server, &gateway);
    assert_eq!(gateway.metric(FORWARDED), 26, "what was taken is not sent again");
}

#[test]
fn a_gateway_that_shuts_down_does_not_wait_for_the_forwarding_target() {
    let server = ScriptedServer::start(|_| Reply::Hang);
    let directory = directory();
    let gateway = start(directory.path(), &server, &["--forward-timeout", "10m"]);
    gateway.post(&batch_of(1)).batch();
    server.wait_for_batches(1);
    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
}

#[test]
fn over_tls_records_are_forwarded_only_to_a_server_that_the_system_trusts() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(path("cert.pem"), issued.cert.pem()).unwrap();
    fs::write(path("key.pem"), issued.signing_key.serialize_pem()).unwrap();
    // It rejects these records, which is enough to show that it was reached.
    let arguments = ["--tls-cert", &path("cert.pem"), "--tls-key", &path("key.pem")];
    let target = Gateway::start_on(&path("target.redb"), &arguments);
    let url = format!("https://localhost:{}/hook", target.address.port());
    for (trusted, said) in [(true, "http_status=404"), (false, "invalid peer certificate")] {
        let store = path(&format!("{trusted}.redb"));
        let log = File::create(path("log")).unwrap();
        let mut command = command(&store, ANY_PORT, &["--forward", &url]);
        command.stderr(log);
        if trusted {
            command.env("SSL_CERT_FILE", path("cert.pem"));
        }
        let gateway = Gateway::start_by(command);
        gateway.post(&batch_of(1)).batch();
        wait_for(said, || fs::read_to_string(path("log")).unwrap().contains(said).then_some(()));
        assert_eq!((gateway.metric(FORWARDED), gateway.metric(WAITING)), (0, 1));
    }
}
