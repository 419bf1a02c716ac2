//! The operator's page of the gateway: devices, refused records and what can be done with them.

use std::fs;
use std::path::PathBuf;

use fieldsync::model::DeviceId;
use fieldsync::protocol::device_status::status_path;
use fieldsync::protocol::wire::BATCH_PATH;
use hyper::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::{LANDSCAPE, PORTRAIT};
use crate::support::chromium::{Browser, Tab};
use crate::support::device::{Batch, Record};
use crate::support::gateway::{ANY_PORT, Gateway, command_of};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::wait::{directory, wait_for};

const TOKEN: &str = "s3cret-of-the-operator";
const CONTRAST: &str = include_str!("../../../web/contrast.js");
const AXE: &str = include_str!("../../../web/axe.js");
const SIZES: [(u32, u32); 4] = [(1280, 800), LANDSCAPE, PORTRAIT, (320, 640)];
const PREFERENCES: [(&str, &str); 4] = [
    ("prefers-color-scheme", "light"),
    ("prefers-color-scheme", "dark"),
    ("prefers-contrast", "more"),
    ("forced-colors", "active"),
];

/// A gateway that forwards to a receiver which refuses payloads with `"bad":true`.
struct Operated {
    gateway: Gateway,
    _server: ScriptedServer,
    _directory: TempDir,
}

impl Operated {
    fn start(overdue_after: &str, message: &'static str) -> Self {
        let directory = directory();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("admin-token"), format!("{TOKEN}\n")).unwrap();
        let server = ScriptedServer::start(move |request| {
            let results = request.records().into_iter().map(|record| {
                let id = &record["id"];
                if record["payload"]["bad"] == true {
                    json!({"id": id, "status": "rejected", "code": "INVALID_DATA", "message": message, "field": "/Amount"})
                } else {
                    json!({"id": id, "status": "applied"})
                }
            });
            Reply::json(200, &json!({"results": results.collect::<Vec<Value>>()}))
        });
        let config = format!(
            "[gateway]\nlisten = \"{ANY_PORT}\"\nstore = '{}'\nadmin_token_file = '{}'\n\
             [forward]\nurl = \"{}\"\nmax_wait = \"20ms\"\n[fleet]\noverdue_after = \"{overdue_after}\"\n",
            path("ledger.redb").display(),
            path("admin-token").display(),
            server.url(),
        );
        fs::write(path("gateway.toml"), config).unwrap();
        let file = path("gateway.toml");
        let gateway = Gateway::start_by(command_of(&["--config", file.to_str().unwrap()]));
        Self { gateway, _server: server, _directory: directory }
    }

    fn report(&self, device: Uuid, name: &str, status: &Value) {
        let path = status_path(BATCH_PATH, DeviceId(device));
        let headers = [("x-sync-device-name", name)];
        let reported = self.gateway.send(Method::POST, &path, &headers, status.to_string().into());
        assert_eq!(reported.status, 204, "{}", reported.text());
    }

    /// Records of these keys, of which the first is refused, from one device.
    fn refuse(&self, device: Uuid, keys: &[&str]) -> Batch {
        let record = |key: &&str| {
            let payload =
                format!("{{\"Subject\":\"{key}\",\"Amount\":1.50,\"bad\":true,\"Note\":\"a\u{202e}b\"}}");
            Record { key: Some((*key).to_owned()), ..Record::new(&payload) }
        };
        let batch = Batch { device, ..Batch::with(keys.iter().map(record).collect()) };
        self.gateway.post(&batch).batch();
        let refused = "fieldsync_gateway_forward_refused";
        let expected = keys.len() as u64;
        wait_for("refused records", || (self.gateway.metric(refused) == expected).then_some(()));
        batch
    }

    fn url(&self) -> String {
        format!("{}/admin/", self.gateway.url())
    }
}

