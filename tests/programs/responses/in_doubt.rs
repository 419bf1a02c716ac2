//! Batches whose outcome stays unknown: they are resolved in the end, and not too early.

use std::collections::HashSet;

use crate::support::daemon::{Counts, Daemon};
use crate::support::ledger::Ledger;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;

fn distinct(batches: &[Request]) -> HashSet<&str> {
    batches.iter().map(Request::batch_id).collect()
}

#[test]
fn a_batch_found_in_flight_at_a_restart_and_processed_without_end_continues_under_another_id() {
    for count in [1, 5] {
        let server = ScriptedServer::start(|_| Reply::Hang);
        let settings = Settings::for_server(&server.url());
        // The batch stays in flight until the daemon is killed.
        let daemon = Daemon::start(&settings.clone().with("server.request_timeout", "1m"));
        let ids = daemon.paused(|daemon| daemon.enqueue_many(count));
        let first = server.wait_for_batches(1).remove(0).batch_id().to_owned();
        let home = daemon.kill9();
        home.configure(&settings.with("server.request_timeout", "400ms"));
        let (ledger, stuck) = (Ledger::default(), first.clone());
        let books = ledger.clone();
        server.set_script(move |request| {
            if !request.is_batch() {
                Reply::text(404, "text/plain", "Not Found\n")
            } else if request.batch_id() == stuck {
                Reply::error(409, "PROCESSING")
            } else {
                books.respond(request)
            }
        });
        let daemon = home.start();
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(count as u64));
        ledger.assert_holds(&ids);
        let batches = server.batches();
        assert!(batches.iter().filter(|batch| batch.batch_id() == first).count() > 1, "it got 409");
    }
}

/// A batch that was applied and whose response was lost `times` times, while as many outcome queries fail.
fn applied_in_doubt(times: usize) {
    let ledger = Ledger::default();
    let books = ledger.clone();
    let (mut sends, mut look_ups) = (0, 0);
    let server = ScriptedServer::start(move |request| {
        let response = books.respond(request);
        if request.is_batch() {
            sends += 1;
            return if sends <= times { Reply::html(504) } else { response };
        }
        look_ups += 1;
        if look_ups <= times { Reply::html(500) } else { response }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.paused(|daemon| daemon.enqueue_many(20));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(20));
    ledger.assert_holds(&ids);
    let batches = server.batches();
    assert_eq!(distinct(&batches).len(), 1, "{:?}", server.sizes());
    assert!(server.count_outcome_queries(batches[0].batch_id()) >= times);
}

#[test]
fn a_failed_outcome_query_proves_nothing_and_the_batch_keeps_its_id() {
    applied_in_doubt(1);
    applied_in_doubt(2);
}

#[test]
fn a_failed_outcome_query_is_repeated_when_the_batch_fails_again() {
    let ledger = Ledger::default();
    let books = ledger.clone();
    let mut look_ups = 0;
    let server = ScriptedServer::start(move |request| {
        let response = books.respond(request);
        look_ups += u32::from(!request.is_batch());
        match (request.is_batch(), look_ups) {
            (true, _) => Reply::html(504),
            (false, 1) => Reply::error(500, "OOPS"),
            (false, _) => response,
        }
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.paused(|daemon| daemon.enqueue_many(20));
    assert_eq!(
        daemon.wait_until_done(),
        Counts::all_synced(20),
        "the server supports outcome queries nevertheless"
    );
    ledger.assert_holds(&ids);
    assert_eq!(distinct(&server.batches()).len(), 1, "{:?}", server.sizes());
}
