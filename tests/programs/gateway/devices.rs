//! The devices at the gateway: their status, the list for operators, and the command.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use fieldsync::model::DeviceId;
use fieldsync::protocol::device_status::{STATUS_BYTES_MAX, status_path};
use fieldsync::protocol::wire::BATCH_PATH;
use hyper::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::configuration::Setup;
use crate::support::daemon::Daemon;
use crate::support::device::Batch;
use crate::support::gateway::{Gateway, program};
use crate::support::http::{HttpResponse, borrow_headers};
use crate::support::process::{ProgramOutput, run};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

const TOKEN: &str = "s3cret-of-the-operator";

/// A gateway with an operator.
pub(super) struct FleetGateway {
    setup: Setup,
    token_file: PathBuf,
}

impl FleetGateway {
    pub(super) fn with(text: &str) -> Self {
        let setup = Setup::with("");
        let token_file = PathBuf::from(setup.place("admin-token", &format!("{TOKEN}\n")));
        setup.write(&format!("admin_token_file = '{}'\n{text}", token_file.display()));
        Self { setup, token_file }
    }

    pub(super) fn start(&self) -> Gateway {
        self.setup.start(&[])
    }

    fn command(&self, gateway: &Gateway, arguments: &[&str]) -> ProgramOutput {
        let connection = ["--url", &gateway.url(), "--admin-token-file", self.token_file.to_str().unwrap()];
        run(Command::new(program()).arg("devices").args(arguments).args(connection), b"")
    }
}

fn call(gateway: &Gateway, query: &str) -> HttpResponse {
    let authorization = format!("Bearer {TOKEN}");
    let path = format!("/admin/devices{query}");
    gateway.send(Method::GET, &path, &[("authorization", authorization.as_str())], Vec::new())
}

fn list(gateway: &Gateway, query: &str) -> Vec<Value> {
    call(gateway, query).expect_json(200)["devices"].as_array().unwrap().clone()
}

fn post_status(gateway: &Gateway, device: Uuid, body: &str, headers: &[(&str, &str)]) -> HttpResponse {
    gateway.send(Method::POST, &status_path(BATCH_PATH, DeviceId(device)), headers, body.into())
}

