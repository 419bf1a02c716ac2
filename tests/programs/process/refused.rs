//! A configuration with a mistake never stops the intake of records: the last good one stays in use, and everything that
//! people look at says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon, Home, daemon_command};
use crate::support::notify::NotifySocket;
use crate::support::process::run;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

const REASON: &str = "queue.max_records: must be a whole number, for example 5000000";

fn wrong(settings: &Settings) -> Settings {
    settings.clone().with("queue.max_records", "many")
}

fn refusal_alert(status: &Value) -> Option<String> {
    let alerts = status["alerts"].as_array().unwrap();
    let alert = alerts.iter().find(|alert| alert["alert"] == "configuration_refused")?;
    Some(format!("{}; {}", alert["message"].as_str().unwrap(), alert["remedy"].as_str().unwrap()))
}

/// Everything that names the mistake while it lasts.
fn assert_refused(daemon: &Daemon) {
    let status = daemon.wait_until("the alert", |status| refusal_alert(status).is_some());
    let alert = refusal_alert(&status).unwrap();
    for part in ["config.toml: line ", REASON, "the last good one is in use", "systemctl reload fieldsync"] {
        assert!(alert.contains(part), "{alert}");
    }
    let text = status["sync"]["text"].as_str().unwrap();
    assert!(text.contains("configuration refused: ") && text.contains(REASON), "{text}");
    let shown = daemon.cli(&["status"]);
    assert!(shown.stdout.contains(REASON), "{}", shown.stdout);
    let refused = &daemon.get("/v1/configuration").expect_json(200)["refused"];
    assert!(refused["message"].as_str().unwrap().contains(REASON), "{refused}");
    let mistake = &refused["mistakes"][0];
    assert_eq!((&mistake["key"], &mistake["variable"]), (&json!("queue.max_records"), &Value::Null));
    assert!(mistake["file"].as_str().unwrap().ends_with("/config.toml"), "{refused}");
    assert!(mistake["line"].as_u64().is_some(), "{refused}");
}

#[test]
fn a_start_with_a_mistake_uses_the_last_good_configuration_and_says_so() {
    let server = ScriptedServer::start(Reply::correct);
    let good = Settings::for_server(&server.url());
    let daemon = Daemon::start(&good);
    let (_, home) = daemon.terminate();
    let last_good = home.path("state/last-good.toml");
    assert_eq!(fs::metadata(&last_good).unwrap().permissions().mode() & 0o777, 0o600);
    home.configure(&wrong(&good));
    let mut notified = NotifySocket::new(&home.path(""));
    let mut command = home.command();
    command.env("NOTIFY_SOCKET", &notified.path);
    let daemon = home.start_by(command);
    daemon.wait_for_log("the last good one is used instead");
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    assert_refused(&daemon);
    wait_for("the line of systemctl status", || {
        notified
            .received_lines()
            .iter()
            .any(|line| line.starts_with("STATUS=") && line.contains(REASON))
            .then_some(())
    });
    let values = daemon.get("/v1/configuration").expect_json(200);
    assert!(source_of(&values, "server.url").contains("last-good.toml:"), "{values}");

    daemon.home.configure(&good.with("queue.max_records", "7"));
    daemon.signal("HUP");
    daemon.wait_until("the end of the alert", |status| refusal_alert(status).is_none());
    assert_eq!(daemon.status()["queue"]["max_records"], 7);
    assert!(!daemon.status()["sync"]["text"].as_str().unwrap().contains("refused"));
}

#[test]
fn without_a_last_good_configuration_the_start_is_refused() {
    let home = Home::new(&wrong(&Settings::default()));
    let mut command = daemon_command();
    let ran = run(command.arg("--config").arg(home.path("config.toml")), b"");
    assert_eq!(ran.code, Some(78), "{}", ran.stderr);
    assert!(ran.stderr.contains(REASON), "{}", ran.stderr);

    // One that was kept for another directory is not used.
    let (_, home) = Daemon::start(&Settings::default()).terminate();
    let moved = home.path("moved");
    fs::rename(home.path("state"), &moved).unwrap();
    home.configure(&wrong(&Settings::default()).with("queue.state_dir", moved.to_str().unwrap()));
    let mut command = daemon_command();
    assert_eq!(run(command.arg("--config").arg(home.path("config.toml")), b"").code, Some(78));
}

