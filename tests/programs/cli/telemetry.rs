//! The report as a page: from a real daemon, to a file or to standard output, and where it is refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;

const HOSTILE_TYPE: &str = "<img src=x>&\u{202e}";

/// Two types that are synced, one that needs review, and one attempt without a response in time.
fn with_measurements() -> (ScriptedServer, Daemon) {
    let server = ScriptedServer::at_first(1, |_| Reply::html(504));
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("device.name", "tablet-17"));
    daemon.enqueue(&[json!({"type": "Visits", "payload": {}})]);
    daemon.wait_until_done();
    server.set_script(|request: &Request| {
        if !request.is_batch() {
            return Reply::correct(request);
        }
        let records = request.records();
        let is_hostile =
            |id: &str| records.iter().any(|record| record["id"] == id && record["type"] == HOSTILE_TYPE);
        Reply::results(request.batch_id(), &request.ids(), |id| {
            let rejected = json!({"status": "rejected", "code": "C", "message": "M"});
            Some(if is_hostile(id) { rejected } else { json!({"status": "applied"}) })
        })
    });
    daemon.enqueue(&[json!({"type": "Orders", "payload": {}}), json!({"type": HOSTILE_TYPE, "payload": {}})]);
    daemon.wait_until("a result for each record", |status| {
        status["records"]["synced"] == 2 && status["records"]["quarantined"] == 1
    });
    (server, daemon)
}

#[test]
fn the_report_of_a_real_daemon_is_one_page_with_its_numbers() {
    let (_server, daemon) = with_measurements();
    let file = daemon.home.path("report.html");
    let ran = daemon.cli(&["telemetry", "report", "--html", file.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(ran.stdout, format!("The report was written to {}\n", file.display()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let page = fs::read_to_string(&file).unwrap();
    for part in [
        "<h1>Telemetry report: <span class=\"device\">tablet-17</span></h1>",
        "<th scope=\"row\">Visits</th>",
        "<th scope=\"row\">&lt;img src=x&gt;&amp;\u{fffd}</th>",
        "<th scope=\"row\">no response in time</th><td>1</td>",
        "<dt>Need review</dt><dd>1 ",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert!(!page.contains("<img"), "{page}");

    let piped = daemon.cli(&["telemetry", "report", "--html", "-"]);
    assert_eq!(piped.code, Some(0));
    assert!(piped.stdout.starts_with("<!DOCTYPE html>") && piped.stdout.ends_with("</html>\n"));

    // An earlier report is replaced; a link is not followed.
    let ran = daemon.cli(&["telemetry", "report", "--json", "--html", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let written: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(written, json!({"file": file}));
    let link = daemon.home.path("link.html");
    symlink(&file, &link).unwrap();
    let ran = daemon.cli(&["telemetry", "report", "--html", link.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("is a symbolic link to"), "{ran:?}");
}

#[test]
fn without_a_file_the_report_is_that_of_telemetry() {
    let (_server, daemon) = with_measurements();
    let text = daemon.cli(&["telemetry"]).stdout;
    assert!(text.contains("Which types cause delays?") && !text.contains(['█', '▁']), "{text}");
    assert_eq!(daemon.cli(&["telemetry", "report"]).stdout, text);
    let document = daemon.get("/v1/telemetry").json();
    let json: Value = serde_json::from_str(&daemon.cli(&["telemetry", "report", "--json"]).stdout).unwrap();
    assert_eq!(json["by_type"], document["by_type"]);
}
