//! The archive for support: what is in it, what never is, and that nothing stops its collection.

mod unpacked;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fieldsync::clock::Clock;
use serde_json::{Value, json};

use self::unpacked::Bundle;
use super::{NOBODY, SESAME, change_mode, copy_of_program, doctor, is_root, program};
use crate::support::daemon::{Daemon, Home};
use crate::support::process::{ProgramOutput, Running, run, signal};
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::terminal::Terminal;
use crate::support::user::open_to_all;
use crate::support::wait::{DEADLINE, wait_for};

/// Words of records, which the server quotes, and keys. None of them may be in a bundle.
const PAYLOAD: &str = "PlantedPayloadWord";
const KEY: &str = "PlantedKey";

/// The command that writes a bundle into a file of the home.
fn bundle_command(home: &Home) -> (Command, PathBuf) {
    let file = home.path("bundle.tar.zst");
    let mut command = doctor(&program(), &home.path("config.toml"));
    command.arg("--bundle").arg(&file);
    (command, file)
}

#[track_caller]
fn write_bundle(mut command: Command, file: &Path) -> (ProgramOutput, Bundle) {
    let ran = run(&mut command, b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    (ran, Bundle::unpack(&fs::read(file).unwrap()))
}

/// A server that quotes each record in its rejection, and refuses some batches as a whole.
fn quoting_server() -> ScriptedServer {
    ScriptedServer::start(|request| {
        if !request.is_batch() {
            return Reply::unknown_batch();
        }
        let records = request.records();
        let quote = |id: &str| {
            let record = records.iter().find(|record| record["id"] == id).unwrap();
            let message = format!("{}: {} is not a date", record["key"], record["payload"]);
            Some(json!({"status": "rejected", "code": format!("{PAYLOAD} {KEY}"), "message": message,
                "field": format!("/{PAYLOAD}")}))
        };
        Reply::results(request.batch_id(), &request.ids(), quote)
    })
}

/// `journalctl` and `systemctl` with secrets, keys and payloads in their output.
fn plant_tools(home: &Home) -> PathBuf {
    let tools = home.path("tools");
    fs::create_dir(&tools).unwrap();
    let messages = [
        format!("proxy http://joe:{SESAME}-journal@proxy:8080 refused Authorization: Bearer {SESAME}-bearer"),
        format!("GET https://host/?token={SESAME}-query&a={SESAME}; password={SESAME}-word"),
        format!("panicked: byte index 3 is not a char boundary of `{PAYLOAD} and more`"),
        format!("record of {KEY}-1 needs review (rejected, {PAYLOAD} {KEY}); for details: fieldsync show 1"),
        format!(
            "the value is Parse(\"{{\\\"date\\\": \\\"{PAYLOAD}\\\"}}\") or '{PAYLOAD}' or \"/{PAYLOAD} is bad\""
        ),
        format!("the token {SESAME}-token was not accepted by {SESAME}-collector"),
    ];
    let entries: String = messages
        .iter()
        .map(|message| {
            json!({"__REALTIME_TIMESTAMP": "1700000000000000", "MESSAGE": message, "_CMDLINE": SESAME,
                "FIELDSYNC_OUTCOME": format!("\"{PAYLOAD}\"")})
            .to_string()
                + "\n"
        })
        .collect();
    fs::write(tools.join("entries"), entries).unwrap();
    place_tool(&tools, "journalctl", &format!("cat {}", tools.join("entries").display()));
    // As systemd does, `show` prints what it was asked for, and `status` prints command lines.
    let show = format!(
        "echo Id=fieldsync.service\necho 'StatusText=at https://joe:{SESAME}-unit@host and says: {SESAME}'\necho Id=fieldsync.socket"
    );
    let status = format!("echo 'Process: 77 ExecStartPre=/usr/local/bin/fetch --pass {SESAME}'");
    place_tool(&tools, "systemctl", &format!("case $1 in status) {status};; *) {show};; esac"));
    tools
}

fn place_tool(directory: &Path, name: &str, script: &str) {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    change_mode(&path, 0o755);
}

#[test]
fn a_bundle_has_no_secret_no_key_and_no_word_of_a_payload() {
    let server = quoting_server();
    let home = Home::new(&Settings::default());
    let secret_file = |name: &str, content: &str| {
        let path = home.path(name);
        place(&path, content, 0o600);
        path.to_str().unwrap().to_owned()
    };
    let token = secret_file("token", &format!("{SESAME}-token"));
    let key_text = format!("-----BEGIN PRIVATE KEY-----\n{SESAME}ClientKey\n-----END PRIVATE KEY-----\n");
    let client_key = secret_file("client.key", &key_text);
    let headers = secret_file("headers", &format!("authorization: Bearer {SESAME}-collector\n"));
    home.configure(
        &Settings::for_server(&server.url())
            .with("server.token_file", &token)
            .with("device.name", "van-12")
            .with("retry.quarantine_after", "1"),
    );
    let daemon = home.start();
    let records: Vec<Value> = [1, 1, 2]
        .iter()
        .map(|n| json!({"type": "Visits", "key": format!("{KEY}-{n}"), "payload": {"date": PAYLOAD}}))
        .collect();
    daemon.enqueue(&records);
    daemon.wait_until("a record under review", |status| status["records"]["quarantined"] != 0);
    // A configuration that is refused: its mistakes are reported, with secrets where they do not belong.
    let drop_ins = daemon.home.path("conf.d");
    fs::create_dir(&drop_ins).unwrap();
    let planted = format!(
        "[server]\nproxy = \"http://joe:{SESAME}-proxy@proxy:8080\"\nclient_key_file = \"{client_key}\"\n\
         proxy_credential_file = \"joe:{SESAME}-inline\"\n\
         [telemetry]\notlp_headers_file = \"{headers}\"\notlp_headers = \"x-tenant: {SESAME}-header\"\n"
    );
    fs::write(drop_ins.join("50-planted.toml"), planted).unwrap();
    daemon.signal("HUP");
    daemon.wait_until("the refused configuration", |status| {
        status["alerts"].as_array().unwrap().iter().any(|alert| alert["alert"] == "configuration_refused")
    });

    let (mut command, file) = bundle_command(&daemon.home);
    let path = format!("{}:{}", plant_tools(&daemon.home).display(), std::env::var("PATH").unwrap());
    command.env("PATH", path).env("HTTPS_PROXY", format!("http://joe:{SESAME}-variable@proxy"));
    // The configuration cannot be used, so it does not say where the daemon listens.
    command.env("FIELDSYNC_SOCKET", daemon.home.socket());
    let (ran, bundle) = write_bundle(command, &file);
    bundle.lacks(&[SESAME, PAYLOAD, KEY]);
    for text in [&ran.stdout, &ran.stderr] {
        assert!(![SESAME, PAYLOAD, KEY].iter().any(|plant| text.contains(plant)), "{ran:?}");
    }

    let manifest = bundle.lines("manifest.ndjson");
    let hashes: Vec<&str> = manifest.iter().map(|entry| entry["key"].as_str().unwrap()).collect();
    assert_eq!(hashes.len(), 3);
    let distinct: std::collections::BTreeSet<_> = hashes.iter().collect();
    assert_eq!(distinct.len(), 2, "equal keys have equal hashes: {hashes:?}");
    let rejected: Vec<&Value> = manifest.iter().filter(|entry| entry["state"] == "QUARANTINED").collect();
    assert!(!rejected.is_empty());
    assert!(rejected.iter().all(|entry| entry["last_error"]["class"] == "rejected"), "{rejected:?}");
    assert_eq!(bundle.json("status.json")["device_name"], "van-12");
    assert_eq!(bundle.json("doctor.json")["checks"][0]["check"], "configuration");
    assert!(bundle.text("doctor.txt").contains("problem"));
    let settings = bundle.json("configuration.json")["values"].clone();
    let token_file =
        settings.as_array().unwrap().iter().find(|one| one["key"] == "server.token_file").unwrap();
    assert_eq!(token_file["value"], token.as_str());
    assert!(bundle.text("state-directory.txt").contains("queue.redb"));
    assert!(bundle.text("README.txt").contains("Left out on purpose"));
    assert!(bundle.text("metrics.txt").contains("fieldsync_queue_bytes"));
    assert_eq!(bundle.json("alerts.json")["active"][0]["since"].as_str().map(str::len), Some(24));
    if is_root() {
        let journal = bundle.lines("journal.ndjson");
        assert_eq!(journal.len(), 6);
        assert!(journal[2]["message"].as_str().unwrap().starts_with("panicked: byte index 3"), "{journal:?}");
        assert!(bundle.text("units.txt").contains("Id=fieldsync.service"));
    }
    assert!(bundle.text("units.txt").contains("Id=fieldsync.socket"), "{}", bundle.text("units.txt"));
}

#[test]
fn keys_that_are_common_words_leave_the_bundle_readable_and_disable_no_mask() {
    let home = Home::new(&Settings::default().with("device.name", "van-12"));
    let drop_ins = home.path("conf.d");
    fs::create_dir(&drop_ins).unwrap();
    let planted = format!("[telemetry]\nalert_command = [\"/bin/true\", \"-u\", \"joe:{SESAME}-command\"]\n");
    fs::write(drop_ins.join("50-planted.toml"), planted).unwrap();
    let daemon = home.start();
    let keys = ["2026", "fieldsync", "password", "Bearer", "Authorization", "https://", "1000"];
    let records: Vec<Value> =
        keys.iter().map(|key| json!({"type": "Visits", "key": key, "payload": {}})).collect();
    daemon.enqueue(&records);
    let (mut command, file) = bundle_command(&daemon.home);
    let path = format!("{}:{}", plant_tools(&daemon.home).display(), std::env::var("PATH").unwrap());
    command.env("PATH", path);
    let (_, bundle) = write_bundle(command, &file);
    let is_left = |name: &str| bundle.0.get(name).is_some_and(|text| text.contains(SESAME));
    // The other secrets of the journal are known by this device's files only.
    assert!(!["configuration.json", "units.txt", "status.json", "doctor.json"].into_iter().any(is_left));
    if is_root() {
        let journal = bundle.text("journal.ndjson");
        for plant in ["-journal", "-bearer", "-query", "-word", "-command"] {
            assert!(!journal.contains(&format!("{SESAME}{plant}")), "{plant}: {journal}");
        }
    }
    let settings = bundle.json("configuration.json")["values"].clone();
    let value_of = |name: &str| {
        settings.as_array().unwrap().iter().find(|one| one["key"] == name).unwrap()["value"].clone()
    };
    assert_eq!(value_of("telemetry.alert_command"), json!(["/bin/true", "*** (2 arguments)"]));
    assert_eq!(value_of("telemetry.alert_credential_expiry"), "14days");
    let comments = |metrics: &str| -> Vec<String> {
        metrics.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect()
    };
    let metrics = daemon.get("/metrics").text();
    assert_eq!(comments(bundle.text("metrics.txt")), comments(&metrics));
    assert!(bundle.text("metrics.txt").contains("\nfieldsync_queue_bytes "));
    assert_eq!(bundle.json("versions.json")["fieldsync"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_bundle_is_written_without_a_daemon() {
    let home = Home::new(&Settings::default().with("device.name", "van-12"));
    let (command, file) = bundle_command(&home);
    let (ran, bundle) = write_bundle(command, &file);
    assert!(ran.stdout.contains("Left out: status.json, alerts.json, telemetry.json"), "{ran:?}");
    assert!(bundle.text("README.txt").contains("LEFT OUT: no daemon responds"));
    assert!(bundle.text("errors.txt").contains("manifest.ndjson: no daemon responds"));
    let settings = bundle.json("configuration.json")["values"].clone();
    assert!(
        settings
            .as_array()
            .unwrap()
            .contains(&json!({"key": "batch.learn", "value": false, "source": source_of(&home, "learn")}))
    );
    assert_eq!(bundle.json("versions.json")["fieldsync"], env!("CARGO_PKG_VERSION"));
    assert!(!bundle.0.contains_key("status.json"));
}

/// `FILE:LINE` of a key.
fn source_of(home: &Home, key: &str) -> String {
    let file = home.path("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let line = text.lines().position(|line| line.starts_with(key)).unwrap() + 1;
    format!("{}:{line}", file.display())
}

#[test]
fn a_bundle_is_written_beside_a_daemon_that_hangs() {
    let daemon = Daemon::start(&Settings::default().with("device.name", "van-12"));
    daemon.signal("STOP");
    let (mut command, file) = bundle_command(&daemon.home);
    let running = Running::start(&mut command, b"");
    // Longer than for other programs: every wait for the daemon has a limit of its own.
    let clock = Clock::start();
    let mut running = running;
    while running.child.is_running() {
        assert!(clock.now() < DEADLINE * 3, "the bundle is not written");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    let ran = running.end();
    daemon.signal("CONT");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let bundle = Bundle::unpack(&fs::read(file).unwrap());
    assert!(bundle.text("errors.txt").contains("status.json: "), "{}", bundle.text("errors.txt"));
    assert!(bundle.text("doctor.txt").contains("does not respond"));
    assert!(bundle.text("configuration.json").contains("queue.state_dir"));
}

#[test]
fn a_signal_that_ends_the_collection_leaves_no_file() {
    let daemon = Daemon::start(&Settings::default().with("device.name", "van-12"));
    daemon.signal("STOP");
    let out = daemon.home.path("out");
    fs::create_dir(&out).unwrap();
    let mut command = doctor(&program(), &daemon.home.path("config.toml"));
    let mut running = Running::start(command.arg("--bundle").arg(out.join("bundle.tar.zst")), b"");
    let files = || fs::read_dir(&out).unwrap().count();
    wait_for("the temporary file", || (files() == 1).then_some(()));
    signal(running.child.0.id(), "TERM");
    wait_for("the end", || (!running.child.is_running()).then_some(()));
    daemon.signal("CONT");
    assert_ne!(running.end().code, Some(0));
    assert_eq!(files(), 0);
}

#[test]
fn an_unprivileged_user_gets_a_bundle_with_less_in_it() {
    if !is_root() {
        return;
    }
    let server = quoting_server();
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, &format!("{SESAME}-token"), 0o600);
    home.configure(
        &Settings::for_server(&server.url())
            .with("server.token_file", token.to_str().unwrap())
            .with("device.name", "van-12")
            .with("retry.quarantine_after", "1"),
    );
    let daemon = home.start();
    daemon.enqueue(&[json!({"type": "Visits", "key": KEY, "payload": {"date": PAYLOAD}})]);
    daemon.wait_until_done();
    open_to_all(&daemon);
    change_mode(&daemon.home.path("config.toml"), 0o644);
    let out = daemon.home.path("out");
    fs::create_dir(&out).unwrap();
    change_mode(&out, 0o777);
    let copy = copy_of_program(&daemon.home);
    let file = out.join("bundle.tar.zst");
    let mut command = doctor(&copy, &daemon.home.path("config.toml"));
    command.arg("--bundle").arg(&file).uid(NOBODY).gid(NOBODY);
    let (_, bundle) = write_bundle(command, &file);
    bundle.lacks(&[SESAME, PAYLOAD, KEY]);
    let manifest = bundle.lines("manifest.ndjson");
    assert_eq!((manifest.len(), &manifest[0]["key"]), (1, &Value::Null));
    assert!(bundle.text("errors.txt").contains("state-directory.txt: not permitted"), "{:?}", bundle.0);
}

#[test]
fn an_existing_file_is_kept_unless_it_is_to_be_replaced() {
    let home = Home::new(&Settings::default().with("device.name", "van-12"));
    let (mut command, file) = bundle_command(&home);
    fs::write(&file, "precious").unwrap();
    let ran = run(&mut command, b"");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for part in ["exists", "--force", "was not written"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let (mut command, _) = bundle_command(&home);
    command.arg("--force").arg("--json");
    let (ran, _) = write_bundle(command, &file);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["file"], file.to_str().unwrap());
    assert!(report["left_out"].as_array().unwrap().iter().any(|one| one["file"] == "status.json"));
    let link = home.path("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let mut command = doctor(&program(), &home.path("config.toml"));
    let ran = run(command.arg("--bundle").arg(&link).arg("--force"), b"");
    assert!(ran.code == Some(1) && ran.stderr.contains("symbolic link"), "{ran:?}");
}

#[test]
fn standard_output_takes_the_archive_unless_it_is_a_terminal() {
    let home = Home::new(&Settings::default().with("device.name", "van-12"));
    for json in [&[][..], &["--json"]] {
        let mut command = doctor(&program(), &home.path("config.toml"));
        let ran = command.args(["--bundle", "-"]).args(json).output().unwrap();
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        Bundle::unpack(&ran.stdout).text("doctor.json");
        assert!(String::from_utf8_lossy(&ran.stderr).contains("Left out: status.json"), "{ran:?}");
    }
    let mut command = doctor(&program(), &home.path("config.toml"));
    command.args(["--bundle", "-"]);
    let (code, text) = Terminal::run(command, 80);
    assert!(code == Some(2) && text.contains("not written to a terminal"), "{code:?} {text}");
}
