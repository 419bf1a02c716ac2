//! All records of the data set under the CRM's own time limit, undisturbed and with programs that are killed.

use serde_json::Value;

use super::chain::{Chain, device_settings};
use super::records::{RECORD_COUNT, crm_records};
use crate::support::crm_stand_in::CrmKind;
use crate::support::daemon::Counts;

const INVALID_COUNT: usize = 20;
/// Calls with more than 40 records take longer than the CRM's time limit, and are applied nevertheless.
const CRM_OPTIONS: [&str; 4] = ["--time-limit", "40ms", "--record-cost", "1ms"];
/// How often programs are killed on the way, by turns.
const KILL_COUNT: u64 = 8;

/// The outcome, and that calls were in doubt.
#[track_caller]
fn assert_all_there(chain: &Chain, ids: &[String], records: &[super::records::CrmRecord]) {
    let counts = chain.wait_until_settled(RECORD_COUNT);
    let invalid = INVALID_COUNT as u64;
    assert_eq!(counts, Counts::settled(RECORD_COUNT as u64 - invalid, invalid));
    let report = chain.assert_outcome(records, ids);
    assert!(report["responses"]["504"].as_u64() > Some(0), "{report}");
    let modules = report["modules"].as_object().unwrap();
    let repeats: u64 = modules.values().map(|module| module["repeats"].as_u64().unwrap()).sum();
    assert!(repeats > 0, "no call was applied and sent again: {report}");
}

fn send_all(kind: CrmKind) {
    let chain = Chain::start(kind, &CRM_OPTIONS, &device_settings());
    let records = crm_records(RECORD_COUNT, INVALID_COUNT);
    let ids = chain.enqueue(&records);
    assert_all_there(&chain, &ids, &records);
}

fn send_all_while_programs_are_killed(kind: CrmKind) {
    let mut chain = Chain::start(kind, &CRM_OPTIONS, &device_settings());
    let records = crm_records(RECORD_COUNT, INVALID_COUNT);
    let ids = chain.enqueue(&records);
    for kill in 1..=KILL_COUNT {
        let settled = RECORD_COUNT as u64 * kill / (KILL_COUNT + 1);
        chain.wait_until("the next part", |counts| counts.synced + counts.quarantined >= settled);
        chain = if kill % 2 == 0 { chain.kill_daemon() } else { chain.kill_gateway() };
    }
    assert_all_there(&chain, &ids, &records);
}

#[test]
fn all_records_reach_zoho_and_what_it_refuses_is_under_review() {
    send_all(CrmKind::Zoho);
}

#[test]
fn all_records_reach_salesforce_and_what_it_refuses_is_under_review() {
    send_all(CrmKind::Salesforce);
}

#[test]
fn daemons_and_gateways_that_are_killed_lose_and_repeat_nothing_at_zoho() {
    send_all_while_programs_are_killed(CrmKind::Zoho);
}

#[test]
fn daemons_and_gateways_that_are_killed_lose_and_repeat_nothing_at_salesforce() {
    send_all_while_programs_are_killed(CrmKind::Salesforce);
}

/// What people see of a receipt and of a refusal.
#[test]
fn the_command_line_shows_receipts_and_the_words_of_the_crm() {
    let chain = Chain::start(CrmKind::Zoho, &[], &device_settings());
    let records = crm_records(100, 6);
    let ids = chain.enqueue(&records);
    chain.wait_until_settled(records.len());
    for (record, id) in records.iter().zip(&ids) {
        let shown = chain.daemon.cli(&["show", id]);
        assert_eq!(shown.code, Some(0), "{shown:?}");
        let text = shown.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        let detail: Value = chain.daemon.detail(id);
        let parts = match record.defect {
            Some(defect) => vec![defect.code(CrmKind::Zoho).to_owned(), defect.field()],
            None => vec![detail["receipt"]["id"].as_str().unwrap().to_owned(), "Receipt".to_owned()],
        };
        for part in parts {
            assert!(text.contains(&part), "{text} lacks {part}");
        }
    }
}
