//! Credential files that are refused, the reason, and that fixing them is enough.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::renewed::asking_for;
use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::secrets::place;
use crate::support::server::ScriptedServer;
use crate::support::settings::Settings;

/// A daemon that, within the test, resumes only because of the file watch.
fn with_token(server: &ScriptedServer, content: &str, mode: u32) -> Daemon {
    let home = Home::new(&Settings::default());
    place(&home.path("token"), content, mode);
    home.configure(&patient(server).with("server.token_file", home.path("token").to_str().unwrap()));
    home.start()
}

fn patient(server: &ScriptedServer) -> Settings {
    Settings::for_server(&server.url()).with("retry.max_backoff", "10m")
}

/// How many errors of the log contain this text.
fn errors(daemon: &Daemon, text: &str) -> usize {
    daemon.log().lines().filter(|line| line.contains("ERROR") && line.contains(text)).count()
}

/// Records are accepted, nothing is sent, and the reason is reported.
#[track_caller]
fn nothing_is_sent(daemon: &Daemon, server: &ScriptedServer, reason: &str) -> Vec<String> {
    daemon.wait_for_log(reason);
    let ids = daemon.enqueue_many(3);
    let status = daemon.wait_for_phase("auth_required");
    let text = status["sync"]["text"].as_str().unwrap();
    assert!(text.starts_with("The token cannot be used: 3 records waiting. /"), "{text}");
    let error = &status["sync"]["last_error"];
    assert!(error["message"].as_str().unwrap().contains(reason), "{error}");
    assert_eq!((&error["http_status"], &error["class"]), (&Value::Null, &"unauthorized".into()));
    assert_eq!((server.requests().len(), errors(daemon, reason)), (0, 1));
    assert_eq!(daemon.enqueue_many(1).len(), 1, "more are taken");
    for id in &ids {
        assert_eq!(daemon.record(id)["attempts"], 0);
    }
    ids
}

#[test]
fn a_token_file_that_others_may_read_is_refused_until_its_mode_is_fixed() {
    let server = ScriptedServer::start(asking_for("sesame"));
    let daemon = with_token(&server, "sesame\n", 0o644);
    let token = daemon.home.path("token");
    let reason = format!(
        "{0} is open to others (mode 0644). Nothing is sent meanwhile, records are kept. ",
        token.display()
    );
    let ids = nothing_is_sent(&daemon, &server, &reason);
    let remedy = format!("{reason}To fix it: chmod o= {}", token.display());
    assert_eq!(daemon.status()["sync"]["last_error"]["message"], remedy.as_str());
    let chmod = Command::new("chmod").arg("o=").arg(&token).status().unwrap();
    assert!(chmod.success());
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(4));
    assert_eq!(daemon.record(&ids[0])["attempts"], 1);
}

#[test]
fn a_missing_token_file_is_used_once_it_exists_as_is_its_directory() {
    let server = ScriptedServer::start(asking_for("sesame"));
    let home = Home::new(&Settings::default());
    let directory = home.path("secrets/of the device");
    let token = directory.join("token");
    home.configure(&patient(&server).with("server.token_file", token.to_str().unwrap()));
    let daemon = home.start();
    daemon.wait_for_log(&format!("does not exist yet: waiting for {}", token.display()));
    nothing_is_sent(&daemon, &server, "cannot be read: No such file or directory");
    fs::create_dir_all(&directory).unwrap();
    place(&token, "sesame", 0o600);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(4));
}

#[test]
fn a_token_with_a_line_break_in_it_is_refused_and_not_shown() {
    let server = ScriptedServer::start(asking_for("sesame-open"));
    let daemon = with_token(&server, "sesame\nopen\n", 0o600);
    nothing_is_sent(&daemon, &server, "token does not hold a token. ");
    let shown = format!("{}{}{}", daemon.log(), daemon.status(), daemon.get("/v1/batches").text());
    assert!(!shown.contains("sesame"), "{shown}");
    place(&daemon.home.path("token"), "sesame-open\n", 0o600);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(4));
}

#[test]
fn a_file_that_is_not_a_token_is_read_only_up_to_a_limit() {
    let server = ScriptedServer::start(asking_for("sesame"));
    let daemon = with_token(&server, &"a".repeat(1 << 20), 0o600);
    nothing_is_sent(&daemon, &server, "is larger than 64 KiB");
    place(&daemon.home.path("token"), "sesame\n", 0o600);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(4));
}

#[test]
fn a_reload_to_a_refused_file_stops_sending_and_one_to_a_good_file_resumes_it() {
    let server = ScriptedServer::start(asking_for("sesame"));
    let daemon = with_token(&server, "sesame", 0o600);
    let (open, good) = (daemon.home.path("open"), daemon.home.path("good"));
    place(&open, "sesame", 0o604);
    place(&good, "other", 0o600);
    let reload_to = |token: &Path| {
        daemon.home.configure(&patient(&server).with("server.token_file", token.to_str().unwrap()));
        daemon.signal("HUP");
    };
    reload_to(&open);
    nothing_is_sent(&daemon, &server, "is open to others (mode 0604)");
    reload_to(&good);
    let status = daemon.wait_until("the server to refuse", |status| {
        status["sync"]["phase"] == "auth_required" && status["sync"]["last_error"]["http_status"] == 401
    });
    assert_eq!(
        status["sync"]["text"],
        "The server does not accept the token: 4 records waiting. It responds with HTTP 401."
    );
    // The watch has changed: the old file is no longer watched, and the new one is.
    place(&good, "sesame", 0o600);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(4));
}

#[test]
fn a_key_that_others_may_read_and_an_invalid_certificate_can_be_fixed_in_place() {
    let home = Home::new(&Settings::default());
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (home.path("client.pem"), home.path("client.key"));
    place(&certificate, "nothing yet", 0o644);
    place(&key, &issued.signing_key.serialize_pem(), 0o640);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    home.configure(
        // No process listens there, so the daemon gets no further than offline.
        &Settings::for_server("https://127.0.0.1:9")
            .with("server.client_cert_file", &path(&certificate))
            .with("server.client_key_file", &path(&key))
            .with("retry.max_backoff", "10m"),
    );
    let daemon = home.start();
    daemon.enqueue_many(1);
    let status = daemon.wait_for_phase("misconfigured");
    let text = status["sync"]["text"].as_str().unwrap();
    assert!(text.contains(" cannot be used: 1 record waiting. ") && text.contains("/client."), "{text}");
    place(&certificate, &issued.cert.pem(), 0o644);
    daemon.wait_for_phase("offline");
    place(&key, &issued.signing_key.serialize_pem(), 0o644);
    daemon.wait_for_log("client.key is open to others (mode 0644)");
}
