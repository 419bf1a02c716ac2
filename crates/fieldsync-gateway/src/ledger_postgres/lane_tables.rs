//! The tables of records that forwarding set aside.

/// `forward_lanes`: the blocked lanes; those without `due_at_ms` have a refused record. `forward_parked`: all records
/// of blocked lanes.
pub(super) const CREATE_LANE_TABLES: &str = "
    CREATE TABLE fieldsync.forward_lanes (
        lane uuid PRIMARY KEY, head_seq bigint NOT NULL, record_id uuid NOT NULL, due_at_ms bigint,
        attempts bigint NOT NULL, at_ms bigint NOT NULL, code text, message text, field text
    );
    CREATE INDEX forward_lanes_due ON fieldsync.forward_lanes (due_at_ms, lane) WHERE due_at_ms IS NOT NULL;
    CREATE INDEX forward_lanes_refused ON fieldsync.forward_lanes (record_id) WHERE due_at_ms IS NULL;
    CREATE TABLE fieldsync.forward_parked (
        lane uuid, seq bigint, id uuid NOT NULL, device_id uuid NOT NULL, batch_id uuid NOT NULL,
        type text NOT NULL, key text, applied_at_ms bigint NOT NULL, payload text NOT NULL,
        PRIMARY KEY (lane, seq)
    );
    CREATE INDEX forward_parked_by_seq ON fieldsync.forward_parked (seq);
";
