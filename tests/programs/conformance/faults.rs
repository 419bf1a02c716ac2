//! Each fault of a server is named by the points that it concerns, and by no others.

use std::iter;
use std::sync::Mutex;
use std::thread;

use super::gateways::judge_slow_server;
use super::kit::{KitReport, judge};
use crate::support::faulty_server::{FaultyServer, ServerFault};

/// Faults, and the points that fail because of them. The one that takes longest comes first.
const FAULTS: [(ServerFault, &[&str]); 22] = [
    (ServerFault::HangsOnLargeBody, &["large.body"]),
    (ServerFault::AppliesTwiceConcurrently, &["records.concurrent"]),
    (ServerFault::ForgetsAfterReplay, &["batches.kept"]),
    (ServerFault::ReplaysOtherResults, &["batches.same-results", "lookup.completed"]),
    (ServerFault::IgnoresOtherBody, &["batches.id-reused"]),
    (ServerFault::IgnoresConflicts, &["records.id-conflict", "records.other-device"]),
    (ServerFault::OvertakesRejected, &["order.held"]),
    (ServerFault::StopsOnHangUp, &["hang-up.finished", "hang-up.at-once"]),
    (ServerFault::PlainNotFound, &["lookup.unknown"]),
    (ServerFault::TakesTruncatedBody, &["hang-up.in-body", "hang-up.in-chunks", "hostile.truncated-json"]),
    (ServerFault::HtmlErrors, &["responses.errors"]),
    (ServerFault::DecodesWithoutLimit, &["hostile.decompression-bomb"]),
    (ServerFault::IgnoresHeaderMismatch, &["hostile.other-batch-id", "hostile.other-device-id"]),
    (ServerFault::SharesBatchIds, &["batches.per-device", "lookup.other-device"]),
    (ServerFault::OmitsRetryAfter, &["batches.processing"]),
    (ServerFault::UnknownEncodingIs400, &["hostile.unknown-encoding"]),
    (ServerFault::ComparesIdsOnly, &["batches.id-reused"]),
    (ServerFault::MalformedRetryAfter, &["batches.processing"]),
    (ServerFault::HoldsOneRecord, &["order.held"]),
    (ServerFault::SendsInterim, &["responses.interim"]),
    (ServerFault::KeepsRefusedId, &["batches.after-415"]),
    (ServerFault::StopsAtBomb, &["hostile.decompression-bomb"]),
];
/// How many servers are judged at a time.
const PARALLEL_RUNS: usize = 3;
/// How often a server is judged until the points fail that should: a busy machine may miss the moment that shows a fault.
const RUNS_MAX: usize = 3;

#[test]
fn a_correct_server_passes_and_only_what_it_lacks_is_skipped() {
    let server = FaultyServer::start(&[]);
    let report = judge_slow_server(&server.url());
    assert_eq!((report.ok + report.skipped, report.failed), (report.points.len(), 0));
    assert_eq!(report.ids("skipped"), ["token.batch", "token.lookup", "restart.replay", "restart.records"]);
}

#[test]
fn a_server_that_takes_small_batches_passes() {
    for choice in [ServerFault::TakesFewRecords, ServerFault::TakesFewBytes] {
        let server = FaultyServer::start(&[choice]);
        let (report, all_hold) = judge(&server.url(), &[]);
        assert!(all_hold, "{choice:?}: {report:#?}");
        assert!(!report.ids("skipped").contains(&"order.held"), "{report:#?}");
    }
}

/// Judges a new server with this fault.
fn judge_fault(fault: ServerFault) -> (KitReport, bool) {
    let server = FaultyServer::start(&[fault]);
    // Only this fault is found by waiting for the time limit.
    let time_limit = if fault == ServerFault::HangsOnLargeBody { "45s" } else { "60s" };
    judge(&server.url(), &["--time-limit", time_limit])
}

/// Whether points are missing that should fail, and no others failed.
fn lacks_points(failed: &[&str], expected: &[&str]) -> bool {
    failed.len() < expected.len() && failed.iter().all(|id| expected.contains(id))
}

/// The points that fail with this fault, in one line for each difference to those that should.
fn compare(fault: ServerFault, expected: &[&str]) -> Option<String> {
    let (mut report, mut all_hold) = judge_fault(fault);
    for _ in 1..RUNS_MAX {
        if !lacks_points(&report.ids("failed"), expected) {
            break;
        }
        (report, all_hold) = judge_fault(fault);
    }
    let failed = report.ids("failed");
    let explains = |id: &&str| {
        let point = report.points.iter().find(|point| point.id == *id).unwrap();
        point.expected.is_some() && point.found.is_some() && point.reason.is_none()
    };
    let holds = failed == expected && !all_hold && failed.iter().all(explains);
    let points = report.points.iter().filter(|point| point.state == "failed");
    (!holds)
        .then(|| format!("{fault:?}: {expected:?} should fail, and not {:#?}", points.collect::<Vec<_>>()))
}

#[test]
fn each_fault_is_named_by_the_points_that_it_concerns() {
    let faults = Mutex::new(FAULTS.iter());
    let compare_next = || -> Vec<String> {
        let next = || faults.lock().unwrap().next();
        iter::from_fn(next).filter_map(|(fault, expected)| compare(*fault, expected)).collect()
    };
    let differences: Vec<String> = thread::scope(|scope| {
        let runs = [(); PARALLEL_RUNS].map(|()| scope.spawn(compare_next));
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
