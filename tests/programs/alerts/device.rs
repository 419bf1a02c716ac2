//! Conditions of the device: queue, disk, clock, restarts.

use std::time::{Duration, UNIX_EPOCH};

use fieldsync::clock::wall_ms;

use super::{ALL_OF_ANY_DISK, find, wait_for_end, wait_for_start, with_records};
use crate::support::daemon::{Daemon, Home};
use crate::support::server::{Reply, Request};
use crate::support::settings::Settings;

#[test]
fn a_queue_near_its_limit_is_an_alert_and_a_full_one_is_urgent() {
    let (server, daemon) =
        with_records(|_| Reply::Close, |settings| settings.with("queue.max_records", "10"), 8);
    assert_eq!(wait_for_start(&daemon, "queue_filling")["severity"], "warning");
    daemon.enqueue_many(2);
    daemon.wait_until("a full queue", |status| {
        find(status, "queue_filling").is_some_and(|alert| alert["severity"] == "critical")
    });
    server.set_script(Reply::correct);
    wait_for_end(&daemon, "queue_filling");
}

#[test]
fn a_disk_with_little_space_is_an_alert_until_the_threshold_is_lower() {
    let settings = Settings::default().with("telemetry.alert_disk_free", ALL_OF_ANY_DISK);
    let daemon = Daemon::start(&settings);
    wait_for_start(&daemon, "disk_low");
    daemon.reload(&settings.clone().with("telemetry.alert_disk_free", "1B"));
    wait_for_end(&daemon, "disk_low");
    daemon.reload(&settings);
    wait_for_start(&daemon, "disk_low");
    daemon.reload(&settings.with("telemetry.alert_disk_free", "0B"));
    wait_for_end(&daemon, "disk_low");
}

#[test]
fn a_clock_that_differs_from_the_servers_is_an_alert_until_they_agree() {
    let dated = |ahead: u64| {
        move |request: &Request| {
            let date = UNIX_EPOCH + Duration::from_millis(wall_ms()) + Duration::from_secs(ahead);
            Reply::correct(request).with("date", httpdate::fmt_http_date(date))
        }
    };
    let (server, daemon) =
        with_records(dated(7200), |settings| settings.with("telemetry.alert_clock_offset", "1h"), 1);
    let alert = wait_for_start(&daemon, "clock_offset");
    assert!(alert["message"].as_str().unwrap().contains("s behind the server's"), "{alert:#}");
    server.set_script(dated(0));
    daemon.enqueue_many(1);
    wait_for_end(&daemon, "clock_offset");
}

#[test]
fn restarts_are_an_alert_only_if_they_were_not_orderly() {
    let home = Home::new(&Settings::default().with("telemetry.alert_restarts", "2"));
    let daemon = home.start().restart().restart();
    assert_eq!(find(&daemon.status(), "restarts"), None, "{:#}", daemon.status());
    // The start is saved before the kill.
    let killed = |daemon: Daemon| {
        daemon.enqueue_many(1);
        daemon.kill9().start()
    };
    let daemon = killed(daemon);
    assert_eq!(find(&daemon.status(), "restarts"), None, "{:#}", daemon.status());
    let daemon = killed(daemon);
    let alert = wait_for_start(&daemon, "restarts");
    assert!(alert["message"].as_str().unwrap().contains("4 times within a day, 2 of them after a crash"));
}
