//! The token is never shown, whatever happens and at any log level.

use std::fs::{self, File};
use std::process::Stdio;

use serde_json::json;

use super::renewed::asking_for;
use crate::support::daemon::{Counts, Home, cli_command, daemon_command};
use crate::support::ports::free_address;
use crate::support::process::{Guard, run};
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

const TOKEN: &str = "sesame-open-6f2a";

#[test]
fn the_token_is_shown_nowhere_at_any_level() {
    let server = ScriptedServer::start(|request| {
        let message = format!("{} is not known here", request.header("authorization"));
        let code = format!("UNKNOWN_{TOKEN}");
        Reply::json(401, &json!({"error": {"code": code, "message": message}}))
    });
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, TOKEN, 0o600);
    let settings = |url: &str| {
        Settings::for_server(url)
            .with("server.token_file", token.to_str().unwrap())
            .with("log.level", "trace,awc=trace,actix_http=trace")
    };
    home.configure(&settings(&server.url()));
    let daemon = home.start();
    // Connected from the beginning, and read at the end.
    let output = daemon.home.path("events");
    let mut follower = cli_command(daemon.home.socket(), &["events", "--json"]);
    follower.stdin(Stdio::null()).stdout(File::create(&output).unwrap());
    let follower = Guard(follower.spawn().unwrap());
    let lines = || fs::read_to_string(&output).unwrap();
    wait_for("the first event", || (!lines().is_empty()).then_some(()));

    // Refused by a server that repeats the request and its records in its response; then accepted.
    let ids = daemon.enqueue_many(2);
    let status = daemon.wait_for_phase("auth_required");
    assert_eq!(status["sync"]["last_error"]["message"], "Bearer [token] is not known here");
    assert_eq!(status["sync"]["last_error"]["code"], "UNKNOWN_[token]");
    server.set_script(|request| {
        let rejected = json!({"status": "rejected", "code": format!("NOT_{TOKEN}"), "message": TOKEN});
        Reply::results(request.batch_id(), &request.ids(), |_| Some(rejected.clone()))
    });
    daemon.wait_until_done();
    let error = &daemon.record(&ids[0])["last_error"];
    assert_eq!((&error["code"], &error["message"]), (&json!("NOT_[token]"), &json!("[token]")));
    server.set_script(asking_for(TOKEN));
    server.cut_unread(1);
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    // No server, and a server that does not speak HTTP.
    let nobody = free_address();
    daemon.reload(&settings(&format!("http://{nobody}")));
    daemon.enqueue_many(1);
    daemon.wait_for_phase("offline");
    // TLS with a server that does not support it.
    let before = server.connections();
    daemon.home.configure(&settings(&server.url().replace("http:", "https:")));
    daemon.signal("HUP");
    wait_for("the try", || (server.connections() > before).then_some(()));
    daemon.home.configure(&settings(&server.url()));
    daemon.signal("HUP");
    assert_eq!(daemon.wait_until_done(), Counts::settled(2, 2));
    // Readable by others, and then not a valid token.
    place(&token, &format!("{TOKEN}\n{TOKEN}"), 0o600);
    daemon.wait_for_log("does not hold a token");
    place(&token, TOKEN, 0o666);
    daemon.wait_for_log("is open to others");

    let reported = wait_for("the events", || {
        Some(lines()).filter(|reported| ids.iter().all(|id| reported.contains(id)))
    });
    drop(follower);
    assert!(server.batches().iter().any(|batch| batch.header("authorization").ends_with(TOKEN)));
    let mut shown = vec![("the events", reported)];
    for path in ["/v1/status", "/v1/batches", "/v1/manifest", "/v1/telemetry", "/metrics"] {
        shown.push((path, daemon.get(path).text()));
    }
    for arguments in [&["status"][..], &["batches"], &["show", &ids[0]]] {
        let ran = daemon.cli(arguments);
        shown.push(("the command line", ran.stdout + &ran.stderr));
    }
    let (_, home) = daemon.terminate();
    let mut check = daemon_command();
    let ran = run(check.arg("--config").arg(home.path("config.toml")).arg("--check-config"), b"");
    assert_eq!(ran.code, Some(0));
    shown.push(("the effective configuration", ran.stdout + &ran.stderr));
    let log = home.log();
    assert!(log.contains("TRACE"), "{log}");
    shown.push(("the log", log));
    for (what, text) in shown {
        assert!(!text.is_empty(), "{what}");
        let leak = text.lines().find(|line| line.contains("sesame"));
        assert_eq!(leak, None, "{what}");
    }
}

#[test]
fn a_token_that_is_sent_unencrypted_is_an_alert_for_as_long_as_it_is() {
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, TOKEN, 0o600);
    let settings = |url: &str| Settings::for_server(url).with("server.token_file", token.to_str().unwrap());
    // A network reserved for documentation, which is not routed.
    home.configure(&settings("http://192.0.2.1"));
    let daemon = home.start();
    let alerts = |status: &serde_json::Value| {
        let alerts = status["alerts"].as_array().unwrap().iter();
        alerts.map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(alerts(&daemon.status()), ["token_in_clear"]);
    let shown = daemon.cli(&["status"]).stdout;
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("token_in_clear") && shown.contains("are sent unencrypted"), "{shown}");
    daemon.wait_for_log("the token and all records are sent unencrypted");
    daemon.home.configure(&settings("http://127.0.0.1:1"));
    daemon.signal("HUP");
    daemon.wait_until("no alert", |status| alerts(status).is_empty());
}
