//! The gateway passes, with every kind of ledger.

use std::fs;
use std::sync::{Arc, Mutex};
use std::thread;

use super::kit::{KitReport, judge, make_pipe};
use crate::support::gateway::{Gateway, command};
use crate::support::ports::free_address;
use crate::support::wait::{directory, wait_for};

/// The points that a gateway may be too fast for.
const ABOUT_PROCESSING: [&str; 3] = ["batches.processing", "lookup.processing", "hang-up.finished"];
/// Without a destination, a gateway has no receipts.
const ABOUT_DESTINATIONS: &str = "responses.optional-fields";
/// How often the kit restarts the server.
const RESTARTS: usize = 2;

/// Every point holds for a gateway on this ledger, which is killed and started again when the kit asks for it.
pub(crate) fn require_conformance(store: &str) {
    let directory = directory();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("token"), "s3cret-token\n").unwrap();
    for pipe in ["ask", "done"] {
        make_pipe(path(pipe).as_ref());
    }
    let token = path("token");
    let gateway = Gateway::start_by(command(store, &free_address().to_string(), &["--token-file", &token]));
    let (url, listen) = (gateway.url(), gateway.address.to_string());
    let running = Arc::new(Mutex::new(Some(gateway)));
    let (shared, ask, done) = (Arc::clone(&running), path("ask"), path("done"));
    let (ledger, token_file) = (store.to_owned(), token.clone());
    thread::spawn(move || {
        for _ in 0..RESTARTS {
            fs::read(&ask).unwrap();
            let mut gateway = shared.lock().unwrap();
            gateway.take().unwrap().kill();
            *gateway = Some(Gateway::start_by(command(&ledger, &listen, &["--token-file", &token_file])));
            drop(gateway);
            fs::write(&done, "").unwrap();
        }
    });
    let restart = format!("echo restart > '{}' && cat '{}'", path("ask"), path("done"));
    let (report, all_hold) = judge(&url, &["--token-file", &token, "--restart-command", &restart]);
    drop(running.lock().unwrap().take());
    assert_conformance(&report, all_hold, &[]);
}

/// Every point holds for the server at this URL, except for those about tokens and restarts.
pub(crate) fn require_conformance_at(url: &str) {
    let (report, all_hold) = judge(url, &[]);
    assert_conformance(&report, all_hold, &WITHOUT_OPTIONS);
}

/// What a run without options cannot judge.
const WITHOUT_OPTIONS: [&str; 4] = ["token.batch", "token.lookup", "restart.replay", "restart.records"];

/// The report about a server that is slow enough for [`ABOUT_PROCESSING`]. A busy machine may miss the moments in which a
/// batch is being processed, so that these points are judged by one of several runs.
#[track_caller]
pub(super) fn judge_slow_server(url: &str) -> KitReport {
    wait_for("the points about processing to be judged", || {
        let (report, all_hold) = judge(url, &[]);
        assert!(all_hold, "{report:#?}");
        let is_judged = !report.ids("skipped").iter().any(|id| ABOUT_PROCESSING.contains(id));
        is_judged.then_some(report)
    })
}

#[track_caller]
fn assert_conformance(report: &KitReport, all_hold: bool, not_judged: &[&str]) {
    assert!(all_hold, "{report:#?}");
    let may_be_skipped =
        |id: &&str| not_judged.contains(id) || ABOUT_PROCESSING.contains(id) || *id == ABOUT_DESTINATIONS;
    let skipped = report.ids("skipped");
    assert!(skipped.iter().all(may_be_skipped), "{skipped:?}");
    assert!(report.ok > 40, "{report:#?}");
}

#[test]
fn every_point_holds_for_a_gateway() {
    let directory = directory();
    require_conformance(directory.path().join("ledger.redb").to_str().unwrap());
}

#[test]
fn a_gateway_behind_a_proxy_that_loses_responses_passes() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--fail-rate", "0.4"]);
    let (report, all_hold) = judge(&gateway.url(), &[]);
    assert!(all_hold && report.ok > 40, "{report:#?}");
}

#[test]
fn the_points_about_processing_are_judged_at_a_slow_gateway() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--record-cost", "1ms"]);
    judge_slow_server(&gateway.url());
}
