//! Unclear outcomes are resolved step by step, and an outage blames no record.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::gateway::Gateway;
use crate::support::server::{Gate, Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

fn no_look_up(request: &Request, batch: impl FnOnce(&Request) -> Reply) -> Reply {
    if request.is_batch() { batch(request) } else { Reply::text(404, "text/plain", "Not Found\n") }
}

#[test]
fn after_a_504_records_are_failed_at_once_and_the_outcome_query_settles_them() {
    let server = ScriptedServer::start(Reply::correct);
    let gate = Gate::default();
    let (held, mut ids) = (gate.clone(), Vec::new());
    server.set_script(move |request| {
        if request.is_batch() {
            ids = request.ids();
            return Reply::html(504);
        }
        let applied = Reply::results(request.batch_id(), &ids, |_| Some(json!({"status": "applied"})));
        applied.held_by(&held)
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.request_timeout", "1m"));
    let ids = daemon.enqueue_many(3);
    daemon.wait_until("the failure to be noted", |status| status["records"]["failed"] == 3);
    let batch = server.batches()[0].batch_id().to_owned();
    for id in &ids {
        let entry = daemon.record(id);
        assert_eq!((&entry["state"], &entry["attempts"]), (&json!("FAILED"), &json!(1)));
        assert_eq!(entry["batch_id"], batch);
        let error = &entry["last_error"];
        assert_eq!((&error["class"], &error["http_status"]), (&json!("timeout"), &json!(504)));
        assert!(error["at"].as_str().unwrap().ends_with('Z'));
    }
    wait_for("the outcome query", || (server.count_outcome_queries(&batch) == 1).then_some(()));
    // Records outside of the batch are not affected by its failure.
    let other = daemon.enqueue_many(1).remove(0);
    let entry = daemon.record(&other);
    assert_eq!((&entry["state"], &entry["attempts"]), (&json!("PENDING"), &json!(0)));
    server.set_script(Reply::correct);
    gate.open();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(4));
    let entry = daemon.record(&ids[0]);
    assert_eq!((&entry["state"], &entry["attempts"]), (&json!("SYNCED"), &json!(1)));
    assert_eq!(entry["last_error"], Value::Null);
    assert_eq!(server.sizes(), [3, 1]);
    assert_eq!(server.count_outcome_queries(&batch), 1);
}

#[test]
fn an_outcome_query_is_repeated_while_the_batch_is_being_processed() {
    let server = ScriptedServer::start(Reply::correct);
    let (mut ids, mut asked) = (Vec::new(), 0);
    server.set_script(move |request| {
        if request.is_batch() {
            ids = request.ids();
            return Reply::html(504);
        }
        asked += 1;
        if asked < 3 {
            return Reply::json(202, &json!({"batch_id": request.batch_id(), "state": "processing"}));
        }
        Reply::results(request.batch_id(), &ids, |_| Some(json!({"status": "applied"})))
    });
    let settings = Settings::for_server(&server.url()).with("server.request_timeout", "10s");
    let daemon = Daemon::start(&settings);
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    assert_eq!(server.sizes(), [3]);
    assert_eq!(server.count_outcome_queries(server.batches()[0].batch_id()), 3);
}

#[test]
fn a_poisonous_record_at_the_head_is_found_and_all_others_are_synced() {
    find_poison_among_60(0);
}

#[test]
fn a_poisonous_record_in_the_middle_is_found_and_all_others_are_synced() {
    find_poison_among_60(24);
}

#[test]
fn a_poisonous_record_at_the_very_end_is_found_without_records_around_it() {
    find_poison_among_60(59);
}

fn find_poison_among_60(position: usize) {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--hang-on", "poison", "--time-limit", "150ms"]);
    let settings = Settings::for_server(&gateway.url()).with("server.request_timeout", "400ms");
    let daemon = Daemon::start(&settings);
    let records: Vec<Value> = (0..60)
        .map(
            |n| json!({"type": "Visits", "payload": {"text": if n == position { "poison" } else { "fine" }}}),
        )
        .collect();
    let ids = daemon.enqueue(&records);
    assert_eq!(daemon.wait_until_done(), Counts::settled(59, 1));
    assert_eq!(daemon.in_state("QUARANTINED"), HashSet::from([ids[position].clone()]));
    let entry = daemon.record(&ids[position]);
    assert_eq!(entry["last_error"]["code"], "FAILED_ALONE");
    assert!(entry["attempts"].as_u64().unwrap() >= 3, "{entry}");
    let mut applied: Vec<String> = gateway.applied_ids().iter().map(ToString::to_string).collect();
    applied.sort();
    let mut expected = ids.clone();
    expected.remove(position);
    expected.sort();
    assert_eq!(applied, expected);
    let duplicates = "fieldsync_gateway_records_total{result=\"duplicate\"}";
    assert!(gateway.metric(duplicates) <= 3, "controls alone are sent to a server that has them");
    let status = daemon.status();
    assert_eq!(status["sync"]["needs_review"], 1);
    assert_eq!(status["sync"]["text"], "59 of 60 records synced (1 needs review)");
}

#[test]
fn three_failures_in_a_row_lead_to_micro_batches_and_two_more_to_a_pause() {
    let server = ScriptedServer::start(|request| no_look_up(request, |_| Reply::html(504)));
    let settings =
        Settings::for_server(&server.url()).with("breaker.open_min", "10m").with("breaker.open_max", "20m");
    let daemon = Daemon::start(&settings);
    daemon.enqueue_many(300);
    let status = daemon.wait_until("the breaker to open", |status| status["breaker"]["mode"] == "open");
    assert_eq!(status["breaker"]["consecutive_failures"], 5);
    assert!(status["breaker"]["retry_at"].is_string());
    // New records are sent first: they show whether the server or a record is the cause.
    assert_eq!(server.sizes(), [25, 25, 25, 10, 10]);
    let rules = wait_for("the last batch to be reported", || {
        let reports = daemon.get("/v1/batches").expect_json(200);
        let batches = reports["batches"].as_array().unwrap().iter();
        let rules: Vec<String> = batches.map(|batch| batch["rule"].as_str().unwrap().to_owned()).collect();
        (rules.len() == 5).then_some(rules)
    });
    assert_eq!(rules, ["micro", "micro", "large_queue", "large_queue", "large_queue"]);
    assert_eq!(daemon.wait_for_phase("waiting")["batching"]["size"], 10);
    assert_eq!(status["records"]["quarantined"], 0);

    // `sync` ends the pause: one probe, not larger than a micro-batch.
    server.set_script(|request| no_look_up(request, Reply::applied));
    assert_eq!(daemon.cli(&["sync", "--wait"]).code, Some(0));
    assert_eq!(daemon.counts(), Counts::all_synced(300));
    assert!(server.sizes()[5] <= 10, "{:?}", server.sizes());
    assert_eq!(daemon.status()["breaker"]["mode"], "normal");
}

#[test]
fn no_batch_is_larger_than_a_micro_batch_while_the_server_struggles() {
    let server = ScriptedServer::start(|request| no_look_up(request, |_| Reply::html(504)));
    let settings = Settings::for_server(&server.url())
        .with("breaker.open_after", "20")
        .with("breaker.open_min", "10m")
        .with("breaker.open_max", "20m");
    let daemon = Daemon::start(&settings);
    daemon.enqueue_many(110);
    daemon.wait_until("the breaker to open", |status| status["breaker"]["mode"] == "open");
    let sizes = server.sizes();
    assert!(sizes[3..].iter().all(|size| *size <= 10), "{sizes:?}");
}

#[test]
fn one_small_batch_probes_the_server_after_a_pause() {
    let server = ScriptedServer::start(|request| no_look_up(request, |_| Reply::html(504)));
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("breaker.close_after", "1000"));
    daemon.enqueue_many(60);
    let is = |mode: &'static str| move |status: &Value| status["breaker"]["mode"] == mode;
    daemon.wait_until("the breaker to open", is("open"));
    let gate = Gate::default();
    let held = gate.clone();
    server.set_script(move |request| no_look_up(request, Reply::applied).held_by(&held));
    let status =
        daemon.wait_until("a try", |status| is("probing")(status) && status["sync"]["batch"].is_object());
    assert!(status["sync"]["batch"]["records"].as_u64() <= Some(10), "{status:#}");
    let tried = server.sizes().len();
    gate.open();
    // Its success counts as one of those needed for the normal size.
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(60));
    assert_eq!(daemon.status()["breaker"]["mode"], "micro");
    assert!(server.sizes()[tried..].iter().all(|size| *size <= 10), "{:?}", server.sizes());
}

