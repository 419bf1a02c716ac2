//! The promised keys of the configuration: all exist, have their defaults, and accept values in the file and in
//! environment variables.

use std::fs;

use toml::{Table, Value};

use crate::support::daemon::{Home, daemon_command};
use crate::support::process::{ProgramOutput, run};
use crate::support::settings::Settings;
use crate::support::wait::directory;

/// The keys with a promised default.
const PROMISED: &str = r#"
[server]
request_timeout = "1m"
compression = "auto"
outcome_lookup = "auto"
[queue]
max_disk_bytes = "4GiB"
max_user_share = 0.75
shared_keys = false
[batch]
large_queue_records = 100
large_queue_batch = 25
large_payload_bytes = "1MiB"
large_payload_batch = 30
standard_batch = 50
micro_batch = 10
safety_margin = 0.25
max_batch_records = 1000
learn = true
max_in_flight = 4
[breaker]
micro_after = 3
[connectivity]
watch = "netlink"
metered = "sync"
[ipc]
socket_mode = "0660"
[log]
target = "auto"
"#;

/// Every key, with a value other than its default.
const CHANGED: &str = r#"
[server]
url = "https://crm.example.com"
path = "/sync"
token_file = "/srv/token"
ca_file = "/srv/ca.pem"
client_cert_file = "/srv/client.pem"
client_key_file = "/srv/client.key"
connect_timeout = "5s"
request_timeout = "45s"
compression = "gzip"
outcome_lookup = "off"
[queue]
state_dir = "/srv/state"
max_records = 1000
max_bytes = "1GiB"
max_disk_bytes = "2GiB"
max_user_share = 0.5
max_record_bytes = "512KiB"
keep_synced = "1day"
disk_reserve = "16MiB"
shared_keys = true
[batch]
large_queue_records = 200
large_queue_batch = 20
large_payload_bytes = "2MiB"
large_payload_batch = 21
standard_batch = 22
micro_batch = 5
safety_margin = 0.5
max_batch_records = 500
max_batch_bytes = "1MiB"
learn = false
max_in_flight = 8
[retry]
initial_backoff = "2s"
max_backoff = "5m"
max_retry_after = "30m"
quarantine_after = 4
[breaker]
micro_after = 4
open_after = 5
close_after = 6
open_min = "10s"
open_max = "20s"
[connectivity]
watch = "poll"
probe_interval = "30s"
metered = "defer"
min_battery_percent = 20
[ipc]
socket = "/srv/fieldsync.sock"
socket_mode = "0600"
admin_group = "adm"
[telemetry]
window = "1day"
otlp_url = "https://otel.example.com"
otlp_headers_file = "/srv/otlp-headers"
otlp_interval = "5m"
alert_queue_percent = 50
alert_quarantined = 7
alert_oldest_pending = "2h"
alert_breaker_open = "1h"
alert_ambiguous_percent = 50
alert_no_contact = "1day"
alert_disk_free = "1GiB"
alert_clock_offset = "10s"
alert_credential_expiry = "1day"
alert_restarts = 9
alert_command = ["/bin/true", "--now"]
alert_command_timeout = "5s"
[device]
name = "Van 12"
[log]
target = "stderr"
level = "debug"
"#;

fn checked(text: &str, variables: &[(String, String)]) -> ProgramOutput {
    let directory = directory();
    let file = directory.path().join("config.toml");
    fs::write(&file, text).unwrap();
    let mut command = daemon_command();
    command.arg("--config").arg(&file).arg("--check-config").envs(variables.iter().cloned());
    run(&mut command, b"")
}

#[track_caller]
fn effective(text: &str, variables: &[(String, String)]) -> Table {
    let ran = checked(text, variables);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{text}");
    ran.stdout.parse().unwrap()
}

/// The effective value of one key when it is set to this.
#[track_caller]
fn taken(section: &str, key: &str, value: &str) -> Value {
    effective(&format!("[{section}]\n{key} = {value}\n"), &[])[section][key].clone()
}

/// Section, key and value, one after the other.
fn entries(text: &str) -> Vec<(String, String, Value)> {
    let sections = text.parse::<Table>().unwrap();
    let of = |(section, keys): (String, Value)| {
        let Value::Table(keys) = keys else { panic!("{section} is no section") };
        keys.into_iter().map(move |(key, value)| (section.clone(), key, value)).collect::<Vec<_>>()
    };
    sections.into_iter().flat_map(of).collect()
}

