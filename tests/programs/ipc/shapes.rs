//! Every response has the promised shape.

use hyper::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::keys;
use crate::support::daemon::Daemon;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

/// One send of a batch, wherever it is listed.
const BATCH_KEYS: [&str; 18] = [
    "at",
    "at_most_ms",
    "attempt",
    "bytes",
    "duration_ms",
    "expected_ms",
    "http_status",
    "id",
    "in_flight",
    "in_flight_rule",
    "note",
    "outcome",
    "parent",
    "records",
    "rule",
    "sequence",
    "synced",
    "time_limit_ms",
];

const TELEMETRY_KEYS: [&str; 11] = [
    "batch_overhead_ms",
    "by_batch_size",
    "by_in_flight",
    "by_type",
    "days",
    "failures",
    "from",
    "hours",
    "per_record",
    "to",
    "window_s",
];

#[test]
fn the_status_has_exactly_the_promised_keys() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(3);
    daemon.wait_until_done();
    let status = daemon.wait_for_phase("idle");
    let sections: [(&str, &[&str]); 10] = [
        (
            "",
            &[
                "alerts",
                "batching",
                "breaker",
                "caller",
                "connectivity",
                "device_id",
                "device_name",
                "queue",
                "records",
                "started_at",
                "sync",
                "version",
            ],
        ),
        (
            "/sync",
            &[
                "batch",
                "batches",
                "done",
                "eta_s",
                "last_error",
                "last_success_at",
                "needs_review",
                "next_attempt_at",
                "phase",
                "reason",
                "remedy",
                "since",
                "text",
                "total",
            ],
        ),
        ("/records", &["failed", "pending", "quarantined", "synced", "syncing"]),
        (
            "/queue",
            &[
                "bytes",
                "disk",
                "disk_bytes",
                "disk_free_bytes",
                "file_bytes",
                "holding",
                "max_bytes",
                "max_disk_bytes",
                "max_record_bytes",
                "max_records",
                "oldest_pending_at",
                "records",
            ],
        ),
        (
            "/batching",
            &[
                "at_most_ms",
                "expected_ms",
                "in_flight",
                "in_flight_limit",
                "in_flight_rule",
                "ms_per_record",
                "rule",
                "size",
                "time_budget_ms",
                "time_limit_ms",
            ],
        ),
        ("/breaker", &["consecutive_failures", "mode", "retry_at"]),
        ("/connectivity", &["metered", "since", "state"]),
        ("/caller", &["admin", "queue", "records", "uid"]),
        ("/caller/records", &["failed", "pending", "quarantined", "synced", "syncing"]),
        ("/caller/queue", &["bytes", "disk_bytes", "max_bytes", "max_disk_bytes", "max_records", "records"]),
    ];
    for (section, expected) in sections {
        assert_eq!(keys(status.pointer(section).unwrap()), expected, "{section}");
    }
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["sync"]["text"], "All 3 records synced");
    assert_eq!((&status["sync"]["done"], &status["sync"]["total"]), (&3.into(), &3.into()));
    assert_eq!(status["connectivity"]["state"], "online");
    assert_eq!(status["sync"]["batch"], Value::Null);
    let shape = |time: &Value| -> String {
        time.as_str().unwrap().chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect()
    };
    for time in [&status["started_at"], &status["sync"]["last_success_at"], &status["connectivity"]["since"]]
    {
        assert_eq!(shape(time), "9999-99-99T99:99:99.999Z");
    }
}

