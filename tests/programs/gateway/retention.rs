//! What the ledger forgets, and what it does not.

use fieldsync::protocol::wire::RecordStatus;

use super::receiver::WAITING;
use crate::support::device::Batch;
use crate::support::gateway::Gateway;
use crate::support::http::statuses;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::wait::{directory, wait_for};

const KEEP_SHORT: [&str; 4] = ["--keep-answers", "1s", "--keep-records", "1s"];

#[test]
fn a_record_is_known_for_its_retention_and_then_forgotten_with_its_line() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &KEEP_SHORT);
    let (old, new) = (Batch::of(&["{}", "{}"]), Batch::of(&["{}"]));
    gateway.post(&old).batch();
    gateway.post(&new).batch();
    wait_for("the records to be forgotten", || {
        let known = gateway.applied_ids();
        old.ids().iter().all(|id| !known.contains(id)).then_some(())
    });
    wait_for("the response to be deleted", || (gateway.query_outcome(&old).status == 404).then_some(()));
    assert_eq!(statuses(&gateway.post(&old).batch()), [RecordStatus::Applied; 2]);
}

#[test]
fn a_record_that_waits_to_be_forwarded_is_known_until_then() {
    let server = ScriptedServer::start(|_| Reply::text(503, "text/plain", "later"));
    let directory = directory();
    let url = server.url();
    let forward = ["--forward", &url, "--forward-max-wait", "20ms"];
    let gateway = Gateway::start(directory.path(), &[&KEEP_SHORT[..], &forward].concat());
    let (waiting, newest) = (Batch::of(&["{}"]), Batch::of(&["{}"]));
    gateway.post(&waiting).batch();
    gateway.post(&newest).batch();
    wait_for("both to wait", || (gateway.metric(WAITING) == 2).then_some(()));
    for batch in [&waiting, &newest] {
        wait_for("the response to be deleted", || (gateway.query_outcome(batch).status == 404).then_some(()));
    }
    assert_eq!(statuses(&gateway.post(&waiting).batch()), [RecordStatus::Duplicate]);
    server.set_script(|_| Reply::text(204, "text/plain", ""));
    wait_for("the record to be forgotten", || {
        (!gateway.applied_ids().contains(&waiting.ids()[0])).then_some(())
    });
}
