//! What is in effect, and where it comes from: `GET /v1/configuration` and `fieldsync config`.

use std::fs;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Home, cli_command, daemon_command};
use crate::support::process::run;
use crate::support::settings::Settings;

fn value<'a>(configuration: &'a Value, key: &str) -> &'a Value {
    configuration["values"].as_array().unwrap().iter().find(|value| value["key"] == key).unwrap()
}

fn started() -> Daemon {
    let home = Home::new(&Settings::for_server("http://127.0.0.1:1").with("server.ca_file", "ca.pem"));
    fs::create_dir(home.path("conf.d")).unwrap();
    fs::write(home.path("conf.d/10-fleet.toml"), "[batch]\nstandard_batch = 40\n").unwrap();
    let mut command = home.command();
    command.env("FIELDSYNC_SERVER__URL", "http://127.0.0.1:2");
    home.start_by(command)
}

#[test]
fn every_value_has_its_source_and_what_may_be_secret_is_masked() {
    let daemon = started();
    let configuration = daemon.get("/v1/configuration").expect_json(200);
    let url = value(&configuration, "server.url");
    assert_eq!(url["value"], "http://127.0.0.1:2");
    assert_eq!(url["source"], "environment variable FIELDSYNC_SERVER__URL");
    let batch = value(&configuration, "batch.standard_batch");
    assert_eq!(batch["value"], 40);
    assert!(batch["source"].as_str().unwrap().ends_with("/conf.d/10-fleet.toml:2"), "{batch}");
    let default = json!({"key": "queue.keep_synced", "value": "7days", "source": "default"});
    assert_eq!(value(&configuration, "queue.keep_synced"), &default);
    assert_eq!(value(&configuration, "server.token_file")["value"], Value::Null);
    assert_eq!(value(&configuration, "server.ca_file")["value"], "***", "it may be the secret itself");
}

#[test]
fn the_command_prints_what_the_daemon_uses_and_without_one_what_the_files_say() {
    let daemon = started();
    let ran = daemon.cli(&["config"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let line = ran.stdout.lines().find(|line| line.starts_with("server.url ")).unwrap();
    assert!(line.contains("\"http://127.0.0.1:2\"") && line.contains("FIELDSYNC_SERVER__URL"), "{line}");
    let json: Value = serde_json::from_str(&daemon.cli(&["config", "--json"]).stdout).unwrap();
    assert_eq!(json, daemon.get("/v1/configuration").expect_json(200));

    let (_, home) = daemon.terminate();
    let mut command = cli_command(home.socket(), &["config", "--config"]);
    let ran = run(command.arg(home.path("config.toml")), b"");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("no daemon responds"), "{}", ran.stderr);
    let line = ran.stdout.lines().find(|line| line.starts_with("server.url ")).unwrap();
    assert!(line.contains("\"http://127.0.0.1:1\"") && line.contains("config.toml:"), "{line}");

    fs::write(home.path("conf.d/10-fleet.toml"), "[batch]\nstandard_batch = \"forty\"\n").unwrap();
    let mut command = cli_command(home.socket(), &["config", "--config"]);
    let ran = run(command.arg(home.path("config.toml")), b"");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("batch.standard_batch: must be a whole number"), "{}", ran.stderr);
}

#[test]
fn the_command_says_first_that_a_configuration_was_refused() {
    let daemon = Daemon::start(&Settings::default());
    daemon.home.configure(&Settings::default().with("batch.micro_batch", "0"));
    daemon.signal("HUP");
    daemon.wait_until("the alert", |status| status["alerts"][0]["alert"] == "configuration_refused");
    let ran = daemon.cli(&["config"]);
    assert_eq!(ran.code, Some(0));
    let first = ran.stdout.lines().next().unwrap();
    assert!(
        first.contains("Refused: ") && first.contains("batch.micro_batch: must be at least 1"),
        "{first}"
    );
}

#[test]
fn a_token_that_was_written_instead_of_its_file_is_shown_nowhere() {
    let home =
        Home::new(&Settings::for_server("http://127.0.0.1:1").with("server.token_file", "s3cr3t-word"));
    let mut check = daemon_command();
    let checked = run(check.arg("--check-config").arg("--config").arg(home.path("config.toml")), b"");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("token_file = \"***\""), "{}", checked.stdout);
    let daemon = home.start();
    daemon.enqueue_many(1);
    daemon.wait_for_log("*** is not the path of a file");
    let last_good = fs::read_to_string(daemon.home.path("state/last-good.toml")).unwrap();
    let doctor = daemon.cli(&["doctor"]);
    assert!(
        doctor.stdout.contains("server.token_file (") && doctor.stdout.contains("not the whole path"),
        "{}",
        doctor.stdout
    );
    let status = daemon.status().to_string();
    for text in [&checked.stdout, &checked.stderr, &last_good, &daemon.log(), &doctor.stdout, &status] {
        assert!(!text.contains("s3cr3t"), "{text}");
    }
}
