//! Where alerts are shown: status, events, journal, metrics, doctor, command line.

use serde_json::{Value, json};

use super::{ALL_OF_ANY_DISK, wait_for_end, wait_for_start};
use crate::support::daemon::Daemon;
use crate::support::events::EventReader;
use crate::support::settings::Settings;

#[test]
fn the_start_and_the_end_of_an_alert_are_events_and_log_lines() {
    let settings = Settings::default();
    let daemon = Daemon::start(&settings);
    let mut events = EventReader::open(&daemon.home.socket(), None);
    daemon.reload(&settings.clone().with("telemetry.alert_disk_free", ALL_OF_ANY_DISK));
    let alert = wait_for_start(&daemon, "disk_low");
    daemon.reload(&settings);
    wait_for_end(&daemon, "disk_low");
    let mut next = || events.read_until(|event| event.event == "alert").pop().unwrap().data;
    let with = |active: bool| -> Value {
        let mut change = alert.clone();
        change["active"] = json!(active);
        change
    };
    assert_eq!(next(), with(true));
    let end = next();
    assert_eq!((&end["alert"], &end["active"]), (&json!("disk_low"), &json!(false)));
    daemon.wait_for_log("alert: the disk of the queue has");
    daemon.wait_for_log("the alert disk_low has ended");
}

#[test]
fn an_active_alert_is_shown_by_status_doctor_metrics_and_check() {
    let daemon = Daemon::start(&Settings::default().with("telemetry.alert_disk_free", ALL_OF_ANY_DISK));
    wait_for_start(&daemon, "disk_low");
    let shown = daemon.cli(&["status"]).stdout;
    assert!(
        shown.contains("ALERT disk_low: the disk of the queue") && shown.contains("To do: free some"),
        "{shown}"
    );
    let check = daemon.cli(&["status", "--check"]);
    assert_eq!(check.code, Some(1));
    assert!(check.stdout.contains("free some disk space"), "{check:?}");
    let metrics = daemon.get("/metrics").text();
    assert!(metrics.contains("fieldsync_alert{name=\"disk_low\"} 1"), "{metrics}");
    assert!(metrics.contains("fieldsync_alert{name=\"no_contact\"} 0"), "{metrics}");
    let doctor =
        daemon.cli(&["--json", "doctor", "--config", daemon.home.path("config.toml").to_str().unwrap()]);
    let report: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let finding = report["checks"].as_array().unwrap().iter().find(|one| one["check"] == "alerts").unwrap();
    assert_eq!(finding["result"], "warning");
    assert!(finding["finding"].as_str().unwrap().starts_with("disk_low: "), "{finding:#}");
}

#[test]
fn an_alert_continues_over_a_restart_and_one_without_a_cause_ends() {
    let settings = Settings::default().with("telemetry.alert_disk_free", ALL_OF_ANY_DISK);
    let daemon = Daemon::start(&settings);
    let alert = wait_for_start(&daemon, "disk_low");
    let daemon = daemon.restart();
    assert_eq!(wait_for_start(&daemon, "disk_low")["since"], alert["since"]);
    daemon.wait_for_log("the alert disk_low was active before this start, since");
    let reported = daemon.log().matches("alert: the disk of the queue has").count();
    assert_eq!(reported, 1, "{}", daemon.log());
    daemon.home.configure(&settings.with("telemetry.alert_disk_free", "1B"));
    let daemon = daemon.restart();
    daemon.wait_for_log("the alert disk_low has ended");
    wait_for_end(&daemon, "disk_low");
}