#[test]
fn the_shipped_file_equals_the_built_in_defaults() {
    let shipped = checked(include_str!("../../../config.toml"), &[]);
    assert_eq!((shipped.code, shipped.stderr.as_str()), (Some(0), ""));
    assert_eq!(shipped.stdout, checked("", &[]).stdout);
}

#[test]
fn the_defaults_are_the_promised_ones() {
    let defaults = effective("", &[]);
    for (section, key, value) in entries(PROMISED) {
        assert_eq!(defaults[&section].get(&key), Some(&value), "{section}.{key}");
    }
}

#[test]
fn every_key_can_be_set_in_the_file_and_by_its_variable() {
    let (defaults, by_file) = (effective("", &[]), effective(CHANGED, &[]));
    let mut variables = Vec::new();
    for (section, key, value) in entries(CHANGED) {
        assert_eq!(by_file[&section].get(&key), Some(&value), "{section}.{key}");
        assert_ne!(defaults[&section].get(&key), Some(&value), "{section}.{key} would prove nothing");
        let name = format!("FIELDSYNC_{section}__{key}").to_uppercase();
        variables.push((name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    }
    assert_eq!(effective("", &variables), by_file);
}

#[test]
fn durations_and_sizes_are_parsed_as_people_write_them() {
    for (key, written, means) in [
        ("keep_synced", "\"30s\"", "30s"),
        ("keep_synced", "\"15m\"", "15m"),
        ("keep_synced", "\"900s\"", "15m"),
        ("keep_synced", "\"7d\"", "7days"),
        ("keep_synced", "\"1h 30m\"", "1h 30m"),
        ("disk_reserve", "\"4MiB\"", "4MiB"),
        ("disk_reserve", "\"1GB\"", "1000000000B"),
        ("disk_reserve", "\"64KiB\"", "64KiB"),
        ("disk_reserve", "65536", "64KiB"),
    ] {
        assert_eq!(taken("queue", key, written).as_str(), Some(means), "{written}");
        // The printed form can be parsed.
        assert_eq!(taken("queue", key, &format!("{means:?}")).as_str(), Some(means));
    }
    for (key, wrong) in [
        ("keep_synced", "\"7\""),
        ("keep_synced", "7"),
        ("keep_synced", "\"a week\""),
        ("disk_reserve", "\"4 parsec\""),
        ("disk_reserve", "-1"),
        ("disk_reserve", "true"),
    ] {
        let ran = checked(&format!("[queue]\n{key} = {wrong}\n"), &[]);
        assert_eq!(ran.code, Some(78), "{wrong}");
        assert!(ran.stderr.contains(key), "{}", ran.stderr);
    }
}

#[test]
fn choices_accept_only_the_promised_words() {
    for (section, key, words) in [
        ("server", "compression", &["auto", "zstd", "gzip", "none"][..]),
        ("server", "outcome_lookup", &["auto", "off"]),
        ("connectivity", "watch", &["netlink", "poll", "none"]),
        ("connectivity", "metered", &["sync", "defer"]),
        ("log", "target", &["auto", "journald", "stderr"]),
    ] {
        for word in words {
            assert_eq!(taken(section, key, &format!("{word:?}")).as_str(), Some(*word));
        }
        let ran = checked(&format!("[{section}]\n{key} = \"sometimes\"\n"), &[]);
        assert_eq!(ran.code, Some(78), "{key}");
        assert!(words.iter().chain([&key, &"sometimes"]).all(|part| ran.stderr.contains(part)), "{ran:?}");
    }
}

#[test]
fn without_keys_the_directories_come_from_the_service_manager() {
    let home = Home::new(&Settings::default());
    let file = home.path("config.toml");
    fs::write(&file, Settings::default().toml()).unwrap();
    let (state, run_directory) = (home.path("kept"), home.path(""));
    let mut command = home.command();
    command.env("STATE_DIRECTORY", &state).env("RUNTIME_DIRECTORY", &run_directory);
    // The start waits for a response at fieldsync.sock in that directory.
    let daemon = home.start_by(command);
    daemon.enqueue_many(1);
    assert!(state.join("queue.redb").is_file());
}
