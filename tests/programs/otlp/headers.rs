//! Headers for the collector: they are sent, and shown nowhere.

use serde_json::json;

use super::{settings, sync_batches, wait_for_push};
use crate::support::daemon::{Home, daemon_command};
use crate::support::process::run;
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

const SECRET: &str = "sesame-open-91c4";

#[test]
fn headers_are_sent_to_the_collector_alone_and_never_shown() {
    let server = ScriptedServer::start(Reply::correct);
    // It repeats what it got.
    let collector = ScriptedServer::start(|request| {
        let message = format!("{} is not known", request.header("authorization"));
        Reply::json(400, &json!({"code": 16, "message": message}))
    });
    let home = Home::new(&Settings::default());
    let file = home.path("headers");
    place(&file, &format!("Authorization: Bearer {SECRET}\nX-Scope-OrgID: fleet-7\n"), 0o600);
    let settings = settings(&server, &collector)
        .with("telemetry.otlp_headers_file", file.to_str().unwrap())
        .with("log.level", "trace,awc=trace,actix_http=trace");
    home.configure(&settings);
    let daemon = home.start();
    let push = wait_for_push(&daemon, &collector, "/v1/metrics");
    assert_eq!(push.header("authorization"), format!("Bearer {SECRET}"));
    assert_eq!(push.header("x-scope-orgid"), "fleet-7");
    assert!(push.header("user-agent").starts_with("fieldsync/"));
    daemon.wait_for_log("responded with HTTP 400: [header] is not known");
    for batch in server.batches() {
        assert_eq!((batch.header("authorization"), batch.header("x-scope-orgid")), ("", ""));
    }

    // A file that others may read is not used, and one that was replaced is used with the next push.
    let pushes = || collector.requests().len();
    place(&file, "Authorization: Basic other", 0o644);
    daemon.reload(&settings.clone().with("telemetry.otlp_url", &format!("{}/base", collector.url())));
    wait_for("the refusal of the file", || {
        sync_batches(&daemon, 1);
        daemon.log().contains("is open to others (mode 0644). Nothing is pushed").then_some(())
    });
    let before = pushes();
    place(&file, "Authorization: Basic other", 0o600);
    daemon.reload(&settings.clone().with("telemetry.otlp_url", &collector.url()));
    let renewed = wait_for("a push with the new header", || {
        sync_batches(&daemon, 1);
        collector.requests().into_iter().skip(before).last()
    });
    assert_eq!(renewed.header("authorization"), "Basic other");

    let shown_by_api = ["/v1/status", "/v1/configuration", "/v1/batches", "/metrics"]
        .map(|path| daemon.get(path).text())
        .concat();
    let (_, home) = daemon.terminate();
    let mut check = daemon_command();
    let checked = run(check.arg("--config").arg(home.path("config.toml")).arg("--check-config"), b"");
    for text in [shown_by_api, home.log(), checked.stdout + &checked.stderr] {
        let leak = text.lines().find(|line| line.contains("sesame"));
        assert_eq!(leak, None);
    }
}

#[test]
fn a_secret_in_place_of_a_file_is_masked_and_headers_in_clear_are_a_warning() {
    let home = Home::new(&Settings::default().with("telemetry.otlp_headers_file", SECRET));
    let check = |home: &Home| {
        let mut check = daemon_command();
        run(check.arg("--config").arg(home.path("config.toml")).arg("--check-config"), b"")
    };
    let ran = check(&home);
    assert!(ran.stdout.contains("otlp_headers_file = \"***\""), "{ran:?}");
    for (url, is_warning) in [
        ("http://otel.example.com", true),
        ("https://otel.example.com", false),
        ("http://127.0.0.1:4318", false),
        ("http://localhost:4318", false),
    ] {
        home.configure(
            &Settings::default()
                .with("telemetry.otlp_headers_file", "/srv/headers")
                .with("telemetry.otlp_url", url),
        );
        let ran = check(&home);
        assert_eq!(ran.stderr.contains("telemetry.otlp_url begins with http://"), is_warning, "{ran:?}");
    }
    for (url, reason) in [
        ("otel.example.com", "must begin with https:// or http://"),
        ("https://user:secret@otel.example.com", "use telemetry.otlp_headers_file"),
        ("https://otel.example.com?x=1", "must not contain a query"),
    ] {
        home.configure(&Settings::default().with("telemetry.otlp_url", url));
        let ran = check(&home);
        assert_eq!(ran.code, Some(78));
        assert!(ran.stderr.contains("telemetry.otlp_url") && ran.stderr.contains(reason), "{ran:?}");
    }
}