/// All records are synced after the outage, and none was quarantined.
fn sync_after_outage(
    server: &ScriptedServer,
    settings: &Settings,
    records: usize,
    requests: usize,
) -> Daemon {
    let daemon = Daemon::start(settings);
    daemon.enqueue_many(records);
    server.wait_for_batches(requests);
    assert_eq!(daemon.counts().quarantined, 0);
    server.set_script(|request| no_look_up(request, Reply::applied));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(records as u64));
    daemon
}

#[test]
fn an_outage_of_504s_without_outcome_queries_quarantines_nothing_and_everything_syncs_afterwards() {
    let server = ScriptedServer::start(|request| no_look_up(request, |_| Reply::html(504)));
    sync_after_outage(&server, &Settings::for_server(&server.url()), 60, 25);
}

#[test]
fn an_outage_of_504s_after_a_success_quarantines_nothing_either() {
    let server = ScriptedServer::start(|request| no_look_up(request, Reply::applied));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(5);
    daemon.wait_until_done();
    server.set_script(|request| no_look_up(request, |_| Reply::html(504)));
    daemon.enqueue_many(3);
    // By now each record is sent alone, repeatedly.
    server.wait_for_batches(20);
    assert_eq!(daemon.counts().quarantined, 0);
    server.set_script(|request| no_look_up(request, Reply::applied));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(8));
}

#[test]
fn an_outage_of_503s_counts_no_attempt_and_everything_syncs_afterwards() {
    let server = ScriptedServer::start(|_| Reply::error(503, "BUSY"));
    let daemon = sync_after_outage(&server, &Settings::for_server(&server.url()), 60, 6);
    assert_eq!(server.batches().iter().map(Request::batch_id).collect::<HashSet<_>>().len(), 2);
    for line in daemon.get("/v1/manifest").text().lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["attempts"], 1, "{entry}");
    }
}

#[test]
fn a_gateway_that_fails_at_random_gets_every_record_once() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--fail-rate", "0.3", "--no-lookup"]);
    // At this rate, three failures of a record alone are likely by chance; twelve are not.
    let settings = Settings::for_server(&gateway.url()).with("retry.quarantine_after", "12");
    let daemon = Daemon::start(&settings);
    let ids: HashSet<String> = daemon.enqueue_many(300).into_iter().collect();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(300));
    let applied: Vec<String> = gateway.applied_ids().iter().map(ToString::to_string).collect();
    assert_eq!(applied.len(), 300);
    assert_eq!(applied.into_iter().collect::<HashSet<_>>(), ids);
}
