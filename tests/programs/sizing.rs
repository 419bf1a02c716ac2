//! Batch sizes adapt to the server and to the gateway in front of it, and the learned model is kept.
//!
//! The processing times are simulated by the gateway; the daemon knows only the time limit. They are as short as a
//! busy machine allows: its own delays must be small compared with the time of a batch.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use crate::support::daemon::{Counts, Daemon};
use crate::support::gateway::Gateway;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::directory;

/// 33 records of this cost reach the limit.
const RECORD_COST: &str = "12ms";
const TIME_LIMIT: &str = "396ms";
/// A batch of so many records ends 60 ms before the limit.
const RECORDS_WELL_IN_TIME: u64 = 28;
/// So many batches may be late although their size was right. If a busy machine delays more, the test is repeated.
const DELAYED_BATCHES_MAX: usize = 3;
const RUNS_MAX: usize = 3;
const TIMEOUTS: &str = "fieldsync_gateway_batch_answers_total{status=\"504\"}";

fn narrow_gateway(directory: &Path) -> Gateway {
    Gateway::start(directory, &["--time-limit", TIME_LIMIT, "--record-cost", RECORD_COST])
}

fn learning(gateway: &Gateway) -> Settings {
    Settings::for_server(&gateway.url())
        .with("server.request_timeout", TIME_LIMIT)
        .with("batch.learn", "true")
        // A log line for each record would change the learned times.
        .with("log.level", "info")
}

/// Waits for the end of the run without polling, which would change the times as well.
#[track_caller]
fn drain(daemon: &Daemon) {
    let ran = daemon.cli(&["sync", "--wait"]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, trace(daemon));
}

