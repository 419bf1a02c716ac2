//! The four questions about a fleet, and their answers, which survive a restart.

use fieldsync::clock::{rfc3339, wall_ms};
use serde_json::{Value, json};

use crate::ipc::keys;
use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// The start of the name of a day in the store.
const DAY_NOTE: &[u8] = b"telemetry/day/";

const SIZE_KEYS: [&str; 12] = [
    "batches",
    "expected",
    "expected_ms",
    "mean_ms",
    "other_failures",
    "records",
    "records_per_s",
    "refused",
    "size",
    "succeeded",
    "success_rate",
    "timeouts",
];
const TYPE_KEYS: [&str; 10] = [
    "delay_ms",
    "delay_share",
    "failed_ms",
    "failures",
    "is_separated",
    "ms_per_record",
    "per_record",
    "quarantined",
    "records",
    "type",
];
const FAILURE_KEYS: [&str; 11] = [
    "by_hour",
    "bytes_per_s",
    "class",
    "connect_ms",
    "count",
    "interface",
    "interfaces",
    "link_age_s",
    "metered",
    "round_trip_ms",
    "signal_dbm",
];
const DAY_KEYS: [&str; 11] = [
    "batches",
    "day",
    "other_failures",
    "per_record",
    "quarantined",
    "records",
    "records_per_s",
    "refused",
    "succeeded",
    "success_rate",
    "timeouts",
];

fn of_types(types: &[&str]) -> Vec<Value> {
    types.iter().map(|name| json!({"type": name, "payload": {"text": "x".repeat(100)}})).collect()
}

/// One 504, some slow record types, one rejected type, and fast ones.
fn eventful() -> Daemon {
    let server = ScriptedServer::at_first(1, |_| Reply::html(504));
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("telemetry.window", "3h"));
    daemon.enqueue(&of_types(&["Orders"]));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    server.set_script(|request| {
        let rejected = json!({"status": "rejected", "code": "C", "message": "M"});
        Reply::results(request.batch_id(), &request.ids(), |_| Some(rejected.clone()))
            .with("connection", "close")
            .dripping()
    });
    daemon.enqueue(&of_types(&["Photos"]));
    assert_eq!(daemon.wait_until_done(), Counts::settled(1, 1));
    server.set_script(Reply::correct);
    daemon.paused(|daemon| daemon.enqueue(&of_types(&["Visits"; 12])));
    assert_eq!(daemon.wait_until_done(), Counts::settled(13, 1));
    daemon
}

#[test]
fn each_question_has_its_answer_before_and_after_a_restart() {
    let daemon = eventful();
    let report = daemon.get("/v1/telemetry").expect_json(200);
    assert_eq!(report["window_s"], 3 * 3600);

    // How long does a record take?
    let each = |name: &str| report["per_record"][name].as_f64().unwrap();
    assert!(each("records") >= 13.0 && each("mean_ms") > 0.0, "{report:#}");
    assert!(each("p50_ms") < each("p95_ms"), "the slow ones are few: {report:#}");

    // Which batch sizes succeed?
    let sizes = report["by_batch_size"].as_array().unwrap();
    for size in sizes {
        assert_eq!(keys(size), SIZE_KEYS);
    }
    let rates: Vec<Option<f64>> = sizes.iter().map(|size| size["success_rate"].as_f64()).collect();
    assert!(rates[0].is_some_and(|rate| rate < 1.0), "a batch of one met the 504: {report:#}");
    assert_eq!((rates[3], rates[6]), (Some(1.0), None), "12 at once got through, more than 100 never went");

    // Which types cause delays?
    let types = report["by_type"].as_array().unwrap();
    for of_type in types {
        assert_eq!(keys(of_type), TYPE_KEYS);
    }
    let of = |name: &str| types.iter().find(|of_type| of_type["type"] == name).unwrap();
    assert_eq!((&of("Visits")["records"], &of("Visits")["failures"]), (&json!(12), &json!(0)));
    assert_eq!((&of("Orders")["failures"], &of("Photos")["quarantined"]), (&json!(1), &json!(1)));
    let slowness: Vec<f64> = types.iter().map(|of_type| of_type["ms_per_record"].as_f64().unwrap()).collect();
    assert!(slowness.is_sorted_by(|slower, quicker| slower >= quicker), "the slowest first: {slowness:?}");

    // What is the network like at failures?
    let failures = report["failures"].as_array().unwrap();
    let timeout = failures.iter().find(|failure| failure["class"] == "timeout").unwrap();
    assert_eq!(keys(timeout), FAILURE_KEYS);
    assert_eq!((&timeout["count"], &timeout["interface"]), (&json!(1), &json!("loopback")));
    for measured in ["connect_ms", "round_trip_ms", "bytes_per_s"] {
        assert!(timeout[measured].as_f64().is_some_and(|value| value > 0.0), "{measured}: {timeout:#}");
    }
    assert_eq!(timeout["signal_dbm"], Value::Null, "no radio is between");

    // And day by day.
    let today = &report["days"][0];
    assert_eq!(keys(today), DAY_KEYS);
    let day = today["day"].as_str().unwrap();
    assert!(rfc3339(wall_ms()).get(..10) >= Some(day) && day.len() == 10, "{day}");
    assert!(today["batches"].as_u64() > today["succeeded"].as_u64(), "{today:#}");
    assert_eq!((&today["quarantined"], keys(&today["per_record"]).len()), (&json!(1), 4));

    let without_time = |mut report: Value| {
        report.as_object_mut().and_then(|report| report.remove("to"));
        report
    };
    let after_restart = daemon.restart().get("/v1/telemetry").expect_json(200);
    assert_eq!(without_time(after_restart), without_time(report));
}

#[test]
fn measurements_of_a_run_are_on_disk_soon_after_it_without_an_orderly_end() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue(&of_types(&["Visits"; 12]));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(12));
    let store = daemon.home.path("state/queue.redb");
    wait_for("the measurements in the store", || {
        let bytes = std::fs::read(&store).unwrap();
        bytes.windows(DAY_NOTE.len()).any(|part| part == DAY_NOTE).then_some(())
    });
    let daemon = daemon.kill9().start();
    let report = daemon.get("/v1/telemetry").expect_json(200);
    assert_eq!(report["per_record"]["records"], 12, "{report:#}");
}
