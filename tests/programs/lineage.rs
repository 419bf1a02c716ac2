//! Users can see why a batch had its size, and from which batches a record's batch descends, even after a restart.

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::gateway::Gateway;
use crate::support::server::{Gate, Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::directory;

fn cli_json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let ran = daemon.cli(arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

/// From the first batch of the record to the one that contained only this record.
#[track_caller]
fn assert_linked(lineage: &[Value]) {
    assert!(lineage.len() >= 3, "{lineage:#?}");
    let [fresh, .., last] = lineage else { unreachable!() };
    assert_eq!(fresh["parent"], Value::Null, "{lineage:#?}");
    assert!(fresh["records"].as_u64().unwrap() > 1, "{lineage:#?}");
    assert_eq!((&last["records"], &last["rule"]), (&json!(1), &json!("split")));
    for (at, send) in lineage.iter().enumerate().skip(1) {
        let earlier = &lineage[..at];
        let again = earlier.iter().any(|other| other["id"] == send["id"]);
        let parent = earlier.iter().find(|other| other["id"] == send["parent"]);
        assert!(again || parent.is_some(), "{send:#} has no parent in {lineage:#?}");
        assert!(parent.is_none_or(|parent| parent["records"].as_u64() >= send["records"].as_u64()));
    }
}

#[test]
fn a_poisonous_record_shows_how_it_was_found_and_batches_show_why_they_had_their_size() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--hang-on", "poison", "--time-limit", "150ms"]);
    let settings = Settings::for_server(&gateway.url())
        .with("server.request_timeout", "400ms")
        .with("batch.learn", "true");
    let daemon = Daemon::start(&settings);
    let records = |count: usize, poison: Option<usize>| -> Vec<Value> {
        let text = |n| if Some(n) == poison { "poison" } else { "fine" };
        (0..count).map(|n| json!({"type": "Visits", "payload": {"text": text(n)}})).collect()
    };
    for answered in 1..=3 {
        daemon.enqueue(&records(20, None));
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(20 * answered));
    }
    let ids = daemon.paused(|daemon| daemon.enqueue(&records(30, Some(13))));
    assert_eq!(daemon.wait_until_done(), Counts::settled(89, 1));
    daemon.wait_for_phase("idle");
    let id = &ids[13];
    let shown = cli_json(&daemon, &["show", "--json", id]);
    assert_eq!((&shown["id"], &shown["state"]), (&json!(id), &json!("QUARANTINED")));
    let lineage = shown["lineage"].as_array().unwrap();
    assert_linked(lineage);
    let last = lineage.last().unwrap();
    assert_eq!(last["id"], shown["batch_id"]);

    let batches = cli_json(&daemon, &["batches", "--json", "--limit", "100"]);
    let sends = batches["batches"].as_array().unwrap();
    assert!(lineage.iter().all(|send| sends.contains(send)), "{sends:#?}");
    let fresh = &lineage[0];
    for send in sends.iter().filter(|send| ["learned", "split"].contains(&send["rule"].as_str().unwrap())) {
        let [expected, most] = ["expected_ms", "at_most_ms"].map(|name| send[name].as_u64().unwrap());
        assert!(expected <= most, "{send:#}");
    }
    assert!(fresh["expected_ms"].is_u64() && fresh["time_limit_ms"].is_u64(), "{fresh:#}");

    let short = |send: &Value| send["id"].as_str().unwrap()[..8].to_owned();
    let reported = daemon.cli(&["show", id]).stdout;
    for send in lineage {
        assert!(reported.contains(&format!("batch {}, ", short(send))), "{reported}");
    }
    assert!(reported.contains("timed out after ") && reported.contains(" ms expected, "), "{reported}");
    let table = daemon.cli(&["batches", "--limit", "100"]).stdout;
    let split = format!("split of {}", short(fresh));
    assert!(table.contains(&split), "{table}");
    assert!(daemon.log().contains(&format!("; {split}): ")), "{}", daemon.log());
    let status = daemon.cli(&["status", "--verbose"]).stdout;
    let next = status.lines().find(|line| line.starts_with("Next batch")).unwrap();
    assert!(next.contains(" expected, ") && next.contains(" at most; the server's limit is "), "{next}");

    let daemon = daemon.restart();
    assert_eq!(cli_json(&daemon, &["show", "--json", id])["lineage"], shown["lineage"]);
    assert_eq!(cli_json(&daemon, &["batches", "--json", "--limit", "100"]), batches);
    assert_eq!(daemon.cli(&["show", id]).code, Some(0));
}

#[test]
fn a_waiting_part_names_its_parent_batch_after_a_restart() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = ScriptedServer::start(move |request| match request.is_batch() {
        true if request.records().len() == 30 => Reply::html(504),
        true => Reply::applied(request).held_by(&held),
        false => Reply::unknown_batch(),
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.request_timeout", "30s"));
    let ids = daemon.enqueue_many(30);
    let part =
        |status: &Value| status["sync"]["batch"]["records"].as_u64().is_some_and(|records| records < 30);
    let status = daemon.wait_until("a part to be sent", part);
    let in_flight = &status["sync"]["batch"]["id"];
    let (sent, waits): (Vec<_>, Vec<_>) = ids
        .iter()
        .map(|id| daemon.record_with_lineage(id))
        .partition(|record| record["batch_id"] == *in_flight);
    for (record, reported) in [(&sent[0], "on its way"), (&waits[0], "not sent yet")] {
        let lineage = record["lineage"].as_array().unwrap();
        assert!(!lineage.is_empty() && lineage.iter().all(|send| send["records"] == 30), "{record:#}");
        let shown = daemon.cli(&["show", record["id"].as_str().unwrap()]).stdout;
        let last = format!("  batch {}: {reported}\n", &record["batch_id"].as_str().unwrap()[..8]);
        assert!(shown.ends_with(&last), "{shown}");
    }
    daemon.post("/v1/pause", "").expect_json(200);
    gate.open();
    daemon.wait_until("the part to be settled", |status| status["sync"]["batch"] == Value::Null);
    let daemon = daemon.restart();
    for (before, sends) in [(&sent[0], 1), (&waits[0], 0)] {
        let record = daemon.record_with_lineage(before["id"].as_str().unwrap());
        let (old, new) = (before["lineage"].as_array().unwrap(), record["lineage"].as_array().unwrap());
        assert_eq!((&new[..old.len()], new.len() - old.len()), (&old[..], sends), "{record:#}");
    }
}
