//! Gateways in front of a CRM that share a ledger in PostgreSQL, and one of them is killed.

use super::chain::{Chain, device_settings, start_gateway};
use super::records::{CrmRecord, crm_records};
use crate::support::crm_stand_in::{CrmKind, StandIn};
use crate::support::daemon::{Counts, Daemon};
use crate::support::gateway::ANY_PORT;
use crate::support::postgres::Postgres;
use crate::support::wait::directory;

/// Of each device.
const RECORD_COUNT: usize = 600;
const INVALID_COUNT: usize = 10;
const CRM_OPTIONS: [&str; 4] = ["--time-limit", "100ms", "--record-cost", "4ms"];

/// The records of another device: they have other keys.
fn of_another_device(records: &[CrmRecord]) -> Vec<CrmRecord> {
    let mut records = records.to_vec();
    for record in &mut records {
        if let Some(key) = record.key().map(|key| format!("other/{key}")) {
            record.value["key"] = key.into();
        }
    }
    records
}

fn send_while_one_gateway_is_killed(kind: CrmKind) {
    let postgres = Postgres::start();
    let store = postgres.create("crm");
    let crm = StandIn::start(kind, &CRM_OPTIONS);
    let mut chain = Chain::start_on(&store, directory(), crm, &device_settings());
    let other_files = directory();
    let survivor = start_gateway(&chain.configuration, other_files.path(), ANY_PORT);
    let settings = device_settings().with("server.url", &survivor.url());
    let other_device = Daemon::start(&settings);
    let records = crm_records(RECORD_COUNT, INVALID_COUNT);
    let other_records = of_another_device(&records);
    let mut ids = chain.enqueue(&records);
    let other_ids = {
        let enqueued: Vec<_> = other_records.iter().map(|record| record.value.clone()).collect();
        other_device.enqueue(&enqueued)
    };
    chain.wait_until("a third", |counts| counts.synced >= RECORD_COUNT as u64 / 3);
    // The device of the gateway that died goes on with the other one.
    chain.daemon.home.configure(&settings);
    chain = chain.replace_gateway(survivor);
    chain.daemon.signal("HUP");
    let settled = Counts::settled((RECORD_COUNT - INVALID_COUNT) as u64, INVALID_COUNT as u64);
    assert_eq!(chain.wait_until_settled(RECORD_COUNT), settled);
    chain.wait_until("the other device", |_| other_device.counts() == settled);
    let mut all = records;
    all.extend(other_records);
    let details = [(&chain.daemon, ids.clone()), (&other_device, other_ids.clone())];
    let details =
        details.iter().flat_map(|(daemon, ids)| super::details::read_details(&daemon.home.socket(), ids));
    let details: Vec<_> = details.collect();
    ids.extend(other_ids);
    chain.assert_details(&all, &ids, &details);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_gateway_that_is_killed_leaves_its_deliveries_to_zoho_to_another() {
    send_while_one_gateway_is_killed(CrmKind::Zoho);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_gateway_that_is_killed_leaves_its_deliveries_to_salesforce_to_another() {
    send_while_one_gateway_is_killed(CrmKind::Salesforce);
}