/// Devices in many conditions, and three refused records.
fn populated(overdue_after: &str) -> (Operated, Batch) {
    let operated = Operated::start(overdue_after, "Amount must be <b>a number</b> \u{202e}");
    let device = Uuid::new_v4();
    operated.report(device, "tablet-17", &json!({
        "version": "0.2.0", "records": {"pending": 12, "quarantined": 2}, "oldest_pending_at": "2026-03-01T07:00:00.000Z",
        "queue_bytes": 1_234_567, "alerts": ["needs_review", "records_wait"], "clock_offset_ms": 400_000,
        "battery_percent": 81, "interface": "cellular"
    }));
    operated.report(
        Uuid::new_v4(),
        &"W".repeat(64),
        &json!({
            "version": "0.2.0", "records": {"pending": 0, "quarantined": 0}, "alerts": [], "interface": "wifi"
        }),
    );
    operated.gateway.post(&Batch::of(&["{}"])).batch();
    let batch = operated.refuse(device, &["Farm 9", "Farm 3", &"K".repeat(120)]);
    (operated, batch)
}

fn unlock(tab: &Tab<'_>) {
    tab.wait("the field for the token", "document.activeElement.id === 'token'");
    tab.enter(TOKEN);
    tab.wait("the lists", "!document.querySelector('#lists').hidden");
}

fn wait_for_rows(tab: &Tab<'_>, devices: usize, records: usize) {
    tab.wait(
        "the devices",
        &format!("document.querySelectorAll('#device-table tbody tr').length === {devices}"),
    );
    tab.wait("the records", &format!("document.querySelectorAll('#records li').length === {records}"));
}

#[test]
#[ignore = "needs chromium"]
fn the_token_is_asked_for_and_kept_nowhere() {
    let (operated, _) = populated("3d");
    let browser = Browser::start();
    let tab = browser.open(&operated.url(), 1280, 800);
    tab.wait("the field for the token", "document.activeElement.id === 'token'");
    tab.enter("wrong");
    tab.wait_for_text("#token-fault", "The gateway does not accept this token.");
    tab.enter("not a token");
    tab.wait(
        "the fault",
        "document.querySelector('#token-fault').textContent.startsWith('This is not a token')",
    );
    tab.enter(TOKEN);
    wait_for_rows(&tab, 3, 3);
    let kept =
        "[localStorage.length, sessionStorage.length, document.cookie, location.href.includes('s3cret')]";
    assert_eq!(tab.eval(kept), json!([0, 0, "", false]));
    assert_eq!(tab.eval("document.documentElement.outerHTML.includes('s3cret')"), false);
    assert!(
        tab.requested_urls().iter().all(|url| url.starts_with(&operated.url())),
        "{:?}",
        tab.requested_urls()
    );
    // What it showed goes with the token.
    tab.tap("#forget");
    tab.wait("the field for the token", "document.activeElement.id === 'token'");
    assert_eq!(tab.eval("document.querySelectorAll('#device-table tbody tr, #records li').length"), 0);
    let refused =
        |event: &Value| event["params"]["entry"]["text"].as_str().unwrap_or_default().contains("401");
    let others: Vec<Value> = tab.browser_errors().into_iter().filter(|event| !refused(event)).collect();
    assert_eq!(others, Vec::<Value>::new());
}

#[test]
#[ignore = "needs chromium"]
fn devices_and_records_are_shown_as_text() {
    let (operated, batch) = populated("3d");
    let browser = Browser::start();
    let tab = browser.open(&operated.url(), 1280, 800);
    unlock(&tab);
    wait_for_rows(&tab, 3, 3);
    tab.wait_for_text("#device-counts", "3 devices, 0 overdue");
    let row = tab.texts("#device-table tbody tr").into_iter().find(|row| row.contains("tablet-17")).unwrap();
    for text in [
        "In contact",
        "12",
        "oldest from",
        "needs review, records wait",
        "version 0.2.0, cellular, battery 81 %",
        "clock 7 min ahead",
    ] {
        assert!(row.contains(text), "{text}: {row}");
    }
    let reasons = tab.texts("#records .why");
    assert!(
        reasons.iter().all(|why| why == "INVALID_DATA at /Amount: Amount must be <b>a number</b> \u{fffd}"),
        "{reasons:?}"
    );
    assert!(tab.texts("#records .facts").iter().all(|facts| facts.contains("from tablet-17")));
    assert!(
        tab.texts("#records .facts").iter().any(|facts| facts.contains(&batch.records[0].id.to_string()))
    );
    // None is overdue.
    tab.tap("#only-overdue");
    tab.wait_for_text("#no-devices", "No device is overdue.");
    assert_eq!(tab.browser_errors(), Vec::<Value>::new());
}

