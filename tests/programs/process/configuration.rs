//! The sources of the configuration, and what the daemon refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::daemon::{Counts, Daemon, Home, daemon_command};
use crate::support::process::{ProgramOutput, run};
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::directory;

fn started_with(text: &str, variables: &[(&str, &str)]) -> (ProgramOutput, String) {
    let directory = directory();
    let file = directory.path().join("config.toml");
    fs::write(&file, text).unwrap();
    let mut command = daemon_command();
    command.arg("--config").arg(&file).envs(variables.iter().copied());
    (run(&mut command, b""), file.to_str().unwrap().to_owned())
}

#[test]
fn a_wrong_configuration_is_refused_with_file_key_and_reason() {
    for (text, parts) in [
        (
            "[server]\nurll = \"http://x\"\n",
            &["line 2", "unknown key urll in [server]; did you mean url?"][..],
        ),
        ("[sever]\nurl = \"http://x\"\n", &["line 1", "unknown section [sever]; did you mean [server]?"]),
        (
            "[batch]\nmicro_batch = \"ten\"\n",
            &["line 2", "micro_batch", "must be a whole number, for example 10"],
        ),
        (
            "[batch]\nmicro_batch = 60\n",
            &["line 2: batch.micro_batch: must not be larger than batch.standard_batch"],
        ),
        (
            "[queue]\nmax_records = \"many\"\n",
            &["line 2, column 15: queue.max_records: must be a whole number, for example 5000000"],
        ),
        ("[server]\nrequest_timeout = \"0s\"\n", &["server.request_timeout", "must be at least 1ms"]),
        ("[server]\nrequest_timeout = \"soon\"\n", &["request_timeout", "soon", "is not a duration"]),
        ("[queue]\nmax_bytes = \"lots\"\n", &["max_bytes", "lots"]),
        ("[server]\nurl = \"ftp://x\"\n", &["server.url", "must be http://"]),
        ("[server]\nproxy = \"some\"\n", &["server.proxy", "must be auto, none, or a URL"]),
        ("[server]\nproxy = \"socks5://x\"\n", &["server.proxy", "other kinds of proxies"]),
        ("[server]\nproxy = \"http://alice:sesame@x\"\n", &["server.proxy", "proxy_credential_file"]),
        ("[log]\nlevel = \"loud=very\"\n", &["log.level", "must be error, warn"]),
        ("[server\n", &["line 1"]),
    ] {
        let (ran, file) = started_with(text, &[]);
        assert_eq!(ran.code, Some(78), "{text}: {}", ran.stderr);
        assert!(ran.stderr.contains(&file), "{}", ran.stderr);
        for part in parts {
            assert!(ran.stderr.contains(part), "{:?} lacks {part:?}", ran.stderr);
        }
    }
}

#[test]
fn a_mistake_in_the_file_is_located_without_quoting_the_line() {
    for (text, parts) in [
        ("[server]\nproxy = \"http://alice:s3cret\"@x\"\n", &["line 2, column 30"][..]),
        ("[server]\nproxy = http://alice:s3cret@x\n", &["line 2, column 9"]),
        ("[server]\nproxy = \"http://alice:s3cret@x\n", &["line 2, column"]),
        ("[server]\ntoken_file = [\"s3cret\"]\n", &["line 2, column 14", "server.token_file"]),
        ("[server]\nproxy = {user = \"s3cret\"}\n", &["line 2, column 9", "server.proxy"]),
        ("[server]\ntoken_file = 0x53c2e7\n", &["line 2, column 14", "server.token_file"]),
        ("server = \"http://alice:s3cret@x\"\n", &["line 1, column 10", "server"]),
        ("[server]\nweb.token_file = \"s3cret\"\n", &["line 2, column 1", "unknown key web"]),
        ("s3cret\n", &["line 1, column"]),
        ("[server]\nurl = \"http://alice:s3cret@x\"\n", &["server.url", "token_file"]),
    ] {
        let (ran, file) = started_with(text, &[]);
        assert_eq!((ran.code, ran.stderr.lines().count()), (Some(78), 1), "{text}: {}", ran.stderr);
        for part in parts.iter().copied().chain([file.as_str()]) {
            assert!(ran.stderr.contains(part), "{:?} lacks {part:?}", ran.stderr);
        }
        for secret in ["s3cret", "5489383"] {
            assert!(!ran.stderr.contains(secret), "{text}: {}", ran.stderr);
        }
    }
}

#[test]
fn a_missing_file_and_a_wrong_variable_are_refused() {
    let mut command = daemon_command();
    let ran = run(command.args(["--config", "/nowhere/config.toml"]), b"");
    assert_eq!(ran.code, Some(78));
    assert!(ran.stderr.contains("/nowhere/config.toml: cannot be read"), "{}", ran.stderr);
    for (name, value, part) in [
        ("FIELDSYNC_BATCH__MICRO_BATCH", "many", "`many` has the wrong type for batch.micro_batch"),
        ("FIELDSYNC_BATCH__MINI_BATCH", "1", "unknown key mini_batch in [batch]; did you mean micro_batch?"),
        ("FIELDSYNC_BATCH__MICRO_BATCH", "60", "batch.micro_batch: must not be larger"),
    ] {
        let (ran, _) = started_with("", &[(name, value)]);
        assert_eq!(ran.code, Some(78));
        assert!(ran.stderr.contains(part), "{:?} lacks {part:?}", ran.stderr);
    }
}

