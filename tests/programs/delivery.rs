//! Enqueued records arrive once each, in order, in the promised form and sizes.

use std::collections::HashSet;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::daemon::{Counts, Daemon, NDJSON};
use crate::support::gateway::Gateway;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::directory;

#[test]
fn records_from_every_interface_arrive_at_the_gateway_once() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let daemon = Daemon::start(&Settings::for_server(&gateway.url()));
    let mut ids = daemon.enqueue_many(7);
    let object = daemon.post("/v1/records", r#"{"type":"Deals","payload":{"Amount":1.50}}"#).expect_json(201);
    let lines = "{\"type\":\"Deals\",\"payload\":{}}\n\n{\"type\":\"Deals\",\"payload\":{}}\r\n";
    let lines = daemon.call(hyper::Method::POST, "/v1/records", NDJSON, lines).expect_json(201);
    let typed = daemon.cli_with(&["--json", "enqueue", "--type", "Notes"], b"{\"a\":1}\n{\"a\":2}\n");
    let array = daemon.cli_with(&["enqueue", "--json"], b"[{\"type\":\"Notes\",\n\"payload\":{\n\"a\": 3}}]");
    assert_eq!((typed.code, array.code), (Some(0), Some(0)), "{typed:?} {array:?}");
    let by_cli = [&typed, &array].map(|ran| serde_json::from_str::<Value>(&ran.stdout).unwrap());
    for (response, count) in [(&object, 1), (&lines, 2), (&by_cli[0], 2), (&by_cli[1], 1)] {
        assert_eq!((&response["accepted"], &response["duplicates"]), (&json!(count), &json!(0)));
        ids.extend(response["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()));
    }
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(13));
    let ledger = gateway.ledger();
    assert_eq!(ledger.len(), 13);
    let arrived: HashSet<&str> = ledger.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(arrived, ids.iter().map(String::as_str).collect());
}

#[test]
fn headers_and_body_on_the_wire_are_those_of_the_protocol() {
    const ODD: &str =
        r#"{ "n" : 1.50e+2,  "big":123456789012345678901234567890.10, "s":"é\u0041\/", "a":1, "a":2 }"#;
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let mine = Uuid::new_v4();
    let body = format!(
        r#"[{{"id":"{mine}","type":"Visits","key":"account-17","payload":{ODD}}},{{"type":"Notes","payload":{{}}}}]"#
    );
    daemon.post("/v1/records", body).expect_json(201);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));

    let batches = server.batches();
    assert_eq!(batches.len(), 1);
    let batch = &batches[0];
    assert_eq!((batch.method.as_str(), batch.path.as_str()), ("POST", "/crm/v2/mobile/sync/batch"));
    assert_eq!(batch.header("content-type"), "application/json");
    assert_eq!(batch.header("content-encoding"), "");
    assert_eq!(batch.header("authorization"), "");
    assert_eq!(batch.header("x-sync-attempt"), "1");
    assert_eq!(batch.header("x-batch-sequence"), "1/1");
    let batch_id: Uuid = batch.header("x-sync-batch-id").parse().unwrap();
    let device: Uuid = batch.header("x-sync-device-id").parse().unwrap();
    assert_eq!((batch_id.get_version_num(), device.get_version_num()), (4, 4));
    assert_eq!(daemon.status()["device_id"], device.to_string());

    let json = batch.json();
    assert_eq!(keys(&json), ["batch_id", "device_id", "records", "sequence"]);
    assert_eq!(json["batch_id"], batch_id.to_string());
    assert_eq!(json["device_id"], device.to_string());
    assert_eq!(json["sequence"], json!({"index": 1, "total": 1}));
    let records = batch.records();
    assert_eq!(keys(&records[0]), ["created_at", "id", "key", "payload", "type"]);
    assert_eq!(keys(&records[1]), ["created_at", "id", "payload", "type"]);
    assert_eq!(records[0]["id"], mine.to_string());
    assert_eq!((&records[0]["type"], &records[0]["key"]), (&json!("Visits"), &json!("account-17")));
    assert!(batch.text().contains(&format!(r#""payload":{ODD}}}"#)), "{}", batch.text());
    let created = records[0]["created_at"].as_str().unwrap();
    let shape: String = created.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "9999-99-99T99:99:99.999Z");
    assert_eq!(daemon.record(&mine.to_string())["created_at"], created);
}

#[test]
fn the_name_of_the_device_is_sent_with_each_batch_and_shown_everywhere() {
    let server = ScriptedServer::start(Reply::correct);
    let settings = Settings::for_server(&server.url());
    let daemon = Daemon::start(&settings.clone().with("device.name", "Van 12"));
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    assert_eq!(server.batches()[0].header("x-sync-device-name"), "Van 12");
    let status = daemon.status();
    assert_eq!(status["device_name"], "Van 12");
    let id = status["device_id"].as_str().unwrap();
    assert!(daemon.cli(&["status"]).stdout.contains(&format!("Van 12 ({id})")));
    let metric = format!("fieldsync_device_info{{id=\"{id}\",name=\"Van 12\"}} 1");
    assert!(daemon.get("/metrics").text().contains(&metric));

    daemon.home.configure(&settings);
    daemon.signal("HUP");
    daemon.wait_until("the name of the host", |status| status["device_name"] != "Van 12");
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    let sent = server.batches()[1].header("x-sync-device-name").to_owned();
    assert_eq!(daemon.status()["device_name"], sent.as_str());
    assert!((1..=64).contains(&sent.len()), "{sent}");
}

#[test]
fn the_gateway_logs_the_name_of_the_device() {
    let directory = directory();
    let (store, log) = (directory.path().join("ledger.redb"), directory.path().join("log"));
    let gateway = Gateway::start_logging(store.to_str().unwrap(), &log, &[]);
    let daemon = Daemon::start(&Settings::for_server(&gateway.url()).with("device.name", "Van 12"));
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    let log = std::fs::read_to_string(log).unwrap();
    let line = log.lines().find(|line| line.contains("batch settled")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("device_name=\"Van 12\""), "{line}");
}

#[test]
fn the_device_id_survives_a_restart() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    let daemon = daemon.restart();
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    let batches = server.wait_for_batches(2);
    assert_eq!(batches[0].header("x-sync-device-id"), batches[1].header("x-sync-device-id"));
    assert_ne!(batches[0].batch_id(), batches[1].batch_id());
}

