//! A rejected request is only one piece of evidence: a server that rejects some requests blames no record.

use crate::support::daemon::{Counts, Daemon};
use crate::support::ledger::Ledger;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

#[test]
fn a_replica_that_rejects_every_fifth_request_quarantines_nothing() {
    const RECORDS: u64 = 60;
    let books = Ledger::default();
    let ledger = books.clone();
    let mut requests = 0;
    let server = ScriptedServer::start(move |request| {
        requests += 1;
        if requests % 5 == 0 { Reply::error(400, "BAD_REPLICA") } else { books.respond(request) }
    });
    // The promised default.
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("retry.quarantine_after", "2"));
    let mut ids = Vec::new();
    for _ in 0..RECORDS {
        ids.extend(daemon.enqueue_many(1));
        daemon.wait_until("the record to be settled or to have failed", |status| {
            status["records"]["pending"] == 0 && status["records"]["syncing"] == 0
        });
    }
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(RECORDS));
    ledger.assert_holds(&ids);
}
