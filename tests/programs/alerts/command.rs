//! `telemetry.alert_command`: what the program gets, and what happens to one that hangs, floods, or does not exist.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use super::{ALL_OF_ANY_DISK, wait_for_end, wait_for_start};
use crate::support::daemon::{Daemon, Home};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// A home with a shell script that gets the alerts; `$OUT` is a directory for what it writes.
fn with_script(script: &str) -> (Home, Settings) {
    let home = Home::new(&Settings::default());
    let (path, out) = (home.path("forward alert"), home.path("out"));
    fs::create_dir(&out).unwrap();
    fs::write(&path, format!("#!/bin/sh\nOUT='{}'\n{script}\n", out.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = Settings::default()
        .with("telemetry.alert_command", path.to_str().unwrap())
        .with("telemetry.alert_disk_free", ALL_OF_ANY_DISK);
    home.configure(&settings);
    (home, settings)
}

#[track_caller]
fn wait_for_file(path: &PathBuf) -> String {
    wait_for(&path.display().to_string(), || fs::read_to_string(path).ok().filter(|text| !text.is_empty()))
}

fn is_running(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[test]
fn the_program_gets_the_start_and_the_end_as_json() {
    let (home, settings) =
        with_script(r#"cat > "$OUT/new"; echo >> "$OUT/new"; cat "$OUT/new" >> "$OUT/all""#);
    let daemon = home.start();
    let out = daemon.home.path("out/all");
    wait_for_file(&out);
    let alert = wait_for_start(&daemon, "disk_low");
    daemon.reload(&settings.with("telemetry.alert_disk_free", "1B"));
    wait_for_end(&daemon, "disk_low");
    let lines = wait_for("both alerts", || {
        let text = fs::read_to_string(&out).unwrap();
        Some(text).filter(|text| text.lines().count() == 2)
    });
    let changes: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let status = daemon.status();
    for (change, active) in changes.iter().zip([true, false]) {
        assert_eq!(change["active"], active);
        assert_eq!(change["device_id"], status["device_id"]);
        assert_eq!(change["device_name"], status["device_name"]);
    }
    for field in ["alert", "severity", "message", "remedy", "since"] {
        assert_eq!(changes[0][field], alert[field], "{field}");
    }
}

#[test]
fn the_program_gets_no_secrets_and_no_open_files() {
    let (home, _) =
        with_script(r#"env > "$OUT/env"; ls /proc/self/fd > "$OUT/fds"; echo done > "$OUT/done""#);
    let mut command = home.command();
    command
        .env("CREDENTIALS_DIRECTORY", home.path("credentials"))
        .env("FIELDSYNC_DEVICE__NAME", "sesame")
        .env("HTTPS_PROXY", "http://user:sesame@proxy:1")
        .env("TZ", "UTC");
    let daemon = home.start_by(command);
    wait_for_file(&daemon.home.path("out/done"));
    let variables = fs::read_to_string(daemon.home.path("out/env")).unwrap();
    assert!(variables.contains("TZ=UTC\n") && variables.contains("PATH="), "{variables}");
    for secret in ["sesame", "CREDENTIALS", "FIELDSYNC", "PROXY"] {
        assert!(!variables.contains(secret), "{variables}");
    }
    // The fourth is the directory that ls reads.
    let files = fs::read_to_string(daemon.home.path("out/fds")).unwrap();
    assert_eq!(files.lines().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn a_program_that_hangs_is_stopped_with_its_children_and_the_next_alert_is_handed_over() {
    let (home, settings) =
        with_script(r#"trap '' TERM; sleep 1000 & echo "$$ $!" >> "$OUT/pids"; wait; sleep 1000"#);
    let settings = settings.with("telemetry.alert_command_timeout", "3s");
    home.configure(&settings);
    let daemon = home.start();
    daemon.wait_for_log("ran for longer than 3s and was stopped");
    daemon.reload(&settings.with("telemetry.alert_disk_free", "1B"));
    let pids = wait_for("both runs", || {
        let pids = fs::read_to_string(daemon.home.path("out/pids")).ok()?;
        Some(pids).filter(|pids| pids.lines().count() == 2)
    });
    wait_for("the end of all", || pids.split_whitespace().all(|pid| !is_running(pid)).then_some(()));
    // The daemon itself did not wait.
    assert_eq!(daemon.enqueue_many(1).len(), 1);
}

#[test]
fn runs_follow_one_another_and_the_last_change_of_an_alert_wins() {
    let (home, settings) = with_script(
        r#"mkdir "$OUT/lock" || echo overlap >> "$OUT/overlaps"
        cat >> "$OUT/all"; echo >> "$OUT/all"
        while [ ! -e "$OUT/go" ]; do sleep 0.02; done
        rmdir "$OUT/lock""#,
    );
    let daemon = home.start();
    wait_for_file(&daemon.home.path("out/all"));
    let low = settings.clone().with("telemetry.alert_disk_free", "1B");
    for _ in 0..2 {
        daemon.reload(&low);
        wait_for_end(&daemon, "disk_low");
        daemon.reload(&settings);
        wait_for_start(&daemon, "disk_low");
    }
    daemon.reload(&low);
    wait_for_end(&daemon, "disk_low");
    fs::write(daemon.home.path("out/go"), "").unwrap();
    let last = wait_for("the last change", || {
        let text = fs::read_to_string(daemon.home.path("out/all")).unwrap();
        text.lines().last().filter(|line| line.contains("\"active\":false")).map(|_| text.clone())
    });
    assert_eq!(last.lines().count(), 2, "{last}");
    assert!(!daemon.home.path("out/overlaps").exists());
}

#[test]
fn a_program_that_fails_or_does_not_exist_is_reported_with_its_output() {
    let (home, settings) = with_script(r#"echo "no such host" >&2; exit 7"#);
    let daemon = home.start();
    daemon.wait_for_log("failed (exit status: 7)");
    daemon.wait_for_log("its output: no such host");
    let missing = settings.with("telemetry.alert_command", "/nowhere/alert");
    daemon.reload(&missing.with("telemetry.alert_disk_free", "1B"));
    daemon.wait_for_log("/nowhere/alert cannot be started: No such file or directory");
}

#[test]
fn a_flood_of_output_ends_the_program_and_is_cut() {
    let (home, _) = with_script("yes 'a flood of output'");
    let daemon = home.start();
    daemon.wait_for_log("telemetry.alert_command did not take the alert disk_low");
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("did not take the alert")).unwrap();
    assert!(line.contains("a flood of output a flood") && line.len() < 2000, "{}", line.len());
}

#[test]
fn what_the_program_started_has_time_to_end() {
    // Without the grace, nothing after the first command of the trap happens.
    let (home, settings) = with_script(
        r#"rm -f "$OUT/ready"
        (
            trap 'sleep 0.3; echo done > "$OUT/trapped"; exit 0' TERM
            echo ready > "$OUT/ready"
            while :; do sleep 0.02; done
        ) > /dev/null 2>&1 &
        while [ ! -e "$OUT/ready" ]; do sleep 0.02; done"#,
    );
    let daemon = home.start();
    let low = settings.clone().with("telemetry.alert_disk_free", "1B");
    // A busy machine may use up the grace: then the program of a later change has it.
    wait_for("a trap that ends", || {
        if daemon.home.path("out/trapped").exists() {
            return Some(());
        }
        daemon.reload(&low);
        wait_for_end(&daemon, "disk_low");
        daemon.reload(&settings);
        wait_for_start(&daemon, "disk_low");
        None
    });
}

#[test]
fn a_program_that_ignores_the_end_of_the_daemon_does_not_outlive_it() {
    let (home, _) = with_script(r#"trap '' TERM; sleep 1000 & echo "$$ $!" > "$OUT/pids"; wait; sleep 1000"#);
    let daemon = home.start();
    let pids = wait_for_file(&daemon.home.path("out/pids"));
    let (status, home) = Daemon::terminate(daemon);
    assert_eq!(status.code(), Some(0));
    let (program, child) = pids.split_once(' ').unwrap();
    assert!(!is_running(program), "{}", home.log());
    wait_for("the end of what it started", || (!is_running(child)).then_some(()));
}

#[test]
fn a_change_that_was_not_handed_over_is_handed_over_after_the_restart() {
    let (home, settings) =
        with_script(r#"cat >> "$OUT/all"; echo >> "$OUT/all"; [ -e "$OUT/go" ] || sleep 1000"#);
    let daemon = home.start();
    wait_for_file(&daemon.home.path("out/all"));
    daemon.reload(&settings.with("telemetry.alert_disk_free", "1B"));
    wait_for_end(&daemon, "disk_low");
    // The end waits for the first run.
    fs::write(daemon.home.path("out/go"), "").unwrap();
    let daemon = daemon.restart();
    wait_for("the end of the alert", || {
        let text = fs::read_to_string(daemon.home.path("out/all")).unwrap();
        text.lines().last().filter(|line| line.contains("\"active\":false")).map(drop)
    });
}

#[test]
fn a_run_ends_with_the_daemon() {
    let (home, _) = with_script(r#"echo $$ > "$OUT/pid"; exec sleep 1000"#);
    let daemon = home.start();
    let pid = wait_for_file(&daemon.home.path("out/pid"));
    let (status, _home) = Daemon::terminate(daemon);
    assert_eq!(status.code(), Some(0));
    wait_for("the end of the program", || (!is_running(&pid)).then_some(()));
}
