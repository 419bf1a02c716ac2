//! A ledger file of an older gateway is converted completely. `tests/fixtures/README.md` explains how it was made.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use hyper::Method;
use serde_json::Value;

use super::receiver::{PARKED_RECORDS, REFUSED, Taken, WAITING};
use crate::support::gateway::Gateway;
use crate::support::server::ScriptedServer;
use crate::support::wait::{directory, wait_for};

const TOKEN: &str = "s3cret-of-the-operator";
/// Of 14 records, 3 and 6 were refused, and 7 was to be sent later. 4, 8 and 13 are behind 3, and 12 is behind 7.
const SENT_NOW: [u64; 5] = [7, 10, 11, 12, 14];

/// What the older gateway reported.
struct OldLedger {
    store: String,
    lines: Vec<Value>,
    refused: Vec<Value>,
}

fn unpack(directory: &Path) -> OldLedger {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let store = directory.join("ledger.redb");
    let packed = File::open(fixtures.join("ledger-5d6b41c.redb.zst")).unwrap();
    zstd::stream::copy_decode(packed, File::create(&store).unwrap()).unwrap();
    let text = fs::read_to_string(fixtures.join("ledger-5d6b41c.json")).unwrap();
    let mut reported: Value = serde_json::from_str(&text).unwrap();
    let mut take = |name: &str| reported[name].as_array_mut().unwrap().split_off(0);
    let (lines, refused) = (take("ledger"), take("refused"));
    OldLedger { store: store.to_str().unwrap().into(), lines, refused }
}

#[test]
fn a_ledger_with_payloads_keeps_its_listing_and_what_waits_to_be_forwarded_or_reviewed() {
    let directory = directory();
    let mut old = unpack(directory.path());
    let with_payloads = old.lines.clone();
    let token_file = directory.path().join("token");
    fs::write(&token_file, TOKEN).unwrap();
    let admin = ["--admin-token-file", token_file.to_str().unwrap()];

    // Without forwarding, what waits still waits.
    let gateway = Gateway::start_on(&old.store, &admin);
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let page = gateway.send(Method::GET, "/admin/refused", &headers, Vec::new()).expect_json(200);
    assert_eq!(page["records"].as_array().unwrap(), &old.refused);
    for line in &mut old.lines {
        line.as_object_mut().unwrap().remove("payload");
    }
    assert_eq!(gateway.ledger(), old.lines);
    gateway.kill();

    let taken = Taken::default();
    let receiver = taken.clone();
    let server = ScriptedServer::start(move |request| receiver.take_all(request));
    let url = server.url();
    let gateway = Gateway::start_on(&old.store, &[&admin[..], &["--forward", &url]].concat());
    // The lane that was to be sent later is due; what is behind refused records stays there.
    let expected: Vec<&Value> =
        with_payloads.iter().filter(|line| SENT_NOW.contains(&line["seq"].as_u64().unwrap())).collect();
    wait_for("what waited", || (taken.len() == expected.len()).then_some(()));
    wait_for("an empty outbox", || (gateway.metric(WAITING) == 0).then_some(()));
    let mut sent = taken.records();
    sent.sort_by_key(|record| record["seq"].as_u64());
    assert!(sent.iter().eq(expected), "{sent:#?}");
    wait_for("the counts", || {
        ([REFUSED, PARKED_RECORDS].map(|name| gateway.metric(name)) == [2, 3]).then_some(())
    });
    assert_eq!(gateway.ledger(), old.lines);
}