#[test]
fn the_effective_configuration_is_printed_without_secrets_and_nothing_is_started() {
    let directory = directory();
    let (token, state) = (directory.path().join("token"), directory.path().join("state"));
    fs::write(&token, "sesame-open").unwrap();
    let file = directory.path().join("config.toml");
    let text = format!("[server]\ntoken_file = {token:?}\n[queue]\nstate_dir = {state:?}\n");
    fs::write(&file, text).unwrap();
    let mut command = daemon_command();
    command.arg("--config").arg(&file).arg("--check-config").env("FIELDSYNC_BATCH__STANDARD_BATCH", "40");
    let ran = run(&mut command, b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    for line in ["[server]", "request_timeout = \"1m\"", "standard_batch = 40", "keep_synced = \"7days\""] {
        assert!(ran.stdout.lines().any(|printed| printed == line), "{} lacks {line}", ran.stdout);
    }
    assert!(!ran.stdout.contains("sesame"), "{}", ran.stdout);
    assert!(!state.exists());
}

#[test]
fn variables_of_the_environment_win_over_the_file() {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server("http://127.0.0.1:1"));
    let mut command = home.command();
    command.env("FIELDSYNC_SERVER__URL", server.url());
    let daemon = home.start_by(command);
    daemon.enqueue_many(2);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
}

#[test]
fn without_a_server_the_status_says_what_to_set_with_and_without_records() {
    let daemon = Daemon::start(&Settings::default());
    let file = daemon.home.path("config.toml");
    let remedy = format!("sudo fieldsync setup --url https://… (or set server.url in {})", file.display());
    let sync = &daemon.wait_for_phase("misconfigured")["sync"];
    assert_eq!((sync["text"].as_str(), sync["remedy"].as_str()), (Some("No server is set"), Some(&*remedy)));
    let lines = format!("No server is set\nTo do: {remedy}\n");
    let shown = daemon.cli(&["status"]).stdout;
    assert!(shown.starts_with(&lines), "{shown}");
    daemon.enqueue_many(2);
    daemon.wait_until("the records", |status| {
        status["sync"]["text"] == "No server is set: 2 records waiting" && status["sync"]["remedy"] == *remedy
    });
    let daemon = daemon.restart();
    assert_eq!(daemon.wait_for_phase("misconfigured")["records"]["pending"], 2);
    let server = ScriptedServer::start(Reply::correct);
    daemon.home.configure(&Settings::for_server(&server.url()));
    daemon.signal("HUP");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_the_first_one_continues() {
    let daemon = Daemon::start(&Settings::default());
    let mut command = daemon_command();
    command.arg("--config").arg(daemon.home.path("config.toml"));
    let ran = run(&mut command, b"");
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
    let state = daemon.home.path("state");
    let sentence = format!("another daemon uses the state directory {}", state.display());
    assert!(ran.stderr.contains(&sentence), "{}", ran.stderr);
    daemon.enqueue_many(1);
}

#[test]
fn socket_and_state_are_closed_to_others() {
    let daemon = Daemon::start(&Settings::default());
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(daemon.home.socket()), 0o660);
    assert_eq!(mode(daemon.home.path("state")), 0o700);
    for entry in fs::read_dir(daemon.home.path("state")).unwrap() {
        assert_eq!(mode(entry.unwrap().path()) & 0o077, 0);
    }
    let (_, home) = daemon.terminate();
    assert!(!home.socket().exists());
}

#[test]
fn server_messages_that_may_quote_a_record_do_not_reach_the_log() {
    let quoting = "confidential-key has no account confidential-payload";
    let mut refusals = 0;
    let server = ScriptedServer::start(move |request| {
        let batch = request.is_batch();
        refusals += usize::from(batch);
        match refusals {
            _ if !batch => Reply::unknown_batch(),
            1 => Reply::json(422, &json!({"error": {"code": "INVALID_DATA", "message": quoting}})),
            _ => {
                let rejected = json!({"status": "rejected", "code": "NO_SUCH_ACCOUNT", "message": quoting});
                Reply::results(request.batch_id(), &request.ids(), |_| Some(rejected.clone()))
            }
        }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()).batches_of(1).with("log.level", "trace"));
    let record = json!({"type": "T", "key": "confidential-key", "payload": {"text": "confidential-payload"}});
    daemon.enqueue(&[record]);
    let other = json!({"type": "T", "payload": {"text": "confidential-payload"}});
    daemon.enqueue(&[other]);
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, 2));
    let log = daemon.log();
    for expected in [
        "(rejected, NO_SUCH_ACCOUNT); for details: fieldsync show ",
        "the server responded with HTTP 422 INVALID_DATA: ",
    ] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    assert_eq!(log.lines().find(|line| line.contains("confidential")), None);
    let said = daemon.get("/v1/records?state=QUARANTINED").text();
    assert_eq!(said.matches(quoting).count(), 2, "it is kept for review: {said}");
}

#[test]
fn payloads_and_tokens_never_reach_the_log() {
    let server = ScriptedServer::at_first(1, |_| Reply::html(504));
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, "sesame-open", 0o600);
    home.configure(
        &Settings::for_server(&server.url())
            .with("server.token_file", token.to_str().unwrap())
            .with("log.level", "trace"),
    );
    let daemon = home.start();
    daemon.post("/v1/records", r#"{"type":"T","payload":{"text":"confidential-1"}}"#).expect_json(201);
    daemon.post("/v1/records", r#"{"type":"T","payload":{"text":"confidential-2"},"oops":1}"#);
    daemon.post("/v1/records", r#"{"type":"T","payload":{"text":"confidential-3"}"#);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    assert_eq!(server.batches()[0].header("authorization"), "Bearer sesame-open");
    let (_, home) = daemon.terminate();
    let log = home.log();
    assert!(log.contains("batch "), "{log}");
    for secret in ["confidential", "sesame"] {
        let leak = log.lines().find(|line| line.contains(secret));
        assert_eq!(leak, None);
    }
}