#[test]
fn a_large_queue_is_sent_in_batches_of_25_and_a_small_one_of_50() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(151);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(151));
    // Above 100 waiting records, batches have 25 records, then 50.
    assert_eq!(server.sizes(), [25, 25, 25, 50, 26]);
    for (batch, nth) in server.batches().iter().zip(1..) {
        let (index, total) = batch.header("x-batch-sequence").split_once('/').unwrap();
        let (index, total): (u32, u32) = (index.parse().unwrap(), total.parse().unwrap());
        assert_eq!(index, nth);
        assert!(index <= total, "{index}/{total}");
    }
    let reports = daemon.get("/v1/batches").expect_json(200);
    let rules: Vec<&str> = reports["batches"].as_array().unwrap().iter().rev().map(rule).collect();
    assert_eq!(rules, ["large_queue", "large_queue", "large_queue", "standard", "standard"]);
}

#[test]
fn a_large_payload_is_sent_in_batches_of_30() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let text = "x".repeat(35_000);
    let records: Vec<Value> = (0..40).map(|_| json!({"type": "Photos", "payload": {"text": text}})).collect();
    daemon.enqueue(&records);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(40));
    assert_eq!(server.sizes(), [30, 10]);
    let reports = daemon.get("/v1/batches").expect_json(200);
    assert_eq!(rule(&reports["batches"][1]), "large_payload");
}

#[test]
fn the_highest_priority_is_sent_first_and_equal_ones_in_order_of_arrival() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let record = |n: u64, priority: Option<u64>| match priority {
        Some(priority) => json!({"type": "T", "priority": priority, "payload": {"n": n}}),
        None => json!({"type": "T", "payload": {"n": n}}),
    };
    daemon.paused(|daemon| {
        daemon.enqueue(&[record(1, Some(0)), record(2, None), record(3, Some(9)), record(4, Some(5))]);
        daemon.enqueue(&[record(5, Some(9)), record(6, Some(6))]);
    });
    daemon.wait_until_done();
    let sent: Vec<(u64, Option<u64>)> = server
        .batches()
        .iter()
        .flat_map(Request::records)
        .map(|record| (record["payload"]["n"].as_u64().unwrap(), record["priority"].as_u64()))
        .collect();
    // The default priority is left out.
    let expected = [(3, Some(9)), (5, Some(9)), (6, Some(6)), (2, None), (4, None), (1, Some(0))];
    assert_eq!(sent, expected);
}

