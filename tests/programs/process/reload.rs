//! The configuration is reloaded while the daemon works: nothing in flight is lost.

use std::collections::HashSet;
use std::fs;

use serde_json::json;

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::notify::NotifySocket;
use crate::support::server::{Gate, Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

#[test]
fn a_batch_in_flight_keeps_its_settings_and_the_next_uses_the_new_ones() {
    let gate = Gate::default();
    let held = gate.clone();
    let old = ScriptedServer::start(move |request| Reply::correct(request).held_by(&held));
    let new = ScriptedServer::start(Reply::correct);
    let daemon =
        Daemon::start(&Settings::for_server(&old.url()).batches_of(4).with("server.request_timeout", "1m"));
    daemon.enqueue_many(10);
    old.wait_for_batches(1);
    let settings = Settings::for_server(&new.url()).batches_of(2).with("server.request_timeout", "1s");
    daemon.reload(&settings.with("log.level", "info"));
    gate.open();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(10));
    assert_eq!((old.sizes(), new.sizes()), (vec![4], vec![2, 2, 2]));
    let log = daemon.log();
    let (_, after) = log.split_once("the configuration was read again").unwrap();
    assert!(!after.contains("DEBUG"), "{after}");
}

#[test]
fn an_ambiguous_batch_is_queried_at_the_new_server_and_sent_there_if_unknown() {
    let new = ScriptedServer::start(Reply::correct);
    let old = ScriptedServer::start(|request| {
        if request.is_batch() {
            Reply::html(504)
        } else {
            Reply::error(503, "BUSY").with("retry-after", "600")
        }
    });
    let daemon = Daemon::start(&Settings::for_server(&old.url()).with("retry.max_retry_after", "1h"));
    let ids = daemon.enqueue_many(6);
    let doubted = old.wait_for_batches(1)[0].batch_id().to_owned();
    wait_for("the outcome query", || (old.count_outcome_queries(&doubted) > 0).then_some(()));
    daemon.reload(&Settings::for_server(&new.url()));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(6));
    assert!(new.count_outcome_queries(&doubted) > 0, "it may be the same server under another name");
    let first = new.requests().remove(0);
    assert!(!first.is_batch(), "it is asked before anything is sent again");
    let sent: HashSet<String> = new.batches().iter().flat_map(Request::ids).collect();
    assert_eq!(sent, ids.into_iter().collect());
}

#[test]
fn a_batch_known_to_the_server_under_its_new_name_is_not_sent_again() {
    let old =
        ScriptedServer::start(
            |request| {
                if request.is_batch() { Reply::html(504) } else { Reply::error(503, "BUSY") }
            },
        );
    let daemon = Daemon::start(&Settings::for_server(&old.url()));
    let ids = daemon.enqueue_many(6);
    old.wait_for_batches(1);
    let new = ScriptedServer::start(move |request| {
        Reply::results(request.batch_id(), &ids, |_| Some(json!({"status": "applied"})))
    });
    daemon.reload(&Settings::for_server(&new.url()));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(6));
    assert_eq!(new.batches().len(), 0);
}

#[test]
fn many_good_and_bad_reloads_lose_nothing_and_all_of_them_complete() {
    const RECORDS: usize = 300;
    let server = ScriptedServer::start(Reply::correct);
    let good = Settings::for_server(&server.url()).batches_of(5);
    let home = Home::new(&good);
    let mut notified = NotifySocket::new(&home.path(""));
    let mut command = home.command();
    command.env("NOTIFY_SOCKET", &notified.path);
    let daemon = home.start_by(command);
    let ids: HashSet<String> = daemon.enqueue_many(RECORDS).into_iter().collect();
    let storm = [
        good.clone().batches_of(3).with("log.level", "info"),
        good.clone().with("batch.micro_batch", "0"),
        good.clone().with("server.request_timeout", "1s"),
        good.clone().with("retry.max_backoff", "1s").batches_of(9),
    ];
    let mut next = storm.iter().cycle();
    wait_for("everything to be sent", || {
        daemon.home.configure(next.next().unwrap());
        daemon.signal("HUP");
        (server.batches().iter().map(|batch| batch.ids().len()).sum::<usize>() >= RECORDS).then_some(())
    });
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(RECORDS as u64));
    let sent: Vec<String> = server.batches().iter().flat_map(Request::ids).collect();
    assert_eq!((sent.len(), sent.into_iter().collect::<HashSet<_>>()), (RECORDS, ids));

    // The notifications were not read so far, and are more than the socket buffers.
    wait_for("the end of the last reload", || {
        let state = notified
            .received_lines()
            .iter()
            .filter(|line| ["READY=1", "RELOADING=1"].contains(&line.as_str()));
        let states: Vec<&String> = state.collect();
        (states.len() > 2 && states[states.len() - 1] == "READY=1").then_some(())
    });
    let (status, _home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    notified.wait_for("STOPPING=1");
}

#[test]
fn a_reload_reports_its_start_before_its_end_whether_the_file_is_good_or_bad() {
    let home = Home::new(&Settings::default());
    let mut notified = NotifySocket::new(&home.path(""));
    let mut command = home.command();
    command.env("NOTIFY_SOCKET", &notified.path);
    let daemon = home.start_by(command);
    notified.wait_for("READY=1");
    for (at, settings) in
        [Settings::default(), Settings::default().with("log.level", "loud=very")].iter().enumerate()
    {
        daemon.home.configure(settings);
        daemon.signal("HUP");
        wait_for("the end of the reload", || {
            (notified.received_lines().iter().filter(|line| *line == "READY=1").count() == at + 2)
                .then_some(())
        });
    }
    let lines: Vec<&str> = notified.received_lines().iter().map(String::as_str).collect();
    let states: Vec<&str> = lines.iter().copied().filter(|line| !line.starts_with("STATUS=")).collect();
    assert_eq!(states.len(), 7, "{lines:?}");
    for reload in states[1..].chunks(3) {
        assert_eq!((reload[0], reload[2]), ("RELOADING=1", "READY=1"), "{lines:?}");
        let since = reload[1].strip_prefix("MONOTONIC_USEC=").unwrap();
        assert!(since.parse::<u64>().unwrap() > 0);
    }
}

#[test]
fn keys_that_need_a_restart_are_named_and_have_no_effect_before() {
    let daemon = Daemon::start(&Settings::default());
    let elsewhere = daemon.home.path("elsewhere");
    let settings = Settings::default()
        .with("queue.state_dir", elsewhere.to_str().unwrap())
        .with("ipc.max_connections", "10")
        .with("log.target", "journald");
    daemon.reload(&settings);
    for key in ["queue.state_dir", "ipc.max_connections", "log.target"] {
        daemon.wait_for_log(&format!("{key} changed and takes effect at the next start"));
    }
    assert!(!daemon.log().contains("ipc.socket changed"), "{}", daemon.log());
    daemon.enqueue_many(1);
    assert!(!elsewhere.exists());
}

#[test]
fn a_deleted_file_is_refused_and_the_old_configuration_stays() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    fs::remove_file(daemon.home.path("config.toml")).unwrap();
    daemon.signal("HUP");
    daemon.wait_for_log("the configuration was not changed");
    daemon.enqueue_many(2);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
}

#[test]
fn variables_of_the_environment_still_win_after_a_reload() {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server("http://127.0.0.1:1"));
    let mut command = home.command();
    command.env("FIELDSYNC_SERVER__URL", server.url());
    let daemon = home.start_by(command);
    daemon.reload(&Settings::for_server("http://127.0.0.1:2"));
    daemon.enqueue_many(2);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
}