fn ids(devices: &[Value]) -> Vec<String> {
    devices.iter().map(|device| device["device_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_a_device_reports_is_listed_and_what_it_does_not_is_null() {
    let fleet = FleetGateway::with("");
    let gateway = fleet.start();
    assert_eq!(
        call(&gateway, "").expect_json(200),
        json!({"devices": [], "next": null, "counts": {"known": 0, "overdue": 0}})
    );
    let device = Uuid::new_v4();
    let status = json!({
        "version": "0.2.0", "at": "2026-03-01T08:15:30.120Z",
        "records": {"pending": 3, "syncing": 2, "failed": 1, "synced": 40, "quarantined": 7},
        "oldest_pending_at": "2026-03-01T07:00:00.000Z", "queue_bytes": 65_536,
        "last_success_at": "2026-03-01T08:00:00.000Z", "alerts": ["needs_review", "disk_low"],
        "clock_offset_ms": -1500, "battery_percent": 81, "interface": "cellular",
        "not_known_yet": {"a": [1]}
    });
    let reported = post_status(&gateway, device, &status.to_string(), &[("x-sync-device-name", "tablet-17")]);
    assert_eq!((reported.status, reported.body.len()), (204, 0), "{}", reported.text());
    let listed = list(&gateway, "").remove(0);
    let expected = [
        ("device_id", json!(device.to_string())),
        ("name", json!("tablet-17")),
        ("version", json!("0.2.0")),
        ("unsent", json!(6)),
        ("under_review", json!(7)),
        ("oldest_unsent_at", json!("2026-03-01T07:00:00.000Z")),
        ("queue_bytes", json!(65_536)),
        ("last_success_at", json!("2026-03-01T08:00:00.000Z")),
        ("alerts", json!(["needs_review", "disk_low"])),
        ("clock_offset_ms", json!(-1500)),
        ("battery_percent", json!(81)),
        ("interface", json!("cellular")),
        ("overdue", json!(false)),
        ("overdue_since", Value::Null),
    ];
    for (name, value) in expected {
        assert_eq!(listed[name], value, "{name}");
    }
    assert!(listed["last_status_at"].is_string() && listed["last_status_at"] == listed["last_contact_at"]);

    // A batch and an outcome query are contacts, too.
    let batch = Batch::of(&["{}"]);
    gateway.post(&batch).batch();
    let asking = Batch::of(&["{}"]);
    assert_eq!(gateway.query_outcome(&asking).status, 404);
    let all = list(&gateway, "");
    let mut expected = [device, batch.device, asking.device].map(|id| id.to_string());
    expected.sort();
    let mut listed = ids(&all);
    listed.sort();
    assert_eq!(listed, expected);
    let silent = all.iter().find(|listed| listed["device_id"] == batch.device.to_string()).unwrap();
    for name in ["name", "version", "last_status_at", "unsent", "under_review", "battery_percent"] {
        assert_eq!(silent[name], Value::Null, "{name}");
    }
    assert_eq!(silent["alerts"], json!([]));
    wait_for("the count", || (gateway.metric("fieldsync_gateway_devices") == 3).then_some(()));
    let series = "fieldsync_gateway_http_requests_total{route=\"device_status\",status_class=\"2xx\"}";
    assert_eq!(gateway.metric(series), 1);
}

#[test]
fn a_later_status_replaces_an_earlier_one_and_a_batch_does_not() {
    let fleet = FleetGateway::with("");
    let gateway = fleet.start();
    let batch = Batch::of(&["{}"]);
    for version in ["1", "2"] {
        let body = json!({"version": version}).to_string();
        let name = [("x-sync-device-name", version)];
        assert_eq!(post_status(&gateway, batch.device, &body, &name).status, 204);
        assert_eq!(list(&gateway, "")[0]["version"], version);
    }
    gateway.post(&batch).batch();
    let listed = list(&gateway, "").remove(0);
    assert_eq!((&listed["version"], &listed["name"]), (&json!("2"), &json!("2")));
    // After a restart, too.
    gateway.signal("TERM");
    assert!(gateway.wait_for_exit().success());
    let gateway = fleet.start();
    assert_eq!(list(&gateway, "")[0], listed);
}

#[test]
fn contacts_that_nobody_looked_at_are_stored_when_the_gateway_ends() {
    let fleet = FleetGateway::with("");
    let gateway = fleet.start();
    let batch = Batch::of(&["{}"]);
    gateway.post(&batch).batch();
    assert_eq!(post_status(&gateway, Uuid::new_v4(), "{}", &[]).status, 204);
    gateway.signal("TERM");
    assert!(gateway.wait_for_exit().success());
    assert_eq!(list(&fleet.start(), "").len(), 2);
}

#[test]
fn devices_without_contact_for_the_longest_time_come_first_page_by_page() {
    let fleet = FleetGateway::with("");
    let gateway = fleet.start();
    let devices: Vec<Uuid> = (0..5).map(|_| Uuid::new_v4()).collect();
    let mut last = String::new();
    for device in &devices {
        // Each in another millisecond.
        last = wait_for("a later contact", || {
            assert_eq!(post_status(&gateway, *device, "{}", &[]).status, 204);
            let listed = list(&gateway, "");
            let at = listed.last().unwrap()["last_contact_at"].as_str().unwrap().to_owned();
            (at > last).then_some(at)
        });
    }
    let expected: Vec<String> = devices.iter().map(Uuid::to_string).collect();
    assert_eq!(ids(&list(&gateway, "")), expected);
    let (mut paged, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = call(&gateway, &query).expect_json(200);
        assert_eq!(page["counts"], json!({"known": 5, "overdue": 0}));
        paged.extend(ids(page["devices"].as_array().unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=2&after={next}");
    }
    assert_eq!(paged, expected);
    assert!(list(&gateway, "?overdue=true").is_empty());
    for query in ["?limit=x", "?after=x", "?after=1.x", "?overdue=x"] {
        let response = call(&gateway, query);
        assert_eq!((response.status, response.code().as_str()), (400, "INVALID_REQUEST"), "{query}");
    }
}

#[test]
fn a_device_without_contact_for_too_long_is_overdue() {
    let fleet = FleetGateway::with("[fleet]\noverdue = \"1ms\"\n");
    let checked = fleet.setup.check(&[]);
    assert_eq!(checked.code, Some(78), "{}", checked.stderr);
    let fleet = FleetGateway::with("[fleet]\noverdue_after = \"1ms\"\n");
    let gateway = fleet.start();
    let device = Uuid::new_v4();
    assert_eq!(post_status(&gateway, device, "{}", &[]).status, 204);
    let listed = wait_for("the device to be overdue", || list(&gateway, "?overdue=true").pop());
    assert_eq!((&listed["device_id"], &listed["overdue"]), (&json!(device.to_string()), &json!(true)));
    assert!(listed["overdue_since"].as_str() > listed["last_contact_at"].as_str(), "{listed}");
    wait_for("the metric", || (gateway.metric("fieldsync_gateway_devices_overdue") == 1).then_some(()));
}

#[test]
fn a_device_that_runs_is_listed_with_its_figures() {
    let fleet = FleetGateway::with("[faults]\nreject_on = \"bad amount\"\n");
    let gateway = fleet.start();
    let settings = Settings::for_server(&gateway.url());
    let daemon = Daemon::start(&settings.with("fleet.heartbeat", "100ms").with("device.name", "tablet-17"));
    daemon.enqueue(&[
        json!({"type": "Visits", "payload": {"Amount": 1}}),
        json!({"type": "Visits", "payload": {"Amount": "bad amount"}}),
    ]);
    daemon.wait_until("both to be settled", |status| {
        (&status["records"]["synced"], &status["records"]["quarantined"]) == (&json!(1), &json!(1))
    });
    let listed = wait_for("the figures of the device", || {
        let ran = fleet.command(&gateway, &["--json"]);
        let mut page: Value = serde_json::from_str(&ran.stdout).unwrap();
        let device = page["devices"].as_array_mut().unwrap().pop()?;
        let is_settled = device["unsent"] == 0 && device["under_review"] == 1;
        (is_settled && device["alerts"] == json!(["needs_review"])).then_some(device)
    });
    let status = daemon.status();
    let expected = [
        ("device_id", status["device_id"].clone()),
        ("name", json!("tablet-17")),
        ("version", status["version"].clone()),
        ("oldest_unsent_at", Value::Null),
        ("last_success_at", status["sync"]["last_success_at"].clone()),
        ("overdue", json!(false)),
    ];
    for (name, value) in expected {
        assert_eq!(listed[name], value, "{name}");
    }
    assert!(listed["queue_bytes"].is_u64() && listed["clock_offset_ms"].is_i64(), "{listed}");
    assert!(listed["last_status_at"].as_str() >= listed["last_success_at"].as_str(), "{listed}");
}

#[test]
fn a_status_that_is_no_status_changes_nothing() {
    let fleet = FleetGateway::with("");
    let gateway = fleet.start();
    let device = Uuid::new_v4();
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(STATUS_BYTES_MAX));
    let many = json!({"alerts": vec!["disk_low"; 65]}).to_string();
    let cases = [
        ("", 400),
        ("[]", 400),
        ("{\"at\":\"yesterday\"}", 400),
        ("{\"battery_percent\":101}", 400),
        ("{\"battery_percent\":-1}", 400),
        ("{\"version\":\"a\\u001b[2J\"}", 400),
        ("{\"alerts\":[\"Visit of Mr. X\"]}", 400),
        ("{\"records\":{\"pending\":-1}}", 400),
        (&many, 400),
        (&long, 413),
    ];
    for (body, status) in cases {
        let response = post_status(&gateway, device, body, &[]);
        assert_eq!(response.status, status, "{body}: {}", response.text());
    }
    let other = Uuid::new_v4().to_string();
    for (headers, status) in [
        ([("x-sync-device-id", other.as_str())], 400),
        ([("x-sync-device-id", "x")], 400),
        ([("content-encoding", "gzip")], 415),
    ] {
        assert_eq!(post_status(&gateway, device, "{}", &headers).status, status, "{headers:?}");
    }
    let path = status_path(BATCH_PATH, DeviceId(device));
    assert_eq!(gateway.send(Method::GET, &path, &[], Vec::new()).status, 405);
    let wrong = format!("{BATCH_PATH}/devices/x/status");
    assert_eq!(gateway.send(Method::POST, &wrong, &[], b"{}".into()).status, 400);
    assert!(list(&gateway, "").is_empty());
}

#[test]
fn a_device_reports_for_itself_alone() {
    let fleet = FleetGateway::with("");
    let batch = Batch::of(&["{}"]);
    let tokens = fleet.setup.place("tokens", &format!("{} mine\nshared\n", batch.device));
    let gateway = fleet.setup.start(&["--token-file", &tokens]);
    let report = |device: Uuid, token: &str| {
        let authorization = format!("Bearer {token}");
        post_status(&gateway, device, "{}", &[("authorization", authorization.as_str())])
    };
    let other = Uuid::new_v4();
    assert_eq!(report(other, "mine").code(), "DEVICE_MISMATCH");
    assert_eq!((report(other, "wrong").status, post_status(&gateway, other, "{}", &[]).status), (401, 401));
    let mut headers = Batch { device: other, ..batch.clone() }.headers();
    headers.push(("authorization".into(), "Bearer mine".into()));
    assert_eq!(gateway.send(Method::POST, BATCH_PATH, &borrow_headers(&headers), batch.body()).status, 403);
    assert!(list(&gateway, "").is_empty(), "refused requests are no contact");
    assert_eq!(report(batch.device, "mine").status, 204);
    assert_eq!(ids(&list(&gateway, "")), [batch.device.to_string()]);
    assert_eq!(report(other, "shared").status, 204);
    assert_eq!(list(&gateway, "").len(), 2);
    let log = fleet.setup.log();
    assert!(!log.contains("mine") && !log.contains("shared"), "{log}");
}

#[test]
fn only_operators_see_the_devices() {
    let fleet = FleetGateway::with("");
    let gateway = fleet.start();
    for authorization in ["", "Bearer ", "Bearer wrong"] {
        let headers = [("authorization", authorization)];
        let response = gateway.send(Method::GET, "/admin/devices", &headers, Vec::new());
        assert_eq!((response.status, response.header("www-authenticate")), (401, "Bearer"));
    }
    let other = Setup::with("").start(&[]);
    for path in ["/admin/devices", "/admin/", "/admin"] {
        assert_eq!(other.get(path).status, 404, "{path}");
    }
}

#[test]
fn devices_are_listed_on_the_command_line() {
    let fleet = FleetGateway::with("[fleet]\noverdue_after = \"1h\"\n");
    let gateway = fleet.start();
    let ran = fleet.command(&gateway, &[]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "No device was in contact yet.\n"),
        "{}",
        ran.stderr
    );
    let devices: Vec<Uuid> = (0..3).map(|_| Uuid::new_v4()).collect();
    let body = json!({
        "version": "0.2.0", "records": {"pending": 12, "quarantined": 4}, "alerts": ["disk_low", "no_contact"],
        "oldest_pending_at": "2026-03-01T07:00:00.000Z"
    });
    for device in &devices {
        let name = [("x-sync-device-name", "tablet 17")];
        assert_eq!(post_status(&gateway, *device, &body.to_string(), &name).status, 204);
    }
    let ran = fleet.command(&gateway, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.starts_with("ID "), "{}", ran.stdout);
    assert!(devices.iter().all(|device| ran.stdout.contains(&device.to_string())), "{}", ran.stdout);
    for text in ["tablet 17", "ok", "12", "0.2.0", "disk_low,no_contact", "3 devices, 0 of them overdue."] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    let ran = fleet.command(&gateway, &["--overdue"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "No device is overdue.\n"));
    let ran = fleet.command(&gateway, &["--json", "--limit", "2"]);
    let page: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(page["devices"].as_array().unwrap().len(), 2);
    let next = page["next"].as_str().unwrap();
    let ran = fleet.command(&gateway, &["--limit", "2"]);
    assert!(ran.stdout.contains(&format!("--after {next}")), "{}", ran.stdout);
    let ran = fleet.command(&gateway, &["--json", "--after", next]);
    let rest: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((rest["devices"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));

    let denied = fleet.setup.place("wrong-token", "wrong\n");
    let missing = fleet.setup.path("missing").display().to_string();
    let url = gateway.url();
    for (url, file, code) in [
        (url.as_str(), &denied, 5),
        ("http://127.0.0.1:9", &denied, 3),
        (&url, &missing, 1),
        ("ftp://x", &denied, 2),
    ] {
        let mut command = Command::new(program());
        let ran = run(command.args(["devices", "--url", url, "--admin-token-file", file]), b"");
        assert_eq!(ran.code, Some(code), "{url}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("fieldsync-gateway: "), "{}", ran.stderr);
    }
    for mistake in [&["--limit", "0"][..], &["--after", "1&limit=7"], &["list"]] {
        assert_eq!(fleet.command(&gateway, mistake).code, Some(2), "{mistake:?}");
    }
    let log = fs::read_to_string(fleet.setup.path("log")).unwrap();
    assert!(!log.contains(TOKEN), "{log}");
}