#[test]
#[ignore = "needs chromium"]
fn a_device_that_was_in_contact_meanwhile_is_shown_once() {
    let operated = Operated::start("3d", "refused");
    let devices: Vec<Uuid> = (0..130).map(|_| Uuid::new_v4()).collect();
    for device in &devices {
        operated.report(*device, "tablet", &json!({}));
    }
    let browser = Browser::start();
    let tab = browser.open(&operated.url(), 1280, 800);
    unlock(&tab);
    wait_for_rows(&tab, 100, 0);
    let mut shown = tab.texts("#device-table tbody .id");
    for device in &shown[..20] {
        operated.report(device.parse().unwrap(), "tablet", &json!({}));
    }
    tab.tap("#more-devices");
    tab.wait_for_text("#outcome", "30 more devices are shown.");
    shown = tab.texts("#device-table tbody .id");
    shown.sort();
    let mut expected: Vec<String> = devices.iter().map(Uuid::to_string).collect();
    expected.sort();
    assert_eq!(shown, expected);
}

#[test]
#[ignore = "needs chromium"]
fn records_are_sent_again_edited_and_discarded() {
    let (operated, batch) = populated("1ms");
    let browser = Browser::start();
    let tab = browser.open(&operated.url(), 1280, 800);
    unlock(&tab);
    wait_for_rows(&tab, 3, 3);
    tab.wait_for_text("#device-counts", "3 devices, 3 overdue");
    // In the order of ids, which is that of the batch.
    tab.tap("#records li:first-child .retry");
    tab.wait_for_text("#outcome", "1 record sent again.");
    // It is refused once more.
    wait_for("the second refusal", || {
        tab.tap("#refresh");
        tab.texts("#records .facts").first().filter(|facts| facts.starts_with("Sent 2 times")).map(drop)
    });
    tab.tap("#records li:first-child .edit");
    tab.wait("the editor", "document.activeElement.id === 'payload'");
    let shown = tab.eval("document.querySelector('#payload').value");
    assert_eq!(shown, "{\"Subject\":\"Farm 9\",\"Amount\":1.50,\"bad\":true,\"Note\":\"a\\u202eb\"}");
    tab.eval("document.querySelector('#payload').value = '[1]'; null");
    tab.tap("#edit-form button[type=submit]");
    tab.wait_for_text("#edit-fault", "The payload must be a JSON object.");
    tab.eval("document.querySelector('#payload').value = '{\"Amount\":1.50}'; null");
    tab.tap("#edit-form button[type=submit]");
    wait_for_rows(&tab, 3, 2);
    let forwarded = "fieldsync_gateway_forwarded_total";
    wait_for("the record", || (operated.gateway.metric(forwarded) == 2).then_some(()));
    // A discard has to be confirmed; Escape and Keep are no confirmation.
    tab.tap("#records li:first-child .discard");
    tab.wait("the question", "document.querySelector('#discard').open");
    assert_eq!(tab.eval("document.activeElement.textContent"), "Keep");
    tab.tap("#keep");
    tab.wait("the answer", "!document.querySelector('#discard').open");
    assert_eq!(tab.eval("document.querySelectorAll('#records li').length"), 2);
    tab.tap("#records li:first-child .discard");
    tab.tap("#discard button[value=discard]");
    tab.wait_for_text("#outcome", "1 record discarded.");
    wait_for_rows(&tab, 3, 1);
    assert!(tab.texts("#records .facts")[0].contains(&batch.records[2].id.to_string()));
    // Another operator was faster.
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    operated.gateway.send(Method::POST, "/admin/refused/discard", &headers, b"{\"all\":true}".into());
    tab.tap("#records li:first-child .edit");
    tab.wait("the reason", "document.querySelector('#away').textContent.includes('does not need review')");
    assert_eq!(operated.gateway.metric("fieldsync_gateway_forward_refused"), 0);
}

#[test]
#[ignore = "needs chromium"]
fn a_gateway_that_is_away_is_reported_and_nothing_is_lost_from_view() {
    let (operated, _) = populated("3d");
    let browser = Browser::start();
    let tab = browser.open(&operated.url(), 1280, 800);
    unlock(&tab);
    wait_for_rows(&tab, 3, 3);
    operated.gateway.kill();
    tab.tap("#refresh");
    tab.wait_for_text("#away", "The gateway does not respond. What is shown may be old.");
    wait_for_rows(&tab, 3, 3);
}

