//! The table of devices.

/// The index is the order in which devices are listed and deleted.
pub(super) const CREATE_DEVICE_TABLE: &str = "
    CREATE TABLE fieldsync.devices (
        device_id uuid PRIMARY KEY, name text NOT NULL, last_contact_ms bigint NOT NULL,
        last_status_ms bigint, status text
    );
    CREATE INDEX devices_last_contact ON fieldsync.devices (last_contact_ms, device_id);
";