#[test]
fn a_record_to_be_retried_blocks_only_later_ones_of_its_key() {
    let server = ScriptedServer::start(Reply::correct);
    let mut first = true;
    server.set_script(move |request| {
        if !request.is_batch() {
            return Reply::correct(request);
        }
        let late = first && request.text().contains("\"a1\"");
        first &= !late;
        let status = if late { "retry" } else { "applied" };
        Reply::results(request.batch_id(), &request.ids(), |_| Some(json!({"status": status})))
    });
    let settings = Settings::for_server(&server.url())
        .batches_of(1)
        .with("retry.initial_backoff", "10m")
        .with("retry.max_backoff", "10m");
    let daemon = Daemon::start(&settings);
    let record = |name: &str, key: &str| json!({"type": "T", "key": key, "payload": {"name": name}});
    daemon.enqueue(&[record("a1", "a"), record("a2", "a"), record("b1", "b"), record("a3", "a")]);
    daemon.wait_until("the record of another key to be sent", |status| status["records"]["synced"] == 1);
    // It ends the back-off.
    daemon.post("/v1/sync", "").expect_json(202);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(4));
    let sent: Vec<String> = server
        .batches()
        .iter()
        .flat_map(Request::records)
        .map(|record| record["payload"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(sent, ["a1", "b1", "a1", "a2", "a3"]);
}

#[test]
fn a_resend_is_byte_identical_except_for_its_attempt() {
    let server = ScriptedServer::at_first(2, |_| Reply::error(503, "BUSY"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(3);
    daemon.wait_until_done();
    let batches = server.batches();
    assert_eq!(batches.iter().map(Request::attempt).collect::<Vec<_>>(), [1, 2, 3]);
    for resend in &batches[1..] {
        assert_eq!(resend.body, batches[0].body);
        for same in ["x-sync-batch-id", "x-batch-sequence", "x-sync-device-id"] {
            assert_eq!(resend.header(same), batches[0].header(same), "{same}");
        }
    }
}

#[test]
fn compressed_bodies_arrive_unchanged_if_the_server_accepts_them() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    for compression in ["zstd", "gzip", "auto"] {
        let daemon =
            Daemon::start(&Settings::for_server(&gateway.url()).with("server.compression", compression));
        daemon.enqueue_many(20);
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(20), "{compression}");
    }
    assert_eq!(gateway.ledger().len(), 60);
}

fn rule(batch: &Value) -> &str {
    batch["rule"].as_str().unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn an_urgent_record_is_sent_soon_after_a_failure_that_blocked_its_key() {
    const OF_THE_KEY: usize = 60;
    let mut batches = 0;
    let server = ScriptedServer::start(move |request| {
        batches += usize::from(request.is_batch());
        let is_second = request.is_batch() && batches == 2;
        if is_second { Reply::html(504) } else { Reply::correct(request).with("x-sync-holds-keys", "true") }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(25));
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    let urgent = daemon.paused(|daemon| {
        let plain = |n: usize| json!({"type": "Visits", "payload": {"n": n}});
        let keyed = |n: usize| json!({"type": "Visits", "key": "account", "payload": {"n": n}});
        daemon.enqueue(&(0..OF_THE_KEY / 2).map(keyed).collect::<Vec<_>>());
        daemon.enqueue(&(0..900).map(plain).collect::<Vec<_>>());
        daemon.enqueue(&(0..OF_THE_KEY / 2).map(keyed).collect::<Vec<_>>());
        let urgent = json!({"type": "Visits", "key": "account", "priority": 9, "payload": {"urgent": true}});
        daemon.enqueue(&[urgent]).remove(0)
    });
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(OF_THE_KEY as u64 + 902));
    let order: Vec<String> = server.batches().iter().flat_map(Request::ids).collect();
    let position = order.iter().position(|id| *id == urgent).unwrap();
    assert!(position < 400, "it went as number {position} of {}", order.len());
}
