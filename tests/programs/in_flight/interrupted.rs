//! Something happens in the middle of several batches: nothing is lost, and nothing is sent twice.

use super::{
    MOST, RECORD_TIME, assert_sent_once, batch_ids, busy_daemon, several_at_once, under_way, wait_for_several,
};
use crate::support::daemon::Counts;
use crate::support::fault_proxy::FaultProxy;
use crate::support::server::Request;
use crate::support::wait::wait_for;
use crate::support::workers::ParallelServer;

#[test]
fn a_reload_in_the_middle_of_several_batches_lets_them_end_and_its_limit_holds_from_then_on() {
    let server = ParallelServer::start(RECORD_TIME);
    let settings = several_at_once(&server.server.url());
    let (daemon, ids) = busy_daemon(&settings);
    daemon.reload(&settings.with("batch.max_in_flight", "1"));
    daemon.wait_until("the others to end", |status| under_way(status) <= 1);
    server.workers.reset_most();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(ids.len() as u64));
    assert_eq!(server.workers.most(), 1);
    server.ledger.assert_holds(&ids);
    server.assert_one_batch_for_each_record();
    assert_sent_once(&server);
    daemon.wait_for_log("at most 1 batch may be under way at once");
}

#[test]
fn another_server_gets_what_the_old_one_does_not_finish() {
    let old = ParallelServer::start(RECORD_TIME);
    let new = ParallelServer::start(RECORD_TIME / 5);
    let settings = several_at_once(&old.server.url());
    let (daemon, ids) = busy_daemon(&settings);
    daemon.reload(&settings.with("server.url", &new.server.url()));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(ids.len() as u64));
    let mut applied = old.ledger.applied();
    applied.extend(new.ledger.applied());
    applied.sort_unstable();
    let mut ids = ids;
    ids.sort_unstable();
    assert_eq!(applied, ids, "each record by one of the two");
    for server in [&old, &new] {
        assert_sent_once(server);
    }
}

#[test]
fn all_batches_in_flight_are_settled_before_the_daemon_ends() {
    let server = ParallelServer::start(RECORD_TIME);
    let (daemon, ids) = busy_daemon(&several_at_once(&server.server.url()));
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{}", home.log());
    let sent = server.server.batches().len();
    let daemon = home.start();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(ids.len() as u64));
    assert!(server.server.batches().len() > sent, "some were left");
    server.ledger.assert_holds(&ids);
    server.assert_one_batch_for_each_record();
    assert_sent_once(&server);
    assert!(server.server.requests().iter().all(Request::is_batch), "no outcome query is needed");
}

#[test]
fn batches_in_flight_at_a_crash_are_looked_up_and_no_record_is_lost_or_sent_twice() {
    let server = ParallelServer::start(RECORD_TIME);
    let (daemon, ids) = busy_daemon(&several_at_once(&server.server.url()));
    let home = daemon.kill9();
    let arrived: Vec<String> =
        server.server.batches().iter().map(|batch| batch.batch_id().to_owned()).collect();
    let daemon = home.start();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(ids.len() as u64));
    server.ledger.assert_holds(&ids);
    server.assert_one_batch_for_each_record();
    let requests = server.server.requests();
    assert!(requests.iter().any(|request| !request.is_batch()), "no batch was in flight at the crash");
    // What had arrived was settled by a look-up alone.
    let resent = server.server.batches().into_iter().filter(|batch| batch.attempt() > 1);
    let resent: Vec<String> = resent.map(|batch| batch.batch_id().to_owned()).collect();
    assert!(resent.iter().all(|id| !arrived.contains(id)), "{resent:?}");
}

#[test]
fn a_link_that_breaks_in_the_middle_of_several_batches_leaves_their_outcomes_to_look_ups() {
    let server = ParallelServer::start(RECORD_TIME);
    let mut link = FaultProxy::to(server.server.address);
    let (daemon, mut ids) = busy_daemon(&several_at_once(&link.url()));
    for _ in 0..3 {
        // Not while a body is on its way: its outcome would not be in doubt.
        let in_flight = wait_for("all batches to have arrived", || {
            let in_flight = batch_ids(&wait_for_several(&daemon, &mut ids));
            let arrived = server.server.batches();
            let has_arrived = |id: &String| arrived.iter().any(|batch| batch.batch_id() == id);
            in_flight.iter().all(has_arrived).then_some(in_flight)
        });
        assert_eq!(in_flight.len(), MOST);
        link.refuse();
        link.reset_connections();
        daemon.wait_for_phase("offline");
        link.accept();
    }
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(ids.len() as u64));
    server.ledger.assert_holds(&ids);
    server.assert_one_batch_for_each_record();
    assert!(server.server.requests().iter().any(|request| !request.is_batch()), "outcomes were looked up");
    assert_eq!(daemon.counts().quarantined, 0);
}