/// The command with another default directory. This text is its configuration.
fn command_with(home: &Home, default_dir: &Path, text: &str) -> Command {
    fs::write(home.path("config.toml"), text).unwrap();
    let mut command = home.command();
    command.env("STATE_DIRECTORY", default_dir);
    command
}

#[test]
fn a_mistake_that_hides_the_directory_of_the_queue_does_not_stop_intake() {
    let default_dir = directory();
    let home = Home::new(&Settings::default());
    let socket = home.socket().display().to_string();
    let (a, b) = (home.path("a").display().to_string(), home.path("b").display().to_string());
    let text = |queue: &str| format!("[ipc]\nsocket = '{socket}'\n{queue}\n");
    let command = command_with(&home, default_dir.path(), &text(&format!("[queue]\nstate_dir = '{a}'")));
    let daemon = home.start_by(command);
    daemon.enqueue_many(2);
    let (_, mut home) = daemon.terminate();
    for wrong in [format!("[queue]\nstate_dir = {a}"), format!("[queu]\nstate_dir = '{a}'"), "[[[".to_owned()]
    {
        let command = command_with(&home, default_dir.path(), &text(&wrong));
        let daemon = home.start_by(command);
        assert!(refusal_alert(&daemon.status()).is_some(), "{wrong}");
        assert_eq!(daemon.counts().pending, 2, "{wrong}");
        home = daemon.terminate().1;
    }

    // The queue in `a` is left behind. No typo opens it again.
    let command = command_with(&home, default_dir.path(), &text(&format!("[queue]\nstate_dir = '{b}'")));
    let daemon = home.start_by(command);
    let (_, home) = daemon.terminate();
    let command = command_with(&home, default_dir.path(), &text(&format!("[queue]\nstate_dir = {a}")));
    let daemon = home.start_by(command);
    assert_eq!(daemon.counts().pending, 0);
    let (_, home) = daemon.terminate();
    let named = format!("[ipc]\nsocket = '{socket}'\n[queue]\nstate_dir = '{a}'\nmax_records = 'many'\n");
    let ran = run(&mut command_with(&home, default_dir.path(), &named), b"");
    assert_eq!(ran.code, Some(78));
}

#[test]
fn files_of_another_daemon_do_not_open_this_ones_queue() {
    let default_dir = directory();
    let home = Home::new(&Settings::default());
    let text = fs::read_to_string(home.path("config.toml")).unwrap();
    let command = command_with(&home, default_dir.path(), &text);
    let (_, _home) = home.start_by(command).terminate();
    let other = Home::new(&Settings::default());
    let ran = run(&mut command_with(&other, default_dir.path(), "[queu]\n"), b"");
    assert_eq!(ran.code, Some(78));
}

#[test]
fn a_check_of_the_configuration_never_uses_the_last_good_one() {
    let (_, home) = Daemon::start(&Settings::default()).terminate();
    home.configure(&wrong(&Settings::default()));
    let check = || {
        let mut command = daemon_command();
        command.args(["--check-config", "--quiet", "--config"]).arg(home.path("config.toml"));
        run(&mut command, b"")
    };
    let ran = check();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(78), ""));
    assert!(ran.stderr.contains(REASON), "{}", ran.stderr);
    home.configure(&Settings::default());
    let ran = check();
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn a_refused_reload_stays_visible_until_a_good_one() {
    let daemon = Daemon::start(&Settings::default());
    assert_eq!(daemon.get("/v1/configuration").expect_json(200)["refused"], Value::Null);
    daemon.home.configure(&wrong(&Settings::default()));
    daemon.signal("HUP");
    assert_refused(&daemon);
    daemon.home.configure(&Settings::default());
    daemon.signal("HUP");
    daemon.wait_until("the end of the alert", |status| refusal_alert(status).is_none());
    assert_eq!(daemon.get("/v1/configuration").expect_json(200)["refused"], Value::Null);
}

fn source_of(configuration: &Value, key: &str) -> String {
    let values = configuration["values"].as_array().unwrap();
    let value = values.iter().find(|value| value["key"] == key).unwrap();
    value["source"].as_str().unwrap().to_owned()
}
