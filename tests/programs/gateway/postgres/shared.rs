//! However many gateways share a ledger, a batch has one response and a record is applied once.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::Duration;

use fieldsync::protocol::wire::{BatchResponse, RecordStatus};
use hyper::Method;
use uuid::Uuid;

use crate::support::daemon::{Counts, Daemon};
use crate::support::device::{Batch, Record};
use crate::support::gateway::Gateway;
use crate::support::http::statuses;
use crate::support::postgres::Postgres;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

const APPLIED: &str = "fieldsync_gateway_records_total{result=\"applied\"}";
const FORWARDED: &str = "fieldsync_gateway_forwarded_total";

fn gateways<const N: usize>(postgres: &Postgres, arguments: &[&str]) -> [Gateway; N] {
    let store = postgres.create("sync");
    std::array::from_fn(|_| Gateway::start_on(&store, arguments))
}

fn batch_of(records: usize) -> Batch {
    Batch::with((0..records).map(|_| Record::new("{}")).collect())
}

/// The listing has each of these records once, in its order.
#[track_caller]
fn assert_applied_once(gateway: &Gateway, expected: &HashSet<Uuid>) {
    let ledger = gateway.ledger();
    let ids: HashSet<Uuid> =
        ledger.iter().map(|line| line["id"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(ledger.len(), ids.len(), "a record was applied twice");
    assert_eq!(&ids, expected);
    assert!(ledger.iter().map(|line| line["seq"].as_u64().unwrap()).is_sorted_by(|one, next| one < next));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_batch_in_flight_at_one_gateway_is_in_flight_for_the_others() {
    let postgres = Postgres::start();
    let [one, other] = gateways(&postgres, &["--record-cost", "2s"]);
    let batch = Batch::of(&["{}", "{}"]);
    thread::scope(|scope| {
        let sender = scope.spawn(|| one.post(&batch).batch());
        let looked_up = wait_for("the batch to be at work", || {
            Some(other.query_outcome(&batch)).filter(|response| response.status != 404)
        });
        assert_eq!(looked_up.expect_json(202)["state"], "processing");
        let resent = other.post(&batch);
        assert_eq!((resent.status, resent.code().as_str()), (409, "PROCESSING"));
        assert_eq!(resent.header("retry-after"), "1");
        assert_eq!(statuses(&sender.join().unwrap()), [RecordStatus::Applied; 2]);
    });
    for gateway in [&one, &other] {
        for response in [gateway.post(&batch), gateway.query_outcome(&batch)] {
            let response = response.batch();
            assert!(response.replayed);
            assert_eq!(statuses(&response), [RecordStatus::Applied; 2]);
        }
        let mut changed = batch.clone();
        changed.records.pop();
        assert_eq!(gateway.post(&changed).code(), "BATCH_ID_REUSED");
    }
    assert_applied_once(&other, &batch.ids().into_iter().collect());
}

#[test]
#[ignore = "needs PostgreSQL"]
fn the_same_batch_at_three_gateways_at_once_is_settled_once() {
    let postgres = Postgres::start();
    let gateways: [Gateway; 3] = gateways(&postgres, &[]);
    let mut expected = HashSet::new();
    for _ in 0..25 {
        let batch = batch_of(5);
        let responses: Vec<BatchResponse> = thread::scope(|scope| {
            let batch = &batch;
            let senders: Vec<_> = gateways
                .iter()
                .flat_map(|gateway| [gateway, gateway])
                .map(|gateway| scope.spawn(move || settled(gateway, batch)))
                .collect();
            senders.into_iter().map(|sender| sender.join().unwrap()).collect()
        });
        assert_eq!(responses.iter().filter(|response| !response.replayed).count(), 1);
        assert!(responses.iter().all(|response| statuses(response) == [RecordStatus::Applied; 5]));
        expected.extend(batch.ids());
    }
    assert_applied_once(&gateways[1], &expected);
}

/// The response, after as many attempts as it takes.
fn settled(gateway: &Gateway, batch: &Batch) -> BatchResponse {
    wait_for("the batch to be settled", || {
        let response = gateway.post(batch);
        (response.status != 409).then(|| response.batch())
    })
}

#[test]
#[ignore = "needs PostgreSQL"]
fn batches_at_three_gateways_that_share_records_apply_each_record_once() {
    const SENDERS: usize = 9;
    let postgres = Postgres::start();
    let gateways: [Gateway; 3] = gateways(&postgres, &[]);
    for round in 0..6 {
        let records: Vec<Record> = (0..40).map(|_| Record::new("{}")).collect();
        let responses: Vec<BatchResponse> = thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS)
                .map(|sender| {
                    let mut batch = Batch::with(records.clone());
                    batch.records.rotate_left(sender * 4);
                    if sender % 2 == 1 {
                        batch.records.reverse();
                    }
                    let gateway = &gateways[sender % gateways.len()];
                    scope.spawn(move || gateway.post(&batch).batch())
                })
                .collect();
            senders.into_iter().map(|sender| sender.join().unwrap()).collect()
        });
        let mut applied: HashMap<Uuid, usize> = HashMap::new();
        for result in responses.iter().flat_map(|response| &response.results) {
            *applied.entry(result.id.0).or_default() += usize::from(result.status == RecordStatus::Applied);
        }
        assert!(applied.values().all(|times| *times == 1), "{applied:?}");
        assert_eq!(gateways[0].ledger().len(), 40 * (round + 1));
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_batch_whose_gateway_crashes_is_free_once_its_claim_ends_and_nothing_of_it_is_applied() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    let dying = Gateway::start_on(&store, &["--record-cost", "5s"]);
    let other = Gateway::start_on(&store, &[]);
    let batch = batch_of(3);
    thread::scope(|scope| {
        let sender = scope.spawn(|| dying.try_post(&batch));
        wait_for("the batch to be at work", || (other.query_outcome(&batch).status == 202).then_some(()));
        dying.signal("KILL");
        assert!(sender.join().unwrap().is_none(), "a dead gateway answered");
    });
    wait_for("the batch to be free", || (other.query_outcome(&batch).status == 404).then_some(()));
    assert!(other.ledger().is_empty());
    let resent = other.post(&batch).batch();
    assert!(!resent.replayed);
    assert_eq!(statuses(&resent), [RecordStatus::Applied; 3]);
    assert_applied_once(&other, &batch.ids().into_iter().collect());
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_batch_of_a_gateway_that_hangs_is_free_once_its_claim_ends_and_is_applied_once() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    let hanging = Gateway::start_on(&store, &["--record-cost", "8s"]);
    let other = Gateway::start_on(&store, &[]);
    let batch = batch_of(1);
    thread::scope(|scope| {
        let sender = scope.spawn(|| hanging.try_post(&batch));
        wait_for("the batch to be at work", || (other.query_outcome(&batch).status == 202).then_some(()));
        hanging.signal("STOP");
        wait_for("the batch to be free", || (other.query_outcome(&batch).status == 404).then_some(()));
        assert!(!other.post(&batch).batch().replayed);
        hanging.signal("CONT");
        // Whatever it does now, it finds the response.
        assert!(sender.join().unwrap().is_none_or(|response| response.batch().replayed));
    });
    assert_applied_once(&other, &batch.ids().into_iter().collect());
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_claim_is_extended_while_its_batch_takes_longer_than_a_lease() {
    let postgres = Postgres::start();
    let [one, other] = gateways(&postgres, &["--record-cost", "13s"]);
    let batch = batch_of(1);
    thread::scope(|scope| {
        let sender = scope.spawn(|| one.post(&batch).batch());
        wait_for("the batch to be at work", || (other.query_outcome(&batch).status == 202).then_some(()));
        wait_for("the batch to be settled, and to be at work until then", || {
            let status = other.query_outcome(&batch).status;
            assert_ne!(status, 404);
            (status == 200).then_some(())
        });
        assert!(!sender.join().unwrap().replayed);
    });
    wait_for("the claim to be gone", || {
        (postgres.query("sync", "SELECT count(*) FROM fieldsync.claims") == "0").then_some(())
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn whenever_a_gateway_crashes_the_others_know_each_batch_completely_or_not_at_all() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    let survivor = Gateway::start_on(&store, &[]);
    let mut sent = Vec::new();
    for round in 1..=5 {
        let dying = Gateway::start_on(&store, &[]);
        let batches: Vec<(Batch, bool)> = thread::scope(|scope| {
            let senders: Vec<_> = (0..3).map(|_| scope.spawn(|| send_until_it_dies(&dying))).collect();
            wait_for("some batches to be applied", || (dying.metric(APPLIED) > 20 * round).then_some(()));
            // The moment of the crash differs in each round.
            thread::park_timeout(Duration::from_micros(900 * round));
            dying.signal("KILL");
            senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
        });
        sent.extend(batches);
    }
    let known: HashSet<Uuid> = survivor.applied_ids().into_iter().collect();
    for (batch, is_answered) in &sent {
        let there = batch.ids().iter().filter(|id| known.contains(id)).count();
        let looked_up = wait_for("the dead gateway's claims to be gone", || {
            Some(survivor.query_outcome(batch).status).filter(|status| *status != 202)
        });
        match looked_up {
            200 => assert_eq!(there, batch.records.len()),
            404 => assert_eq!((there, *is_answered), (0, false)),
            other => panic!("an outcome query got {other}"),
        }
    }
    let mut expected = HashSet::new();
    for (batch, _) in &sent {
        settled(&survivor, batch);
        expected.extend(batch.ids());
    }
    assert_applied_once(&survivor, &expected);
}

/// All batches that were sent, and whether they got a response.
fn send_until_it_dies(gateway: &Gateway) -> Vec<(Batch, bool)> {
    let mut sent = Vec::new();
    loop {
        let batch = batch_of(10);
        let response = gateway.try_post(&batch);
        let is_answered = response.map(|response| response.batch()).is_some();
        sent.push((batch, is_answered));
        if !is_answered {
            return sent;
        }
    }
}

/// A load balancer that forwards each request to the next gateway, and loses some of the responses.
fn balancer(gateways: [Gateway; 2], lost: impl Fn(usize) -> bool + Send + 'static) -> ScriptedServer {
    let mut requests = 0;
    ScriptedServer::start(move |request| {
        requests += 1;
        let response = passed_on(&gateways[requests % 2], request);
        match response {
            Some(response) if !lost(requests) => response,
            _ => Reply::Close,
        }
    })
}

fn passed_on(gateway: &Gateway, request: &Request) -> Option<Reply> {
    let names = ["x-sync-batch-id", "x-sync-device-id", "x-batch-sequence", "x-sync-attempt", "content-type"];
    let headers = names.map(|name| (name, request.header(name)));
    let headers: Vec<_> = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let method: Method = request.method.parse().unwrap();
    let response = gateway.try_send(method, &request.path, &headers, request.body.clone())?;
    let headers = vec![("content-type", response.header("content-type").to_owned())];
    Some(Reply::Response { status: response.status, headers, body: response.body.to_vec() })
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_daemon_behind_a_load_balancer_loses_and_duplicates_no_record() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    let gateways = [(); 2].map(|()| Gateway::start_on(&store, &["--fail-rate", "0.1"]));
    let watching = Gateway::start_on(&store, &[]);
    let balancer = balancer(gateways, |request| request % 4 == 0);
    let daemon = Daemon::start(&Settings::for_server(&balancer.url()));
    let ids = daemon.enqueue_many(150);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(150));
    assert_applied_once(&watching, &ids.iter().map(|id| id.parse().unwrap()).collect());
}

fn forwarded_ids(target: &ScriptedServer) -> HashSet<Uuid> {
    target.requests().iter().flat_map(Request::ids).map(|id| id.parse().unwrap()).collect()
}

#[test]
#[ignore = "needs PostgreSQL"]
fn each_record_is_forwarded_by_one_gateway_and_another_takes_over_when_it_crashes() {
    let postgres = Postgres::start();
    let target = ScriptedServer::start(|_| Reply::text(204, "text/plain", ""));
    let arguments = ["--forward", &target.url(), "--forward-max-records", "7"];
    let [one, other] = gateways(&postgres, &arguments);
    let send = |gateways: &[&Gateway]| {
        for nth in 0..12 {
            gateways[nth % gateways.len()].post(&batch_of(5)).batch();
        }
    };
    let wait_until_forwarded = |records: usize| {
        wait_for("all records to be forwarded", || {
            (target.sizes().iter().sum::<usize>() >= records).then_some(())
        });
    };
    send(&[&one, &other]);
    wait_until_forwarded(60);
    // Records that a gateway counts are stored as forwarded, so a crash does not forward them again.
    wait_for("all to be counted", || (one.metric(FORWARDED) + other.metric(FORWARDED) == 60).then_some(()));
    assert_eq!(forwarded_ids(&target), one.applied_ids().into_iter().collect());
    let (forwarder, other) = if one.metric(FORWARDED) > 0 { (one, other) } else { (other, one) };
    assert_eq!((forwarder.metric(FORWARDED), other.metric(FORWARDED)), (60, 0));
    forwarder.kill();
    send(&[&other]);
    wait_until_forwarded(120);
    assert_eq!(forwarded_ids(&target), other.applied_ids().into_iter().collect());
    assert_eq!(target.sizes().iter().sum::<usize>(), 120, "a record was forwarded twice");
    assert_eq!(other.metric(FORWARDED), 60);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_gateway_that_cannot_reach_the_target_lets_another_forward() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    // No process listens there.
    let cut_off =
        Gateway::start_on(&store, &["--forward", "http://127.0.0.1:9/", "--forward-max-wait", "50ms"]);
    cut_off.post(&batch_of(3)).batch();
    wait_for("the records to be its own to hand on", || {
        (cut_off.metric("fieldsync_gateway_forward_waiting") == 3).then_some(())
    });
    let target = ScriptedServer::start(|_| Reply::text(204, "text/plain", ""));
    let other = Gateway::start_on(&store, &["--forward", &target.url()]);
    wait_for("all to be forwarded", || (other.metric(FORWARDED) == 3).then_some(()));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn while_no_gateway_reaches_the_target_the_age_of_what_waits_grows_until_another_one_forwards() {
    const WAITING: &str = "fieldsync_gateway_forward_waiting";
    const OLDEST_WAITING: &str = "fieldsync_gateway_forward_oldest_waiting_seconds";
    const FAILED: &str = "fieldsync_gateway_forward_requests_total{outcome=\"failed\"}";
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    // No process listens there.
    let cut_off =
        Gateway::start_on(&store, &["--forward", "http://127.0.0.1:9/", "--forward-max-wait", "50ms"]);
    cut_off.post(&batch_of(3)).batch();
    // It yields after the third failure, so a fourth one follows a yield.
    let mut oldest = 0;
    wait_for("failures after a yield", || {
        let failures = cut_off.metric(FAILED);
        if failures > 0 {
            assert_eq!(cut_off.metric(WAITING), 3, "after {failures} failures");
            let age = cut_off.metric(OLDEST_WAITING);
            assert!(age >= oldest, "{age} after {oldest}");
            oldest = age;
        }
        (failures >= 5 && oldest >= 2).then_some(())
    });
    let target = ScriptedServer::start(|_| Reply::text(204, "text/plain", ""));
    let other = Gateway::start_on(&store, &["--forward", &target.url()]);
    wait_for("all to be forwarded", || (other.metric(FORWARDED) == 3).then_some(()));
    wait_for("nothing to wait at the first gateway", || {
        (cut_off.metric(WAITING) == 0 && cut_off.metric(OLDEST_WAITING) == 0).then_some(())
    });
}
