//! The `OpenAPI` document, compared with the responses of the daemon in many states, and the other way round.

use std::collections::BTreeSet;
use std::fs;

use hyper::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::daemon::{Daemon, Home, NDJSON};
use crate::support::document::Document;
use crate::support::events::{EventReader, ReceivedEvent};
use crate::support::server::{Gate, Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::DEADLINE;

/// All calls that read.
fn look_around(document: &Document, daemon: &Daemon) {
    for path in [
        "/v1/status",
        "/v1/configuration",
        "/v1/batches",
        "/v1/telemetry",
        "/metrics",
        "/v1/manifest",
        "/v1/openapi.json",
    ] {
        assert_eq!(document.get(daemon, path).status, 200);
    }
    let page = document.get(daemon, "/v1/records?limit=20").json();
    for record in page["records"].as_array().unwrap() {
        let id = record["id"].as_str().unwrap();
        document.get(daemon, &format!("/v1/records/{id}"));
        document.get(daemon, &format!("/v1/records/{id}?payload=true&lineage=true"));
    }
    let batches = document.get(daemon, "/v1/batches?since=2026-01-01T00:00:00Z").json();
    for batch in batches["batches"].as_array().unwrap() {
        let id = batch["id"].as_str().unwrap();
        assert_eq!(document.get(daemon, &format!("/v1/batches/{id}")).status, 200);
        document.get(daemon, &format!("/v1/batches/{}", &id[..6]));
    }
    let ids: Vec<&Value> = page["records"].as_array().unwrap().iter().map(|record| &record["id"]).collect();
    let found =
        document.post(daemon, "/v1/records/lookup", &json!({"ids": ids}).to_string()).expect_json(200);
    assert_eq!(found["records"].as_array().unwrap().len(), ids.len());
    let changes = document.get(daemon, "/v1/records?changed_after=now").expect_json(200);
    let cursor = changes["next"].as_str().unwrap();
    document.get(daemon, &format!("/v1/records?changed_after={cursor}"));
    let mut events = EventReader::open(&daemon.home.socket(), None);
    let first = events.next().unwrap();
    assert_eq!(first.event, "status");
    document.check_event(&first.event, &first.data);
}

/// Mistakes of each kind, and valid records.
fn be_refused(document: &Document, daemon: &Daemon) {
    for path in
        ["/v1/records?state=ASLEEP", "/v1/records?limit=many", "/v1/records?after=x", "/v1/records?x=y"]
    {
        assert_eq!(document.get(daemon, path).status, 400);
    }
    assert_eq!(document.get(daemon, "/v1/records?changed_after=1.1").status, 410);
    assert_eq!(document.get(daemon, "/v1/batches?limit=-1").status, 400);
    assert_eq!(document.get(daemon, "/v1/batches?since=yesterday").status, 400);
    assert_eq!(document.get(daemon, "/v1/batches/12").status, 400);
    assert_eq!(document.get(daemon, &format!("/v1/batches/{}", Uuid::new_v4())).status, 404);
    assert_eq!(document.get(daemon, "/v1/records/12").status, 400);
    let unknown = Uuid::new_v4();
    assert_eq!(document.get(daemon, &format!("/v1/records/{unknown}?payload=true")).status, 404);
    assert_eq!(document.get(daemon, &format!("/v1/records/{unknown}?payload=maybe")).status, 400);
    for body in ["", "{", "[{\"type\":\"T\"}]", "7"] {
        assert_eq!(document.post(daemon, "/v1/records", body).status, 400);
    }
    let large = json!({"type": "T", "payload": {"text": "x".repeat(1 << 20)}}).to_string();
    assert_eq!(document.post(daemon, "/v1/records", &large).status, 413);
    let mine = json!({"id": unknown, "type": "T", "key": "k", "priority": 9, "payload": {"a": 1}});
    assert_eq!(document.post(daemon, "/v1/records", &mine.to_string()).status, 201);
    assert_eq!(document.post(daemon, "/v1/records", &json!([mine, mine]).to_string()).status, 201);
    let other = json!({"id": unknown, "type": "T", "payload": {"a": 2}});
    assert_eq!(document.post(daemon, "/v1/records", &other.to_string()).status, 409);
    let lines = format!("{}\n", keyed("x"));
    assert_eq!(document.call(daemon, &Method::POST, "/v1/records", NDJSON, &lines).status, 201);
    for (path, body, status) in [
        ("/v1/records/lookup", json!({"ids": [unknown, Uuid::new_v4()]}), 200),
        ("/v1/records/lookup", json!({"ids": ["17"]}), 400),
        ("/v1/quarantine/retry", json!({"ids": [unknown]}), 409),
        ("/v1/quarantine/retry", json!({"ids": [Uuid::new_v4()]}), 404),
        ("/v1/quarantine/retry", json!({}), 400),
        ("/v1/quarantine/discard", json!({"all": true}), 400),
        ("/v1/quarantine/discard", json!({"ids": [unknown]}), 409),
        ("/v1/quarantine/discard", json!({"ids": [Uuid::new_v4()]}), 404),
        ("/v1/quarantine/add", json!({"all": true}), 400),
        ("/v1/quarantine/add", json!({"ids": [Uuid::new_v4()]}), 404),
        ("/v1/quarantine/add", json!({"ids": [unknown, Uuid::new_v4()]}), 200),
        ("/v1/quarantine/add", json!({"ids": [unknown]}), 200),
        ("/v1/quarantine/retry", json!({"ids": [unknown]}), 200),
        ("/v1/alerts/acknowledge", json!({"alert": "disk_full"}), 400),
        ("/v1/alerts/acknowledge", json!({"alert": "store_damaged"}), 200),
    ] {
        assert_eq!(document.post(daemon, path, &body.to_string()).status, status, "{path} {body}");
    }
    let replace_payload = |id: &str, body: &str| {
        document
            .call(daemon, &Method::PUT, &format!("/v1/records/{id}/payload"), "application/json", body)
            .status
    };
    assert_eq!(replace_payload(&unknown.to_string(), "{}"), 409);
    assert_eq!(replace_payload(&Uuid::new_v4().to_string(), "{}"), 404);
    assert_eq!(replace_payload(&unknown.to_string(), "[]"), 400);
    assert_eq!(replace_payload("12", "{}"), 400);
}

fn keyed(text: &str) -> String {
    json!({"type": "T", "key": "a", "payload": {"text": text}}).to_string()
}

#[test]
fn the_document_is_openapi_of_this_version() {
    let daemon = Daemon::start(&Settings::default());
    let response = daemon.get("/v1/openapi.json");
    assert_eq!(response.header("content-type"), "application/json");
    let document = response.expect_json(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let values = |schema: &str| document["components"]["schemas"][schema]["enum"].clone();
    assert_eq!(
        values("RecordState"),
        json!(["PENDING", "SYNCING", "SYNCED", "FAILED", "QUARANTINED", "DISCARDED"])
    );
    assert_eq!(
        values("Phase"),
        json!([
            "idle",
            "syncing",
            "waiting",
            "offline",
            "paused",
            "deferred",
            "auth_required",
            "misconfigured"
        ])
    );
    assert_eq!(
        values("SizeRule"),
        json!(["large_queue", "large_payload", "standard", "learned", "micro", "split", "server_hint"])
    );
    assert_eq!(
        values("WaitingReason"),
        json!([
            "next_batch",
            "in_batch",
            "outcome",
            "backoff",
            "key",
            "server_wait",
            "breaker",
            "offline",
            "metered",
            "battery",
            "paused",
            "auth_required",
            "misconfigured",
            "disk",
            "review"
        ])
    );
    assert_eq!(values("BreakerMode"), json!(["normal", "micro", "open", "probing"]));
    let states: BTreeSet<String> = serde_json::from_value(values("LinkState")).unwrap();
    assert_eq!(states, ["online", "offline", "captive_portal", "unknown"].map(String::from).into());
    let not_found = daemon.get("/v1/nothing").error();
    assert!(not_found.1.contains("/v1/openapi.json"), "{not_found:?}");
}

#[test]
fn every_route_is_described_and_every_description_has_a_route() {
    let daemon = Daemon::start(&Settings::default());
    let document = Document::of(&daemon);
    let described: BTreeSet<(String, String)> =
        document.operations().into_iter().map(|(path, method, _)| (path, method)).collect();
    let source = include_str!("../../../src/ipc/routes.rs");
    let mut routes = BTreeSet::new();
    for route in source.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split_once("]) =>")) {
        let (method, segments) = route.0.split_once("\", [").unwrap();
        let path = segments.split(", ").map(|segment| match segment.strip_prefix('"') {
            Some(literal) => format!("/{}", literal.trim_end_matches('"')),
            None => format!("/{{{segment}}}"),
        });
        routes.insert((path.collect(), method.to_owned()));
    }
    assert_eq!(described, routes);
    // The methods in the source are those that are served.
    for path in described.iter().map(|(path, _)| path).collect::<BTreeSet<_>>() {
        let refused = daemon.call(Method::DELETE, path, "application/json", "");
        assert_eq!((refused.status, refused.code().as_str()), (405, "method_not_allowed"), "{path}");
        let allowed: BTreeSet<&str> = refused.header("allow").split(", ").collect();
        let known = described.iter().filter(|(of, _)| of == path).map(|(_, method)| method.as_str());
        assert_eq!(allowed, known.collect(), "{path}");
    }
}

#[test]
fn every_response_matches_the_document_and_every_operation_is_tried() {
    let home = Home::new(&Settings::default());
    let daemon = home.start();
    let document = Document::of(&daemon);
    look_around(&document, &daemon);

    be_refused(&document, &daemon);
    // No server; then a pause, and its end.
    daemon.wait_for_phase("misconfigured");
    look_around(&document, &daemon);
    assert_eq!(document.post(&daemon, "/v1/pause", "").status, 200);
    daemon.wait_for_phase("paused");
    look_around(&document, &daemon);
    assert_eq!(document.post(&daemon, "/v1/resume", "").status, 200);

    // A server that does not run.
    let (_, home) = daemon.terminate();
    home.configure(&Settings::for_server("http://127.0.0.1:1"));
    let daemon = home.start();
    daemon.wait_for_phase("offline");
    look_around(&document, &daemon);
    assert_eq!(document.post(&daemon, "/v1/sync", "").status, 202);

    // A server that refuses the token, a captive portal, a failing server, a slow server.
    let (_, home) = daemon.terminate();
    let server = ScriptedServer::start(|_| Reply::error(401, "WHO"));
    home.configure(&Settings::for_server(&server.url()).with("telemetry.alert_oldest_pending", "1ms"));
    let daemon = home.start();
    let events = EventReader::open(&daemon.home.socket(), None).read_in_background();
    daemon.wait_for_phase("auth_required");
    look_around(&document, &daemon);
    server.set_script(|_| Reply::html(200));
    document.post(&daemon, "/v1/sync", "");
    daemon.wait_until("the portal", |status| status["connectivity"]["state"] == "captive_portal");
    look_around(&document, &daemon);
    server.set_script(|_| Reply::error(500, "OUCH"));
    daemon.wait_until("a pause for the server", |status| {
        ["open", "probing"].iter().any(|mode| status["breaker"]["mode"] == *mode)
    });
    look_around(&document, &daemon);
    let gate = Gate::default();
    let held = gate.clone();
    server.set_script(move |request| {
        let status = json!({"status": "rejected", "code": "BAD", "message": "no", "field": "/n"});
        Reply::results(
            request.batch_id(),
            &if request.is_batch() { request.ids() } else { Vec::new() },
            |_| Some(status.clone()),
        )
        .held_by(&held)
    });
    daemon.wait_until("a batch in flight", |status| status["sync"]["batch"].is_object());
    look_around(&document, &daemon);
    gate.open();
    daemon.post("/v1/records", keyed("held")).expect_json(201);
    daemon.wait_until("records under review", |status| status["records"]["quarantined"] != 0);
    look_around(&document, &daemon);
    let reviewed = daemon.in_state("QUARANTINED").into_iter().next().unwrap();
    let path = format!("/v1/records/{reviewed}/payload");
    server.set_script(Reply::correct);
    assert_eq!(document.call(&daemon, &Method::PUT, &path, "application/json", "{}").status, 200);
    document.post(&daemon, "/v1/quarantine/retry", r#"{"all": true}"#);
    document.post(&daemon, "/v1/quarantine/discard", r#"{"all": true, "confirm": true}"#);
    daemon.wait_until_done();
    look_around(&document, &daemon);
    server.set_script(|request| {
        let ids = if request.is_batch() { request.ids() } else { Vec::new() };
        Reply::results(request.batch_id(), &ids, |_| {
            Some(json!({"status": "applied", "receipt": {"id": "4150868000000123"}}))
        })
    });
    let last = daemon.enqueue_many(1).remove(0);
    let mut seen: Vec<ReceivedEvent> = Vec::new();
    while !seen.last().is_some_and(|seen| seen.event == "record" && seen.data["id"] == last.as_str()) {
        seen.push(events.recv_timeout(DEADLINE).expect("the event of the last record"));
    }
    assert!(seen.last().unwrap().data["receipt"].is_object());
    look_around(&document, &daemon);
    for ReceivedEvent { event, data, .. } in &seen {
        document.check_event(event, data);
    }
    let kinds: BTreeSet<&str> = seen.iter().map(|seen| seen.event.as_str()).collect();
    let expected = ["alert", "batch", "breaker", "connectivity", "progress", "record", "status"];
    assert_eq!(kinds, expected.into());
    assert_eq!(document.untried(), Vec::<String>::new());
}

#[test]
fn responses_with_a_full_queue_and_a_damaged_store_match_the_document() {
    let settings = Settings::default().with("queue.max_records", "1");
    let daemon = Daemon::start(&settings);
    let document = Document::of(&daemon);
    daemon.enqueue_many(1);
    assert_eq!(document.post(&daemon, "/v1/records", &keyed("x")).status, 507);
    let (_, home) = daemon.terminate();
    let store = home.path("state/queue.redb");
    let mut bytes = fs::read(&store).unwrap();
    bytes[..4096].fill(0x5a);
    fs::write(&store, &bytes).unwrap();
    let daemon = home.start();
    look_around(&document, &daemon);
    let acknowledged =
        document.post(&daemon, "/v1/alerts/acknowledge", r#"{"alert": "store_damaged"}"#).expect_json(200);
    assert_eq!(acknowledged["acknowledged"].as_array().map(Vec::len), Some(1), "{acknowledged}");
}

#[test]
fn the_examples_match_the_document_and_the_daemon_accepts_them() {
    let daemon = Daemon::start(&Settings::default());
    let document = Document::of(&daemon);
    let requests = document.check_examples();
    let enqueues = requests.iter().filter(|(method, path, ..)| method == "POST" && path == "/v1/records");
    for (_, path, kind, example) in enqueues {
        let body = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
        assert_eq!(document.call(&daemon, &Method::POST, path, kind, &body).status, 201, "{body}");
    }
    let (_, path, _, lookup) = requests.iter().find(|(_, path, ..)| path == "/v1/records/lookup").unwrap();
    let found = document.post(&daemon, path, &lookup.to_string()).expect_json(200);
    assert_eq!(found["records"][0]["key"], "account-17");
}

#[test]
fn the_page_for_authors_of_apps_names_every_call_query_and_error() {
    let daemon = Daemon::start(&Settings::default());
    let document = daemon.get("/v1/openapi.json").expect_json(200);
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/from-an-app.md")).unwrap();
    let mut wanted = BTreeSet::from(["`not_found`".to_owned(), "`method_not_allowed`".to_owned()]);
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            wanted.insert(format!("`{} {path}", method.to_uppercase()));
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let queries = parameters.filter(|parameter| parameter["in"] == "query");
            wanted.extend(queries.map(|query| format!("{}=", query["name"].as_str().unwrap())));
            for response in operation["responses"].as_object().unwrap().values() {
                let parts = response["content"]["application/json"]["schema"]["allOf"].as_array();
                let codes = parts.and_then(|parts| {
                    parts[1]["properties"]["error"]["properties"]["code"]["enum"].as_array()
                });
                wanted
                    .extend(codes.into_iter().flatten().map(|code| format!("`{}`", code.as_str().unwrap())));
            }
        }
    }
    assert!(wanted.len() > 50, "{wanted:?}");
    let missing: Vec<&String> = wanted.iter().filter(|name| !page.contains(name.as_str())).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

#[test]
fn a_field_that_the_document_does_not_name_is_detected() {
    let daemon = Daemon::start(&Settings::default());
    let document = Document::of(&daemon);
    let mut status = daemon.status();
    document.check_event("status", &status);
    status["sync"]["surprise"] = json!(1);
    let checked =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| document.check_event("status", &status)));
    assert!(checked.is_err());
    let requests: Value = document.whole["components"]["schemas"]["NewRecord"].clone();
    assert_eq!(requests["additionalProperties"], false, "unknown fields of a record are refused");
}
