//! The table of devices.

use tokio_postgres::{Error as DatabaseError, GenericClient};

/// The index is the order in which devices are listed and deleted.
const CREATE_TABLE: &str = "
    CREATE TABLE IF NOT EXISTS fieldsync.devices (
        device_id uuid PRIMARY KEY, name text NOT NULL, last_contact_ms bigint NOT NULL,
        last_status_ms bigint, status text
    );
    CREATE INDEX IF NOT EXISTS devices_last_contact ON fieldsync.devices (last_contact_ms, device_id);
";

/// Creates the table unless it exists: ledgers of older gateways lack it.
pub(super) async fn create_device_table(client: &impl GenericClient) -> Result<(), DatabaseError> {
    let has_table = "SELECT to_regclass('fieldsync.devices') IS NOT NULL";
    if !client.query_typed_one(has_table, &[]).await?.try_get::<_, bool>(0)? {
        client.batch_execute(CREATE_TABLE).await?;
    }
    Ok(())
}
