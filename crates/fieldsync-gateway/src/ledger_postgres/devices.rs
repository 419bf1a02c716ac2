//! The devices, a row for each. Every operation is one statement without state of a session.

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::operation_error::OperationError;
use super::{PostgresLedger, count_to_i64, to_i64, to_u64};
use crate::ledger::{
    DeviceCounts, DeviceEntry, DeviceLedger, DevicePosition, DevicePruning, DeviceReport, LedgerError,
};
use crate::model::DeviceId;

/// In the order of ids, so that gateways cannot deadlock. The conditions are those of [`DeviceEntry::merge`].
const UPSERT_DEVICES: &str = "
    INSERT INTO fieldsync.devices AS old (device_id, name, last_contact_ms, last_status_ms, status)
    SELECT device_id, name, last_contact_ms, last_status_ms, status
    FROM unnest($1, $2, $3, $4, $5) AS new (device_id, name, last_contact_ms, last_status_ms, status)
    ORDER BY device_id
    ON CONFLICT (device_id) DO UPDATE SET
        name = CASE WHEN excluded.name <> ''
            AND (excluded.last_contact_ms >= old.last_contact_ms OR old.last_contact_ms > $6 OR old.name = '')
            THEN excluded.name ELSE old.name END,
        last_contact_ms = CASE WHEN old.last_contact_ms > $6
            THEN excluded.last_contact_ms ELSE greatest(excluded.last_contact_ms, old.last_contact_ms) END,
        status = CASE WHEN excluded.last_status_ms >= coalesce(old.last_status_ms, 0) OR old.last_status_ms > $6
            THEN coalesce(excluded.status, old.status) ELSE old.status END,
        last_status_ms = CASE WHEN old.last_status_ms > $6
            THEN coalesce(excluded.last_status_ms, old.last_status_ms)
            ELSE greatest(excluded.last_status_ms, old.last_status_ms) END";
const SELECT_DEVICES: &str = "
    SELECT device_id, name, last_contact_ms, last_status_ms, status FROM fieldsync.devices
    WHERE (last_contact_ms, device_id) > ($1, $2) AND last_contact_ms < $3
    ORDER BY last_contact_ms, device_id LIMIT $4";
const COUNT_DEVICES: &str = "
    SELECT count(*), count(*) FILTER (WHERE last_contact_ms < $1) FROM fieldsync.devices";
/// The condition on the contact is tested again on rows that changed meanwhile.
const DELETE_OLD_DEVICES: &str = "
    WITH old AS (
        SELECT device_id, last_contact_ms FROM (
            SELECT device_id, last_contact_ms, row_number() OVER (ORDER BY last_contact_ms, device_id) AS position
            FROM (
                SELECT device_id, last_contact_ms FROM fieldsync.devices
                ORDER BY last_contact_ms, device_id LIMIT $3
            ) AS oldest
        ) AS numbered
        WHERE last_contact_ms < $1 OR position <= (SELECT count(*) FROM fieldsync.devices) - $2
    )
    DELETE FROM fieldsync.devices USING old
    WHERE devices.device_id = old.device_id AND devices.last_contact_ms = old.last_contact_ms";

impl DeviceLedger for PostgresLedger {
    fn store_devices(&self, entries: &[DeviceEntry], latest: u64) -> Result<(), LedgerError> {
        let latest = to_i64(latest);
        let ids: Vec<Uuid> = entries.iter().map(|entry| entry.device.0).collect();
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let contacts: Vec<i64> = entries.iter().map(|entry| to_i64(entry.last_contact_at)).collect();
        let received: Vec<Option<i64>> = entries
            .iter()
            .map(|entry| entry.report.as_ref().map(|report| to_i64(report.received_at)))
            .collect();
        let statuses = entries
            .iter()
            .map(|entry| {
                entry.report.as_ref().map(|report| serde_json::to_string(&report.status)).transpose()
            })
            .collect::<Result<Vec<Option<String>>, _>>()?;
        self.sessions.run_in_any(async |session| {
            session
                .client
                .execute_typed(
                    UPSERT_DEVICES,
                    &[
                        (&ids, Type::UUID_ARRAY),
                        (&names, Type::TEXT_ARRAY),
                        (&contacts, Type::INT8_ARRAY),
                        (&received, Type::INT8_ARRAY),
                        (&statuses, Type::TEXT_ARRAY),
                        (&latest, Type::INT8),
                    ],
                )
                .await?;
            Ok(())
        })
    }

    fn devices_after(
        &self,
        after: Option<DevicePosition>,
        before: Option<u64>,
        rows_max: usize,
    ) -> Result<Vec<DeviceEntry>, LedgerError> {
        // No contact is before 1970.
        let (at, device) =
            after.map_or((-1, Uuid::nil()), |after| (to_i64(after.last_contact_at), after.device.0));
        let (before, rows_max) = (before.map_or(i64::MAX, to_i64), count_to_i64(rows_max));
        self.sessions.run_in_any(async |session| {
            let rows = session
                .client
                .query_typed(
                    SELECT_DEVICES,
                    &[
                        (&at, Type::INT8),
                        (&device, Type::UUID),
                        (&before, Type::INT8),
                        (&rows_max, Type::INT8),
                    ],
                )
                .await?;
            rows.iter().map(decode_entry).collect()
        })
    }

    fn count_devices(&self, overdue_before: u64) -> Result<DeviceCounts, LedgerError> {
        let before = to_i64(overdue_before);
        self.sessions.run_in_any(async |session| {
            let row = session.client.query_typed_one(COUNT_DEVICES, &[(&before, Type::INT8)]).await?;
            Ok(DeviceCounts { known: to_u64(row.try_get(0)?), overdue: to_u64(row.try_get(1)?) })
        })
    }

    fn prune_devices(&self, pruning: DevicePruning) -> Result<usize, LedgerError> {
        let (before, devices_max) = (to_i64(pruning.before), to_i64(pruning.devices_max));
        let step_max = count_to_i64(pruning.step_max);
        self.sessions.run_in_any(async |session| {
            let deleted = session
                .client
                .execute_typed(
                    DELETE_OLD_DEVICES,
                    &[(&before, Type::INT8), (&devices_max, Type::INT8), (&step_max, Type::INT8)],
                )
                .await?;
            Ok(usize::try_from(deleted).unwrap_or(pruning.step_max))
        })
    }
}

fn decode_entry(row: &Row) -> Result<DeviceEntry, OperationError> {
    let received_at: Option<i64> = row.try_get(3)?;
    let status: Option<&str> = row.try_get(4)?;
    let report = received_at.zip(status).map(|(received_at, status)| {
        Ok::<_, OperationError>(DeviceReport {
            received_at: to_u64(received_at),
            status: serde_json::from_str(status)?,
        })
    });
    Ok(DeviceEntry {
        device: DeviceId(row.try_get(0)?),
        name: row.try_get(1)?,
        last_contact_at: to_u64(row.try_get(2)?),
        report: report.transpose()?,
    })
}
