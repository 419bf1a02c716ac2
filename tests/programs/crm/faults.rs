//! Everything that a CRM and what is in front of it can do wrong, one fault after another.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::chain::{Chain, device_settings};
use super::records::{CrmRecord, crm_records, spoil_some};
use crate::support::crm_stand_in::CrmKind;

const FAULTS: [&str; 15] = [
    "close-before",
    "close-after",
    "cut",
    "empty",
    "gateway-timeout-before",
    "gateway-timeout",
    "server-error",
    "server-error-after",
    "unavailable",
    "throttle",
    "html-200",
    "html-500",
    "too-few",
    "too-many",
    "id-twice",
];
/// Calls that a fault concerns.
const CALLS_PER_FAULT: u32 = 4;
/// The share of calls that each fault concerns, all at once.
const FAULT_RATE: f64 = 0.02;
/// New records for each fault.
const RECORDS_PER_FAULT: usize = 80;
const INVALID_PER_FAULT: usize = 4;
const RECORDS_TOGETHER: usize = 600;
const INVALID_TOGETHER: usize = 20;

fn survive_every_fault(kind: CrmKind) {
    let chain = Chain::start(kind, &["--retry-after", "100ms"], &device_settings());
    let all = crm_records(RECORDS_PER_FAULT * FAULTS.len(), 0);
    let (mut records, mut ids): (Vec<CrmRecord>, Vec<String>) = Default::default();
    for (part, fault) in all.chunks(RECORDS_PER_FAULT).zip(FAULTS) {
        chain.crm.set_faults(&json!({ fault: { "next": CALLS_PER_FAULT } }));
        let mut part = part.to_vec();
        spoil_some(&mut part, INVALID_PER_FAULT);
        ids.extend(chain.enqueue(&part));
        records.extend(part);
        chain.wait_until_settled(ids.len());
        chain.crm.clear_faults();
    }
    let report = chain.assert_outcome(&records, &ids);
    for fault in FAULTS {
        assert!(report["faults"][fault].as_u64() > Some(0), "{fault}: {report}");
    }
}

fn survive_all_faults_at_once(kind: CrmKind) {
    let chain = Chain::start(kind, &["--retry-after", "100ms", "--seed", "7"], &device_settings());
    let faults = FAULTS.map(|fault| (fault.to_owned(), json!(FAULT_RATE)));
    chain.crm.set_faults(&Value::Object(Map::from_iter(faults)));
    let records = crm_records(RECORDS_TOGETHER, INVALID_TOGETHER);
    let ids = chain.enqueue(&records);
    chain.wait_until_settled(ids.len());
    chain.assert_outcome(&records, &ids);
}

/// Results of applied records name no record. So a receipt may belong to another record if the CRM does not keep the
/// order that it promises. Nothing else may happen.
fn survive_results_in_a_wrong_order(kind: CrmKind) {
    let chain = Chain::start(kind, &["--seed", "3"], &device_settings());
    chain.crm.set_faults(&json!({ "reordered": 0.4 }));
    let records = crm_records(RECORDS_TOGETHER, INVALID_TOGETHER);
    let ids = chain.enqueue(&records);
    chain.wait_until_settled(ids.len());
    let report = chain.crm.assert_clean();
    assert!(report["faults"]["reordered"].as_u64() > Some(3), "{report}");
    let stored = chain.crm.stored();
    let known: HashSet<&String> = stored.values().map(|record| &record.id).collect();
    assert_eq!(known.len(), RECORDS_TOGETHER - INVALID_TOGETHER);
    for ((record, id), detail) in records.iter().zip(&ids).zip(chain.read_details(&ids)) {
        let (state, receipt) = (detail["state"].as_str().unwrap(), detail["receipt"]["id"].as_str());
        if record.defect.is_some() {
            assert_eq!((state, receipt, stored.contains_key(id)), ("QUARANTINED", None, false), "{detail}");
        } else {
            assert_eq!((state, stored.contains_key(id)), ("SYNCED", true), "{detail}");
            assert!(receipt.is_some_and(|receipt| known.contains(&receipt.to_owned())), "{detail}");
        }
    }
}

#[test]
fn results_of_zoho_in_a_wrong_order_neither_lose_a_record_nor_refuse_another() {
    survive_results_in_a_wrong_order(CrmKind::Zoho);
}

#[test]
fn results_of_salesforce_in_a_wrong_order_neither_lose_a_record_nor_refuse_another() {
    survive_results_in_a_wrong_order(CrmKind::Salesforce);
}

#[test]
fn every_fault_of_zoho_only_delays_records() {
    survive_every_fault(CrmKind::Zoho);
}

#[test]
fn every_fault_of_salesforce_only_delays_records() {
    survive_every_fault(CrmKind::Salesforce);
}

#[test]
fn all_faults_of_zoho_at_once_only_delay_records() {
    survive_all_faults_at_once(CrmKind::Zoho);
}

#[test]
fn all_faults_of_salesforce_at_once_only_delay_records() {
    survive_all_faults_at_once(CrmKind::Salesforce);
}
