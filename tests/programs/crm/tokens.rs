//! Access tokens that die in the middle, and a token endpoint that fails.

use std::time::Duration;

use serde_json::json;

use super::chain::{Chain, device_settings};
use super::records::crm_records;
use crate::support::crm_stand_in::CrmKind;
use crate::support::wait::{pace, wait_for};

const RECORD_COUNT: usize = 600;
const INVALID_COUNT: usize = 10;
/// Few, so that batches end all the time.
const RECORDS_OF_BATCH: usize = 40;
/// More than a batch, so that tokens die while others are on their way.
const UNSETTLED_COUNT: usize = 50;
/// Long enough for tokens to die in the middle.
const CRM_OPTIONS: [&str; 2] = ["--record-cost", "10ms"];

/// What the token endpoint does besides, each time that all tokens have died. Zoho gives 10 tokens in 10 minutes.
const TOKEN_FAULTS: [Option<&str>; 5] = [None, Some("token-error"), None, Some("token-denied"), None];

fn survive_dead_tokens(kind: CrmKind) {
    let chain = Chain::start(kind, &CRM_OPTIONS, &device_settings().batches_of(RECORDS_OF_BATCH));
    let records = crm_records(RECORD_COUNT, INVALID_COUNT);
    let mut parts = records.chunks(RECORD_COUNT / (TOKEN_FAULTS.len() + 1));
    let mut ids = chain.enqueue(parts.next().unwrap());
    for (number, fault) in (1_usize..).zip(TOKEN_FAULTS) {
        let settled = (ids.len() - UNSETTLED_COUNT) as u64;
        chain.wait_until("most of a part", |counts| counts.synced + counts.quarantined >= settled);
        let mut faults = json!({ "expire-tokens": { "next": 1 } });
        if let Some(fault) = fault {
            faults[fault] = json!({ "next": 1 });
        }
        chain.crm.set_faults(&faults);
        ids.extend(chain.enqueue(parts.next().unwrap()));
        wait_for("the tokens to die", || {
            (chain.crm.report()["faults"]["expire-tokens"] == number).then_some(())
        });
    }
    chain.wait_until_settled(RECORD_COUNT);
    let report = chain.assert_outcome(&records, &ids);
    assert_eq!(report["faults"]["expire-tokens"], TOKEN_FAULTS.len(), "{report}");
    assert!(report["tokens_issued"].as_u64() > Some(TOKEN_FAULTS.len() as u64), "{report}");
}

#[test]
fn dead_tokens_of_zoho_only_delay_records() {
    survive_dead_tokens(CrmKind::Zoho);
}

#[test]
fn dead_tokens_of_salesforce_only_delay_records() {
    survive_dead_tokens(CrmKind::Salesforce);
}

/// Salesforce does not say when a token expires.
#[test]
fn tokens_of_zoho_are_renewed_before_they_expire() {
    let options = ["--token-lifetime", "8s", "--record-cost", "30ms", "--reaction-time", "0s"];
    let chain = Chain::start(CrmKind::Zoho, &options, &device_settings());
    let records = crm_records(RECORD_COUNT, INVALID_COUNT);
    let (first, later) = records.split_at(RECORD_COUNT / 2);
    let mut ids = chain.enqueue(first);
    chain.wait_until_settled(first.len());
    // The next records come when a quarter of the token's lifetime is left, which a busy machine may need for a call.
    pace(Duration::from_secs(6));
    ids.extend(chain.enqueue(later));
    chain.wait_until_settled(RECORD_COUNT);
    let report = chain.assert_outcome(&records, &ids);
    assert!(report["tokens_issued"].as_u64() > Some(1), "{report}");
    assert_eq!(report["responses"]["401"], json!(null), "{report}");
}
