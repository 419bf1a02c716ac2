//! The devices: a row for each, and an index of their last contacts.

use std::ops::Bound;

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableError,
    WriteTransaction,
};
use uuid::Uuid;

use super::RedbLedger;
use super::group_commit::Written;
use crate::ledger::{
    DeviceCounts, DeviceEntry, DeviceLedger, DevicePosition, DevicePruning, DeviceReport, LedgerError,
};
use crate::model::DeviceId;

/// Device → last contact, name, arrival of its status and the status as JSON.
const DEVICES: TableDefinition<'_, u128, DeviceColumns<'_>> = TableDefinition::new("devices");
/// Last contact and device: the order in which devices are listed and deleted.
const DEVICE_CONTACTS: TableDefinition<'_, (u64, u128), ()> = TableDefinition::new("device_contacts");

type DeviceColumns<'a> = (u64, &'a str, Option<(u64, &'a str)>);

/// Creates the tables unless they exist: ledgers of older gateways lack them.
pub(super) fn create_device_tables(database: &Database) -> Result<(), redb::Error> {
    match database.begin_read()?.open_table(DEVICES) {
        Ok(_) => return Ok(()),
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(DEVICES)?;
    transaction.open_table(DEVICE_CONTACTS)?;
    Ok(transaction.commit()?)
}

impl DeviceLedger for RedbLedger {
    fn store_devices(&self, entries: &[DeviceEntry], latest: u64) -> Result<(), LedgerError> {
        self.write(|transaction| {
            merge_entries(transaction, entries, latest)?;
            Ok(Written::Changed(()))
        })
    }

    fn devices_after(
        &self,
        after: Option<DevicePosition>,
        before: Option<u64>,
        rows_max: usize,
    ) -> Result<Vec<DeviceEntry>, LedgerError> {
        let start = after.map_or(Bound::Unbounded, |after| {
            Bound::Excluded((after.last_contact_at, after.device.0.as_u128()))
        });
        self.with_database(|database| {
            let transaction = database.begin_read()?;
            let contacts = transaction.open_table(DEVICE_CONTACTS)?;
            let devices = transaction.open_table(DEVICES)?;
            let mut page = Vec::new();
            for row in contacts.range::<(u64, u128)>((start, Bound::Unbounded))?.take(rows_max) {
                let (at, device) = row?.0.value();
                if before.is_some_and(|before| at >= before) {
                    break;
                }
                if let Some(columns) = devices.get(device)? {
                    page.push(decode_entry(device, columns.value())?);
                }
            }
            Ok(page)
        })
    }

    fn count_devices(&self, overdue_before: u64) -> Result<DeviceCounts, LedgerError> {
        self.with_database(|database| {
            let contacts = database.begin_read()?.open_table(DEVICE_CONTACTS)?;
            let mut overdue = 0;
            for row in contacts.range(..(overdue_before, 0))? {
                row?;
                overdue += 1;
            }
            Ok(DeviceCounts { known: contacts.len()?, overdue })
        })
    }

    fn prune_devices(&self, pruning: DevicePruning) -> Result<usize, LedgerError> {
        let old = self.with_database(|database| find_old_devices(database, pruning))?;
        if !old.is_empty() {
            self.write(|transaction| {
                delete_devices(transaction, &old)?;
                Ok(Written::Changed(()))
            })?;
        }
        Ok(old.len())
    }
}

fn merge_entries(
    transaction: &WriteTransaction,
    entries: &[DeviceEntry],
    latest: u64,
) -> Result<(), LedgerError> {
    let mut devices = transaction.open_table(DEVICES)?;
    let mut contacts = transaction.open_table(DEVICE_CONTACTS)?;
    for entry in entries {
        let key = entry.device.0.as_u128();
        let stored = devices.get(key)?.map(|columns| decode_entry(key, columns.value())).transpose()?;
        let merged = match stored {
            Some(mut stored) => {
                contacts.remove((stored.last_contact_at, key))?;
                stored.merge(entry.clone(), latest);
                stored
            }
            None => entry.clone(),
        };
        let report = merged
            .report
            .as_ref()
            .map(|report| Ok::<_, LedgerError>((report.received_at, serde_json::to_string(&report.status)?)));
        let report = report.transpose()?;
        let report = report.as_ref().map(|(at, status)| (*at, status.as_str()));
        devices.insert(key, (merged.last_contact_at, merged.name.as_str(), report))?;
        contacts.insert((merged.last_contact_at, key), ())?;
    }
    Ok(())
}

/// Devices of the oldest contacts, with their contacts.
fn find_old_devices(database: &Database, pruning: DevicePruning) -> Result<Vec<(u64, u128)>, LedgerError> {
    let contacts = database.begin_read()?.open_table(DEVICE_CONTACTS)?;
    let excess = usize::try_from(contacts.len()?.saturating_sub(pruning.devices_max)).unwrap_or(usize::MAX);
    let mut old = Vec::new();
    for (position, row) in contacts.iter()?.take(pruning.step_max).enumerate() {
        let contact = row?.0.value();
        if position >= excess && contact.0 >= pruning.before {
            break;
        }
        old.push(contact);
    }
    Ok(old)
}

/// Except those that were in contact since they were found.
fn delete_devices(transaction: &WriteTransaction, found: &[(u64, u128)]) -> Result<(), LedgerError> {
    let mut devices = transaction.open_table(DEVICES)?;
    let mut contacts = transaction.open_table(DEVICE_CONTACTS)?;
    for contact in found {
        if contacts.remove(contact)?.is_some() {
            devices.remove(contact.1)?;
        }
    }
    Ok(())
}

fn decode_entry(device: u128, columns: DeviceColumns<'_>) -> Result<DeviceEntry, LedgerError> {
    let (last_contact_at, name, report) = columns;
    let report = report.map(|(received_at, status)| {
        Ok::<_, LedgerError>(DeviceReport { received_at, status: serde_json::from_str(status)? })
    });
    Ok(DeviceEntry {
        device: DeviceId(Uuid::from_u128(device)),
        name: name.into(),
        last_contact_at,
        report: report.transpose()?,
    })
}