#[test]
fn a_manifest_entry_has_exactly_the_promised_keys() {
    let server = ScriptedServer::start(|request| {
        let status = serde_json::json!({"status": "rejected", "code": "C", "message": "M"});
        Reply::results(request.batch_id(), &request.ids(), |_| Some(status.clone()))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let id = daemon.enqueue_many(1).remove(0);
    daemon.wait_until_done();
    let entry = daemon.record(&id);
    let expected = [
        "attempts",
        "batch_id",
        "created_at",
        "id",
        "key",
        "last_error",
        "next_attempt_at",
        "payload_bytes",
        "priority",
        "sends",
        "seq",
        "state",
        "submitter",
        "type",
        "updated_at",
    ];
    assert_eq!(keys(&entry), expected);
    let waiting = &daemon.detail(&id)["waiting_for"];
    assert_eq!(keys(waiting), ["held_by", "reason", "remedy", "text", "until"]);
    assert_eq!(waiting["remedy"], format!("decide about it: fieldsync quarantine show {id}"));
    assert_eq!(entry["submitter"], nix::unistd::geteuid().as_raw());
    assert_eq!(keys(&daemon.record_with_lineage(&id)["lineage"][0]), BATCH_KEYS);
    assert_eq!(keys(&entry["last_error"]), ["at", "class", "code", "http_status", "message"]);
    assert_eq!(
        (&entry["seq"], &entry["priority"], &entry["payload_bytes"]),
        (&1.into(), &5.into(), &7.into())
    );
}

#[test]
fn batches_telemetry_and_metrics_report_what_happened_and_survive_a_restart() {
    let server = ScriptedServer::at_first(1, |_| Reply::error(503, "BUSY"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(12);
    daemon.wait_until_done();
    let batches = daemon.get("/v1/batches?limit=1").expect_json(200);
    let batches = batches["batches"].as_array().unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(keys(&batches[0]), BATCH_KEYS);
    let batch = &batches[0];
    assert_eq!(
        (batch["outcome"].as_str(), batch["sequence"].as_str(), batch["attempt"].as_u64()),
        (Some("answered"), Some("1/1"), Some(2))
    );

    let metrics = daemon.get("/metrics");
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = metrics.text();
    for line in
        ["fieldsync_records{name=\"synced\"} 12", "fieldsync_synced_since_start 12", "fieldsync_online 1"]
    {
        assert!(text.lines().any(|known| known == line), "{text} lacks {line}");
    }

    let check_reports = |daemon: &Daemon| {
        let report = daemon.get("/v1/telemetry").expect_json(200);
        assert_eq!(keys(&report), TELEMETRY_KEYS);
        assert_eq!(report["per_record"]["records"], 12);
        assert_eq!(keys(&report["per_record"]), ["mean_ms", "p50_ms", "p95_ms", "records"]);
        let sizes = report["by_batch_size"].as_array().unwrap();
        let names: Vec<&str> = sizes.iter().map(|size| size["size"].as_str().unwrap()).collect();
        assert_eq!(names, ["1", "2–5", "6–10", "11–25", "26–50", "51–100", ">100"]);
        assert_eq!((&sizes[3]["batches"], &sizes[3]["succeeded"]), (&2.into(), &1.into()));
        assert_eq!(report["by_type"][0]["type"], "Visits");
        assert_eq!(report["failures"][0]["class"], "throttled");
        assert_eq!(report["days"].as_array().unwrap().len(), 1);
    };
    check_reports(&daemon);
    check_reports(&daemon.restart());
}

/// Every time in this value, with its name.
fn times<'a>(value: &'a Value, found: &mut Vec<(&'a str, &'a Value)>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                if name == "at" || name == "since" || name.ends_with("_at") {
                    found.push((name, inner));
                }
                times(inner, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                times(item, found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_time_is_in_utc_with_milliseconds() {
    // Outcome queries included.
    let server = ScriptedServer::start(|_| Reply::html(504));
    let settings =
        Settings::for_server(&server.url()).with("breaker.open_min", "10m").with("breaker.open_max", "20m");
    let daemon = Daemon::start(&settings);
    daemon.enqueue_many(120);
    daemon.wait_until("the breaker to open", |status| status["breaker"]["retry_at"].is_string());
    daemon.wait_for_phase("waiting");
    let responses =
        ["/v1/status", "/v1/records?limit=200", "/v1/batches"].map(|path| daemon.get(path).expect_json(200));
    let mut found = Vec::new();
    for response in &responses {
        times(response, &mut found);
    }
    let reported: std::collections::BTreeSet<&str> =
        found.iter().filter(|(_, time)| time.is_string()).map(|(name, _)| *name).collect();
    let expected = [
        "at",
        "created_at",
        "next_attempt_at",
        "oldest_pending_at",
        "retry_at",
        "since",
        "started_at",
        "updated_at",
    ];
    assert_eq!(reported, expected.into());
    for (name, time) in found {
        let shape = time.as_str().map(|time| time.replace(|c: char| c.is_ascii_digit(), "9"));
        assert!(time.is_null() || shape.as_deref() == Some("9999-99-99T99:99:99.999Z"), "{name}: {time}");
    }
}

#[test]
fn unknown_paths_wrong_methods_and_wrong_queries_are_refused() {
    let daemon = Daemon::start(&Settings::default());
    for (method, path, status, code) in [
        (Method::GET, "/", 404, "not_found"),
        (Method::GET, "/v1/nothing", 404, "not_found"),
        (Method::GET, "/v2/status", 404, "not_found"),
        (Method::POST, "/v1/status", 405, "method_not_allowed"),
        (Method::DELETE, "/v1/records", 405, "method_not_allowed"),
        (Method::GET, "/v1/sync", 405, "method_not_allowed"),
        (Method::GET, "/v1/records?state=ASLEEP", 400, "invalid_query"),
        (Method::GET, "/v1/records?limit=many", 400, "invalid_query"),
        (Method::GET, "/v1/records?after=yesterday", 400, "invalid_query"),
        (Method::GET, "/v1/records?stat=SYNCED", 400, "invalid_query"),
        (Method::GET, "/v1/batches?limit=-1", 400, "invalid_query"),
        (Method::GET, "/v1/records/12", 400, "invalid_id"),
    ] {
        let response = daemon.call(method.clone(), path, "application/json", "");
        assert_eq!((response.status, response.code().as_str()), (status, code), "{method} {path}");
    }
    let unknown = daemon.get(&format!("/v1/records/{}", Uuid::new_v4()));
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "no_such_record"));
}

#[test]
fn the_first_event_is_the_present_status_and_changes_follow() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = fieldsync::client::Client::new(daemon.home.socket());
    runtime.block_on(async {
        let mut events = client.events().await.unwrap();
        let first = events.next().await.unwrap().unwrap();
        assert_eq!(first.name, "status");
        let status: Value = serde_json::from_str(&first.data).unwrap();
        assert_eq!(status["sync"]["phase"], "idle");
        let enqueued = std::thread::scope(|scope| scope.spawn(|| daemon.enqueue_many(1)).join().unwrap());
        let id = &enqueued[0];
        let mut seen = std::collections::BTreeSet::new();
        while !["batch", "progress", "connectivity", "record"].iter().all(|name| seen.contains(*name)) {
            let next = tokio::time::timeout(crate::support::wait::DEADLINE, events.next()).await;
            let event = next.expect("an event in time").unwrap().unwrap();
            let data: Value = serde_json::from_str(&event.data).unwrap();
            if event.name == "record" {
                assert_eq!((&data["id"], &data["state"]), (&id.as_str().into(), &"SYNCED".into()));
            }
            seen.insert(event.name);
        }
    });
    // An event reader does not delay shutdown.
    let (status, _home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_percent_encoded_path_means_the_same_as_the_plain_one() {
    let daemon = Daemon::start(&Settings::default());
    let id = Uuid::now_v7().to_string();
    let body = json!({"id": id, "type": "T", "payload": {}}).to_string();
    daemon.post("/v1/records", body).expect_json(201);
    let encoded = format!("%{:02X}{}", id.as_bytes()[0], &id[1..].replace('-', "%2D"));
    assert_eq!(daemon.get(&format!("/v1/%72ecords/{encoded}")).expect_json(200)["id"], id);
    assert_eq!(daemon.get("/v1/records/%FF").expect_json(400)["error"]["code"], "invalid_id");
}