/// Every send, including those of previous runs, oldest first.
fn sends(daemon: &Daemon) -> Vec<Value> {
    let ran = daemon.cli(&["batches", "--json", "--limit", "500"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let list: Value = serde_json::from_str(&ran.stdout).unwrap();
    list["batches"].as_array().unwrap().iter().rev().cloned().collect()
}

/// For finding out why a batch was too large.
fn trace(daemon: &Daemon) -> String {
    daemon.cli(&["batches", "--limit", "500"]).stdout
}

fn rules(sends: &[Value]) -> Vec<&str> {
    sends.iter().map(|send| send["rule"].as_str().unwrap()).collect()
}

fn records(sends: &[Value]) -> u64 {
    sends.iter().map(|send| send["records"].as_u64().unwrap()).sum()
}

#[track_caller]
fn assert_applied_once(gateway: &Gateway, ids: &[String]) {
    let applied: Vec<String> = gateway.applied_ids().iter().map(ToString::to_string).collect();
    assert_eq!(applied.len(), ids.len());
    assert_eq!(applied.iter().collect::<HashSet<_>>(), ids.iter().collect());
}

fn is_late(send: &Value) -> bool {
    send["outcome"] != "answered"
}

/// Whether a batch was late although its size was right.
fn was_delayed(send: &Value) -> bool {
    is_late(send) && send["records"].as_u64() <= Some(RECORDS_WELL_IN_TIME)
}

/// How 900 records were sent.
struct Run {
    sends: Vec<Value>,
    /// How many of the batches were delayed.
    delayed: usize,
    timeouts: u64,
    trace: String,
}

fn send_900_records() -> Run {
    let directory = directory();
    let gateway = narrow_gateway(directory.path());
    let daemon = Daemon::start(&learning(&gateway));
    let ids = daemon.paused(|daemon| daemon.enqueue_many(900));
    drain(&daemon);
    assert_eq!(daemon.counts(), Counts::all_synced(900));
    assert_applied_once(&gateway, &ids);
    let sends = sends(&daemon);
    let delayed = sends.iter().filter(|send| was_delayed(send)).count();
    Run { sends, delayed, timeouts: gateway.metric(TIMEOUTS), trace: trace(&daemon) }
}

#[test]
fn batches_fit_a_time_limit_that_33_records_reach() {
    let mut run = send_900_records();
    for _ in 1..RUNS_MAX {
        if run.delayed <= DELAYED_BATCHES_MAX {
            break;
        }
        run = send_900_records();
    }
    let Run { sends, delayed, timeouts, trace } = run;
    assert!(delayed <= DELAYED_BATCHES_MAX, "{trace}");
    assert_eq!(rules(&sends[..1]), ["large_queue"]);
    // A batch that was delayed is divided nevertheless.
    let after_delays = |rule: &str| delayed > 0 && matches!(rule, "large_queue" | "split" | "micro");
    let is_expected = |rule: &&str| *rule == "learned" || after_delays(rule);
    assert!(rules(&sends[3..]).iter().all(is_expected), "{trace}");
    assert!(timeouts <= 3 + delayed as u64, "{trace}");
    let planned: Vec<Value> = sends.into_iter().filter(|send| !was_delayed(send)).collect();
    // The gateway does not count a request whose client closed the connection.
    assert!(planned.iter().filter(|send| is_late(send)).count() <= 3, "{trace}");
    // Each 1.05 times.
    assert!(records(&planned) <= 945, "{} records sent\n{trace}", records(&planned));
}

/// Waits until the status has the learned time per record.
#[track_caller]
fn known_times(daemon: &Daemon) -> Value {
    let known = |status: &Value| {
        ["ms_per_record", "expected_ms", "at_most_ms"].iter().all(|key| status["batching"][key].is_u64())
    };
    daemon.wait_until("the learned times to be reported", known)["batching"].clone()
}

#[test]
fn what_was_learned_survives_a_restart() {
    let directory = directory();
    let gateway = narrow_gateway(directory.path());
    let daemon = Daemon::start(&learning(&gateway));
    let mut ids = daemon.paused(|daemon| daemon.enqueue_many(200));
    drain(&daemon);
    let (before, sent) = (known_times(&daemon), sends(&daemon).len());
    // On a busy machine a batch may still be late, and is split.
    let is_known = |rule: &&str| matches!(*rule, "learned" | "split");

    let daemon = daemon.restart();
    // No record waits, so nothing new was measured.
    let after = known_times(&daemon);
    assert_eq!(sends(&daemon).len(), sent);
    assert_eq!((&after["ms_per_record"], &after["rule"]), (&before["ms_per_record"], &"learned".into()));
    ids.extend(daemon.enqueue_many(60));
    drain(&daemon);
    let all = sends(&daemon);
    assert!(rules(&all[sent..]).iter().all(is_known), "{}", trace(&daemon));

    // The notes of an earlier run are kept after a crash, too.
    ids.extend(daemon.enqueue_many(120));
    daemon.wait_until("a batch to be in flight, or the end of the run", |status| {
        status["sync"]["batch"].is_object() || status["records"]["synced"] == 380
    });
    let daemon = daemon.kill9().start();
    known_times(&daemon);
    drain(&daemon);
    let all = sends(&daemon);
    assert!(rules(&all[sent..]).iter().all(is_known), "{}", trace(&daemon));
    assert_eq!(daemon.counts(), Counts::all_synced(380));
    assert_applied_once(&gateway, &ids);
}

#[test]
fn a_server_hint_is_never_exceeded() {
    let server = ScriptedServer::start(|request| Reply::correct(request).with("x-sync-max-records", "7"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.paused(|daemon| daemon.enqueue_many(130));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(130));
    assert_eq!(server.sizes(), [vec![25], vec![7; 15]].concat());

    // A server hint ends with the process: the server repeats it if it still applies.
    let daemon = daemon.restart();
    daemon.paused(|daemon| daemon.enqueue_many(28));
    daemon.wait_until_done();
    let sizes = &server.sizes()[16..];
    assert!(sizes[0] > 7 && sizes[1..].iter().all(|size| *size <= 7), "{}", trace(&daemon));
}

#[test]
fn learned_sizes_never_exceed_a_server_hint() {
    let server = ScriptedServer::start(|request| Reply::correct(request).with("x-sync-max-records", "7"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("batch.learn", "true"));
    daemon.paused(|daemon| daemon.enqueue_many(130));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(130));
    // A server as fast as this one could take all of them in one batch.
    let sizes = server.sizes();
    assert!(sizes[0] == 25 && sizes[1..].iter().all(|size| *size <= 7), "{sizes:?}");
}

#[test]
fn an_outage_of_504s_opens_the_breaker_and_its_state_survives_a_restart() {
    // Outcome queries included.
    let server = ScriptedServer::start(|_| Reply::html(504));
    let settings =
        Settings::for_server(&server.url()).with("breaker.open_min", "10m").with("breaker.open_max", "20m");
    let daemon = Daemon::start(&settings);
    daemon.enqueue_many(120);
    let is_open = |status: &Value| status["breaker"]["mode"] == "open";
    let status = daemon.wait_until("the breaker to open", is_open);
    assert_eq!(status["breaker"]["consecutive_failures"], 5);
    let retry_at = |status: &Value| status["breaker"]["retry_at"].as_str().unwrap().to_owned();
    // Times in this format sort as text.
    assert!(retry_at(&status).as_str() > status["sync"]["last_error"]["at"].as_str().unwrap(), "{status:#}");
    let requests = server.requests().len();

    let daemon = daemon.restart();
    let status = daemon.wait_for_phase("waiting");
    assert_eq!(
        (&status["breaker"]["mode"], &status["breaker"]["consecutive_failures"]),
        (&"open".into(), &5.into())
    );
    assert!(retry_at(&status).as_str() > status["started_at"].as_str().unwrap(), "{status:#}");
    // A new record does not cause an attempt either.
    daemon.enqueue_many(5);
    let status = daemon.wait_until("the new records to wait", |status| status["records"]["pending"] != 0);
    assert!(is_open(&status), "{status:#}");
    assert_eq!(server.requests().len(), requests);
    assert_eq!(daemon.counts().quarantined, 0);

    server.set_script(Reply::correct);
    daemon.post("/v1/sync", "").expect_json(202);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(125));
    assert_eq!(daemon.status()["breaker"]["consecutive_failures"], 0);
}

#[test]
fn a_shorter_limit_of_the_gateway_is_learned() {
    let directory = directory();
    // Each timeout halves the size: 24, 12 and 6 records are too many. Two of these three would be enough.
    let gateway = Gateway::start(directory.path(), &["--time-limit", "1200ms", "--record-cost", "210ms"]);
    let settings = Settings::for_server(&gateway.url())
        .batches_of(24)
        .with("server.request_timeout", "20s")
        .with("batch.learn", "true");
    let daemon = Daemon::start(&settings);
    let ids = daemon.paused(|daemon| daemon.enqueue_many(45));
    let limit = |status: &Value| status["batching"]["time_limit_ms"].as_u64().unwrap();
    let status = daemon.wait_until("the limit to be learned", |status| (1..20_000).contains(&limit(status)));
    // A busy machine reads responses late.
    assert!((1200..2400).contains(&limit(&status)), "{status:#}");
    let daemon = daemon.restart();
    let status = daemon.wait_until("the limit of the next run", |status| limit(status) > 0);
    assert!(limit(&status) < 20_000, "it is not forgotten");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(45));
    assert_applied_once(&gateway, &ids);
}
