//! A destination that takes no records, and who is told.

use std::fs;
use std::time::Duration;

use fieldsync::clock::Clock;
use fieldsync::protocol::wire::RecordStatus;
use serde_json::{Value, json};

use super::crm::{Crm, account, accounts};
use crate::support::device::Batch;
use crate::support::gateway::Gateway;
use crate::support::http::statuses;
use crate::support::postgres::ledger_in;
use crate::support::wait::{directory, wait_for_within};

/// Less than the 10 s after which a claim in a shared ledger lapses, counted from before the request that claims.
const RELEASE_LIMIT: Duration = Duration::from_secs(8);
/// Less than the minute after which the gateway tries a stopped destination by itself.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);

fn condition(gateway: &Gateway) -> Vec<u64> {
    let series = |name| format!("fieldsync_gateway_destination_condition{{condition=\"{name}\"}}");
    ["ready", "waiting", "stopped"].map(|name| gateway.metric(&series(name))).to_vec()
}

fn lines_with(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn a_destination_that_refuses_the_gateway_is_stopped_for_all_until_it_is_mended() {
    let directory = directory();
    let crm = Crm::start(&[]);
    let gateway = crm.gateway(&ledger_in(directory.path()), directory.path(), "20s");
    let healthy = json!({"status": "ok", "destination": {"condition": "ready", "stopped_types": []}});
    for path in ["/healthz", "/readyz"] {
        assert_eq!(gateway.get(path).expect_json(200), healthy);
    }
    assert_eq!(condition(&gateway), [1, 0, 0]);
    // As if the client had been deleted at the CRM.
    fs::write(directory.path().join("client-secret"), "wrong").unwrap();
    let first = gateway.post(&accounts(3)).batch();
    assert!(first.results.iter().all(|result| {
        (result.status, result.code.as_deref()) == (RecordStatus::Retry, Some("DESTINATION_STOPPED"))
            && result.retry_after_s > Some(0)
    }));
    let batch = accounts(3);
    let assert_refused = || {
        let refused = gateway.post(&batch);
        assert_eq!((refused.status, refused.code().as_str()), (503, "DESTINATION_STOPPED"));
        assert!((1..=60).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("invalid_client"), "{message}");
    };
    for _ in 0..2 {
        assert_refused();
    }
    let clock = Clock::start();
    assert_refused();
    // Nothing of the batch is stored. In a shared ledger, its claim is released shortly after the response.
    let limit = RELEASE_LIMIT.saturating_sub(clock.now());
    let unknown = wait_for_within(limit, "the batch to be unknown", || {
        Some(gateway.query_outcome(&batch)).filter(|response| response.status != 202)
    });
    assert_eq!(unknown.code(), "UNKNOWN_BATCH");
    let ready: Value = gateway.get("/readyz").expect_json(503);
    assert_eq!(
        (&ready["status"], &ready["destination"]["condition"]),
        (&json!("destination_stopped"), &json!("stopped"))
    );
    let health = gateway.get("/healthz").expect_json(200);
    assert_eq!(health["status"], "ok");
    assert!(health["destination"]["reason"].as_str().unwrap().contains("invalid_client"), "{health}");
    assert_eq!(condition(&gateway), [0, 0, 1]);

    fs::write(directory.path().join("client-secret"), "stand-in-secret").unwrap();
    gateway.signal("HUP");
    let response = wait_for_within(RELOAD_LIMIT, "the destination to be used again", || {
        Some(gateway.post(&batch)).filter(|response| response.status == 200)
    });
    assert_eq!(statuses(&response.batch()), [RecordStatus::Applied; 3]);
    assert_eq!(gateway.get("/readyz").expect_json(200), healthy);
    assert_eq!(condition(&gateway), [1, 0, 0]);
    let log = fs::read_to_string(directory.path().join("log")).unwrap();
    assert_eq!(lines_with(&log, "the destination takes no records until an administrator"), 1, "{log}");
    assert_eq!(lines_with(&log, "the destination takes records"), 1, "{log}");
}

#[test]
fn a_throttled_destination_lets_devices_wait_as_long_as_it_says() {
    let directory = directory();
    let crm = Crm::start(&["--retry-after", "30s"]);
    // Long enough for a slow ledger to begin the delivery.
    let gateway = crm.gateway(&ledger_in(directory.path()), directory.path(), "3s");
    crm.set_faults(&json!({"throttle": {"next": 1}}));
    // The delivery of this one waits.
    assert_eq!(gateway.post(&accounts(3)).code(), "DESTINATION_SLOW");
    let refused = gateway.post(&accounts(3));
    assert_eq!((refused.status, refused.code().as_str()), (503, "DESTINATION_BUSY"));
    assert!((20..=30).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    assert_eq!(condition(&gateway), [0, 1, 0]);
    assert_eq!(gateway.get("/readyz").expect_json(200)["destination"]["condition"], "waiting");
}

#[test]
fn trouble_with_the_only_type_stops_the_destination_and_rejects_nothing() {
    let directory = directory();
    let crm = Crm::start(&[]);
    let gateway = crm.gateway(&ledger_in(directory.path()), directory.path(), "20s");
    crm.set_faults(&json!({"refuse": {"NO_PERMISSION": 1.0}}));
    let batch = Batch::with(vec![account("one")]);
    let response = gateway.post(&batch).batch();
    assert_eq!(statuses(&response), [RecordStatus::Retry]);
    assert_eq!(response.results[0].code.as_deref(), Some("DESTINATION_STOPPED"));
    let refusal = gateway.post(&batch.again());
    assert_eq!((refusal.status, refusal.code()), (503, "DESTINATION_STOPPED".into()));
    assert_eq!(gateway.metric("fieldsync_gateway_destination_stopped_types"), 1);
    let stopped = &gateway.get("/readyz").expect_json(503)["destination"];
    assert_eq!(stopped["stopped_types"][0]["type"], "Visits", "{stopped}");
    crm.clear_faults();
}
