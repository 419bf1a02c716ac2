//! The status, the reports and the journal say how many batches are under way, and why.

use serde_json::Value;

use super::{MOST, RECORD_TIME, batch_ids, busy_daemon, several_at_once, under_way, wait_for_several};
use crate::support::daemon::Counts;
use crate::support::wait::wait_for;
use crate::support::workers::ParallelServer;

#[test]
fn the_status_lists_the_batches_under_way_and_says_why_as_many_may_be() {
    let server = ParallelServer::start(RECORD_TIME);
    let (daemon, mut ids) = busy_daemon(&several_at_once(&server.server.url()));
    let status = wait_for_several(&daemon, &mut ids);
    let batching = &status["batching"];
    assert_eq!(batching["in_flight_limit"], MOST);
    assert!(batching["in_flight"].as_u64() >= Some(MOST as u64), "{batching}");
    assert!(batching["in_flight_rule"].is_string(), "{batching}");
    assert_eq!(status["sync"]["batch"], status["sync"]["batches"][0], "the oldest");
    let ids = batch_ids(&status);
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), MOST);

    let summary = format!("{MOST} of at most {MOST} batches under way (");
    let text = wait_for("the command to show several batches", || {
        let text = daemon.cli(&["status"]).stdout;
        text.contains(&summary).then_some(text)
    });
    let listed = text.lines().filter(|line| line.contains(" records, try 1")).count();
    assert_eq!(listed, MOST, "{text}");
}

#[test]
fn reports_and_journal_say_how_many_batches_were_under_way() {
    let server = ParallelServer::start(RECORD_TIME);
    let (daemon, ids) = busy_daemon(&several_at_once(&server.server.url()));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(ids.len() as u64));
    let status = daemon.wait_for_phase("idle");
    assert_eq!((under_way(&status), &status["sync"]["batch"]), (0, &Value::Null));
    assert_eq!(status["batching"]["in_flight"], 0);
    let list = daemon.get("/v1/batches?limit=500").expect_json(200);
    let reports = list["batches"].as_array().unwrap();
    let counts = || reports.iter().map(|report| report["in_flight"].as_u64().unwrap());
    assert_eq!((counts().min(), counts().max()), (Some(1), Some(MOST as u64)));
    assert!(reports.iter().all(|report| report["in_flight_rule"].is_string()));
    let crowded = reports.iter().find(|report| report["in_flight"] == MOST).unwrap();
    let text = daemon.cli(&["batches", crowded["id"].as_str().unwrap()]).stdout;
    assert!(text.contains(&format!("Under way     {MOST} batches at once (")), "{text}");
}