#[test]
#[ignore = "needs chromium"]
fn it_can_be_read_and_used_on_every_screen() {
    let (operated, _) = populated("1ms");
    let browser = Browser::start();
    let tab = browser.open(&operated.url(), 1280, 800);
    unlock(&tab);
    wait_for_rows(&tab, 3, 3);
    for (width, height) in SIZES {
        tab.resize(width, height);
        tab.wait("the size", &format!("innerWidth === {width}"));
        let wide = tab.eval("document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= u64::from(width), "{wide} of {width}");
    }
    for preference in PREFERENCES {
        tab.prefer(&[preference]);
        assert_eq!(tab.eval(CONTRAST), json!([]), "{preference:?}");
    }
    tab.prefer(&[]);
    let names =
        "[...document.querySelectorAll('#records button')].map(node => node.getAttribute('aria-label'))";
    let names: Vec<String> = serde_json::from_value(tab.eval(names)).unwrap();
    let distinct: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!((distinct.len(), names.len()), (9, 9), "{names:?}");
    let Some(script) = std::env::var_os("FIELDSYNC_AXE") else {
        println!("skipped: FIELDSYNC_AXE does not name axe.min.js");
        return;
    };
    tab.eval(&format!("{}; null", fs::read_to_string(script).unwrap()));
    for (scheme, size) in ["light", "dark"].into_iter().flat_map(|scheme| SIZES.map(|size| (scheme, size))) {
        tab.prefer(&[("prefers-color-scheme", scheme)]);
        tab.resize(size.0, size.1);
        assert_eq!(tab.eval(AXE), json!([]), "{scheme} {size:?}");
    }
    for open in ["#records .edit", "#records .discard"] {
        tab.tap(open);
        tab.wait("the dialog", "document.querySelector('dialog[open]') !== null");
        assert_eq!(tab.eval(AXE), json!([]), "{open}");
        tab.eval("document.querySelector('dialog[open]').close(); null");
    }
    tab.tap("#forget");
    assert_eq!(tab.eval(AXE), json!([]), "without a token");
}

#[test]
#[ignore = "needs chromium"]
fn the_page_of_an_operator_for_the_documentation() {
    let scratch = directory();
    let target = std::env::var_os("FIELDSYNC_PICTURES").map_or(scratch.path().to_owned(), PathBuf::from);
    let operated = Operated::start("4s", "Amount must be a number");
    operated.report(
        Uuid::new_v4(),
        "tablet-13",
        &json!({
            "version": "0.1.9", "records": {"pending": 31, "quarantined": 0}, "alerts": ["records_wait"],
            "queue_bytes": 640_000, "battery_percent": 9, "interface": "cellular"
        }),
    );
    let overdue = "fieldsync_gateway_devices_overdue";
    wait_for("the device to be in the ledger", || {
        call_devices(&operated.gateway);
        (operated.gateway.metric(overdue) == 1).then_some(())
    });
    let device = Uuid::new_v4();
    let alerts = [vec![], vec!["needs_review"], vec!["records_wait", "disk_low"]];
    for (n, alerts) in alerts.into_iter().enumerate() {
        let device = if n == 1 { device } else { Uuid::new_v4() };
        operated.report(
            device,
            &format!("tablet-{:02}", n + 14),
            &json!({
                "version": "0.2.0", "records": {"pending": n * 4, "quarantined": usize::from(n == 1)},
                "alerts": alerts, "queue_bytes": 90_000 + n * 70_000, "battery_percent": 90 - n * 17,
                "interface": if n % 2 == 0 { "wifi" } else { "cellular" }
            }),
        );
    }
    operated.refuse(device, &["Farm 9"]);
    let browser = Browser::start();
    let tab = browser.open(&operated.url(), 1280, 700);
    unlock(&tab);
    wait_for_rows(&tab, 4, 1);
    let picture = tab.take_picture();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "it shows something");
    fs::write(target.join("operators-page.png"), picture).unwrap();
}

fn call_devices(gateway: &Gateway) {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    assert_eq!(gateway.send(Method::GET, "/admin/devices", &headers, Vec::new()).status, 200);
}
