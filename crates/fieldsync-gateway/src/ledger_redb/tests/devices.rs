//! The devices in the file: merged, listed in order, counted and deleted.

use uuid::Uuid;

use super::super::RedbLedger;
use crate::ledger::{DeviceCounts, DeviceEntry, DeviceLedger, DevicePruning, DeviceReport, Ledger};
use crate::model::DeviceId;
use crate::protocol::device_status::DeviceStatus;

/// The latest time that can be right.
const LATEST: u64 = 1000;

fn entry(device: u128, last_contact_at: u64) -> DeviceEntry {
    let device = DeviceId(Uuid::from_u128(device));
    DeviceEntry { device, name: String::new(), last_contact_at, report: None }
}

fn listed(ledger: &RedbLedger) -> Vec<u128> {
    let rows = ledger.devices_after(None, None, 100).unwrap();
    rows.iter().map(|row| row.device.0.as_u128()).collect()
}

#[test]
fn a_device_has_one_row_at_the_place_of_its_last_contact() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.redb");
    let ledger = RedbLedger::open(&path, false).unwrap();
    let report = DeviceReport {
        received_at: 20,
        status: DeviceStatus { version: Some("1".into()), ..DeviceStatus::default() },
    };
    let reported = DeviceEntry { name: "one".into(), report: Some(report.clone()), ..entry(1, 20) };
    ledger.store_devices(&[reported, entry(2, 20), entry(3, 10)], LATEST).unwrap();
    assert_eq!(listed(&ledger), [3, 1, 2]);
    ledger.store_devices(&[entry(1, 30), entry(2, 15)], LATEST).unwrap();
    ledger.close().unwrap();
    let ledger = RedbLedger::open(&path, false).unwrap();
    assert_eq!(listed(&ledger), [3, 2, 1], "an older contact changes nothing");
    let rows = ledger.devices_after(None, None, 100).unwrap();
    assert_eq!((rows[2].name.as_str(), &rows[2].report), ("one", &Some(report)));
    let rest = ledger.devices_after(Some(rows[0].position()), None, 1).unwrap();
    assert_eq!(rest, rows[1..2]);
    assert_eq!(ledger.devices_after(None, Some(20), 100).unwrap(), rows[..1]);
    assert_eq!(ledger.count_devices(20).unwrap(), DeviceCounts { known: 3, overdue: 1 });
}

#[test]
fn a_contact_from_the_future_is_replaced_by_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = RedbLedger::open(&directory.path().join("ledger.redb"), false).unwrap();
    let report = |received_at| Some(DeviceReport { received_at, status: DeviceStatus::default() });
    let future = DeviceEntry { report: report(LATEST + 5), ..entry(1, LATEST + 5) };
    ledger.store_devices(&[future, entry(2, 50)], LATEST + 10).unwrap();
    let present = DeviceEntry { report: report(40), ..entry(1, 40) };
    ledger.store_devices(std::slice::from_ref(&present), LATEST).unwrap();
    assert_eq!(ledger.devices_after(None, None, 100).unwrap(), [present, entry(2, 50)]);
}

#[test]
fn the_oldest_contacts_are_deleted_first() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = RedbLedger::open(&directory.path().join("ledger.redb"), false).unwrap();
    let entries: Vec<DeviceEntry> = (1..=10).map(|n| entry(u128::from(n), n)).collect();
    ledger.store_devices(&entries, LATEST).unwrap();
    let pruning = DevicePruning { before: 4, devices_max: 100, step_max: 2 };
    let deleted: Vec<usize> = (0..3).map(|_| ledger.prune_devices(pruning).unwrap()).collect();
    assert_eq!(deleted, [2, 1, 0]);
    assert_eq!(listed(&ledger), [4, 5, 6, 7, 8, 9, 10]);
    let pruning = DevicePruning { before: 0, devices_max: 5, step_max: 100 };
    assert_eq!(ledger.prune_devices(pruning).unwrap(), 2);
    assert_eq!(listed(&ledger), [6, 7, 8, 9, 10]);
    assert_eq!(ledger.count_devices(7).unwrap(), DeviceCounts { known: 5, overdue: 1 });
}
