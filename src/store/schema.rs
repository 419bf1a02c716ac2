//! The tables and their rows. A change needs a new schema version and a migration.

use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTable, Table, TableDefinition,
    TableError, Value, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::codec::{self, CodecError, StoredRow};
use super::disk_use::estimate_disk_bytes;
use super::error::StoreError;
use super::key_space::{KeySpace, Lane, LanePosition};
use crate::model::{BatchPhase, LastError, QueuePosition, SizeRule, Stage};

/// The schema version that this program writes.
pub(super) const SCHEMA_VERSION: u32 = 3;

/// Position → sealed [`RecordHeader`] and body, of unsettled and quarantined records.
pub(super) const PAYLOAD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("payload");
/// (Position, index) → the rest of a body that does not fit into `payload`.
pub(super) const CHUNKS: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("chunks");
/// Record id → [`ManifestRow`], until the receipt is pruned.
pub(super) const MANIFEST: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("manifest");
/// Batch id → [`BatchRow`] of an open batch, which claims its members.
const BATCHES: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("batches");
/// (Due time in steady milliseconds, position) of FAILED records that are in no batch.
const RETRY: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("retry");
/// Position → id of a QUARANTINED record.
pub(super) const QUARANTINE: TableDefinition<'_, u64, u128> = TableDefinition::new("quarantine");
/// Position → (record id, settlement in steady milliseconds) of a SYNCED or DISCARDED record.
pub(super) const RECEIPTS: TableDefinition<'_, u64, (u128, u64)> = TableDefinition::new("receipts");
/// Position → JSON text of what the server said a SYNCED record became, where it said so. Stores of earlier versions do
/// not have this table.
pub(super) const SERVER_RECEIPTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("server_receipts");
/// (History, number of the change) → id of the record that changed. Stores of earlier versions do not have this table.
pub(super) const CHANGES: TableDefinition<'_, (u64, u64), u128> = TableDefinition::new("changes");
/// Position → id of a DISCARDED record. Stores of earlier versions do not have this table.
pub(super) const DISCARDED: TableDefinition<'_, u64, u128> = TableDefinition::new("discarded");
/// (Owner, key, seq) → position of every record with a key and a stored payload, in sending order.
pub(super) const LANES: TableDefinition<'_, LanePosition<'static>, u64> = TableDefinition::new("owned_lanes");
/// (Key, seq) → position: the lanes of schema version 1.
pub(super) const LANES_OF_VERSION_1: TableDefinition<'_, (&str, u64), u64> = TableDefinition::new("lanes");
/// Name → value: schema version, device id, counters, and notes of other components.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Entries in `meta` that readers of all of them expect at most. Telemetry has about a hundred.
pub(super) const NOTES_MAX: usize = 160;

/// Names in `meta`.
pub(super) mod meta {
    pub(crate) const SCHEMA_KEY: &str = "schema";
    pub(crate) const DEVICE_KEY: &str = "device";
    pub(crate) const COUNTERS_KEY: &str = "counters";
    /// The counters by user.
    pub(crate) const SUBMITTERS_KEY: &str = "submitters";
    /// Whether the lanes were built for shared keys.
    pub(crate) const SHARED_KEYS: &str = "shared_keys";
    /// The estimated disk use of the server's receipts. Missing while there are none.
    pub(crate) const SERVER_RECEIPT_BYTES_KEY: &str = "server_receipt_bytes";
    /// How many records are DISCARDED. Missing while there are none.
    pub(crate) const DISCARDED_COUNT_KEY: &str = "discarded_count";
    /// The last change. Missing before the first one, and ignored if an earlier version has made a commit since.
    pub(crate) const CHANGES_KEY: &str = "changes";
    pub(crate) const PAUSED_KEY: &str = "paused";
    /// Who paused it and when, as JSON. Versions before 0.3 do not know it, and may leave it there after a pause.
    pub(crate) const PAUSE_KEY: &str = "pause";
    /// Unacknowledged notes of damaged files, as JSON.
    pub(crate) const DAMAGE_KEY: &str = "damage";
}

macro_rules! tables {
    ($($field:ident: $key:ty => $value:ty = $definition:ident,)* ; $($added:ident: $added_key:ty => $added_value:ty = $added_definition:ident,)*) => {
        /// All tables, for writing.
        pub(super) struct Tables<'t> {
            $(pub(super) $field: Table<'t, $key, $value>,)*
            $(pub(super) $added: Table<'t, $added_key, $added_value>,)*
        }

        impl<'t> Tables<'t> {
            pub(super) fn open_all(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
                Ok(Self {
                    $($field: transaction.open_table($definition)?,)*
                    $($added: transaction.open_table($added_definition)?,)*
                })
            }
        }

        /// All tables, for reading.
        pub(super) struct Snapshot {
            $(pub(super) $field: ReadOnlyTable<$key, $value>,)*
            $(pub(super) $added: Option<ReadOnlyTable<$added_key, $added_value>>,)*
        }

        impl Snapshot {
            pub(super) fn open_all(transaction: &ReadTransaction) -> Result<Self, StoreError> {
                Ok(Self {
                    $($field: transaction.open_table($definition)?,)*
                    $($added: open_if_exists(transaction, $added_definition)?,)*
                })
            }

            pub(super) fn read_latest(database: &redb::Database) -> Result<Self, StoreError> {
                Self::open_all(&database.begin_read()?)
            }
        }
    };
}

// Those after the semicolon were added later: a store that an earlier version wrote last does not have them.
tables! {
    payload: u64 => &'static [u8] = PAYLOAD,
    chunks: (u64, u32) => &'static [u8] = CHUNKS,
    manifest: u128 => &'static [u8] = MANIFEST,
    batches: u128 => &'static [u8] = BATCHES,
    retry: (u64, u64) => () = RETRY,
    quarantine: u64 => u128 = QUARANTINE,
    receipts: u64 => (u128, u64) = RECEIPTS,
    lanes: LanePosition<'static> => u64 = LANES,
    meta: &'static str => &'static [u8] = META,
    ;
    server_receipts: u64 => &'static [u8] = SERVER_RECEIPTS,
    changes: (u64, u64) => u128 = CHANGES,
    discarded: u64 => u128 = DISCARDED,
}

/// Opens a table that a store of an earlier version does not have until the first commit.
fn open_if_exists<K: Key + 'static, V: Value + 'static>(
    transaction: &ReadTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, StoreError> {
    match transaction.open_table(definition) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

/// Due time of a FAILED record that an earlier record of its key blocks. It is woken when that record leaves the lane.
pub(super) const DUE_WHEN_UNBLOCKED: u64 = u64::MAX;

/// The order of arrival of the record at a position.
pub(super) fn seq_of(position: u64) -> u64 {
    QueuePosition(position).seq()
}

/// Reads the manifest row of a record.
pub(super) fn manifest_row(
    manifest: &impl ReadableTable<u128, &'static [u8]>,
    id: u128,
) -> Result<Option<ManifestRow>, StoreError> {
    let value = manifest.get(id)?;
    value.map(|value| codec::decode_row(value.value())).transpose().map_err(StoreError::from)
}

/// Header of a payload: what a batch needs without the manifest, and enough to restore the record if nothing else can
/// be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordHeader {
    pub(super) id: u128,
    pub(super) position: u64,
    pub(super) record_type: String,
    pub(super) key: Option<String>,
    /// The user (uid) who submitted the record.
    pub(super) submitter: u32,
    pub(super) created_at: u64,
    /// Size of the whole body.
    pub(super) bytes: u32,
    /// As in the manifest. Chunks carry it as well.
    pub(super) digest: [u8; 16],
}

impl RecordHeader {
    /// The lane of the record.
    pub(super) fn lane_in(&self, key_space: KeySpace) -> Option<Lane> {
        key_space.lane_of(self.submitter, self.key.as_deref())
    }
}

/// What is known about a record.
///
/// It is a [`StoredRow`] of its own: serde encodes all but the field of its error, which only rows of a second version
/// have, and the user who discarded it, whom only rows of a third version have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub(super) struct ManifestRow {
    pub(super) position: u64,
    pub(super) state: StoredState,
    pub(super) attempts: u32,
    pub(super) record_type: String,
    pub(super) key: Option<String>,
    pub(super) payload_bytes: u32,
    /// SHA-256 of type, key and payload, cut to 16 bytes. The same id with another digest is a conflict.
    pub(super) digest: [u8; 16],
    /// The user (uid) who submitted the record.
    pub(super) submitter: u32,
    pub(super) created_at: u64,
    pub(super) updated_at: u64,
    /// In steady milliseconds, as in its row in `retry`.
    pub(super) due_at: Option<u64>,
    pub(super) batch: Option<u128>,
    pub(super) error: Option<StoredError>,
    /// Of a DISCARDED record, and only of such a one: the user who discarded it.
    #[serde(skip)]
    pub(super) discarded_by: Option<String>,
}

impl ManifestRow {
    /// The row of a record that was never sent.
    pub(super) fn new_pending(header: RecordHeader) -> Self {
        Self {
            position: header.position,
            state: StoredState::Pending,
            attempts: 0,
            record_type: header.record_type,
            key: header.key,
            payload_bytes: header.bytes,
            digest: header.digest,
            submitter: header.submitter,
            created_at: header.created_at,
            updated_at: header.created_at,
            due_at: None,
            batch: None,
            error: None,
            discarded_by: None,
        }
    }

    /// The lane of the record until it is settled.
    pub(super) fn lane_in(&self, key_space: KeySpace) -> Option<Lane> {
        key_space.lane_of(self.submitter, self.key.as_deref())
    }

    /// The estimated disk space of the record until it is settled.
    pub(super) fn disk_bytes(&self) -> u64 {
        estimate_disk_bytes(&self.record_type, self.key.as_deref(), self.payload_bytes.into())
    }
}

/// The stored states. A record is SYNCING when a batch in flight names it, so that state is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum StoredState {
    Pending,
    Failed,
    Synced,
    Quarantined,
    /// Only in rows of the third version.
    Discarded,
}

impl StoredState {
    /// Whether the payload of a record in this state is stored. Of others, only a receipt is.
    pub(super) fn is_unsettled(self) -> bool {
        !matches!(self, Self::Synced | Self::Discarded)
    }
}

/// As [`crate::model::LastError`], whose serde form is for the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredError {
    pub(super) class: String,
    pub(super) http_status: Option<u16>,
    pub(super) code: Option<String>,
    pub(super) message: String,
    pub(super) at: u64,
    /// Behind the row of the record, where there is one.
    #[serde(skip)]
    pub(super) field: Option<String>,
}

/// The version of rows whose error has a field.
const ROW_WITH_FIELD_VERSION: u8 = 2;
/// The version of rows of discarded records.
const DISCARDED_ROW_VERSION: u8 = 3;

impl StoredRow for ManifestRow {
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        #[derive(Serialize)]
        struct PlainRow<'r>(#[serde(serialize_with = "ManifestRow::serialize")] &'r ManifestRow);

        let field = self.error.as_ref().and_then(|error| error.field.as_deref());
        match (&self.discarded_by, field) {
            (Some(user), field) => {
                codec::encode_version(DISCARDED_ROW_VERSION, &(PlainRow(self), field, user))
            }
            (None, None) => codec::encode_version(codec::ROW_VERSION, &PlainRow(self)),
            (None, Some(field)) => codec::encode_version(ROW_WITH_FIELD_VERSION, &(PlainRow(self), field)),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        #[derive(Deserialize)]
        struct PlainRow(#[serde(deserialize_with = "ManifestRow::deserialize")] ManifestRow);

        let (PlainRow(mut row), field, user) = match bytes.first() {
            Some(&DISCARDED_ROW_VERSION) => {
                let (row, field, user) = codec::decode_version(DISCARDED_ROW_VERSION, bytes)?;
                (row, field, Some(user))
            }
            Some(&ROW_WITH_FIELD_VERSION) => {
                let (row, field) = codec::decode_version(ROW_WITH_FIELD_VERSION, bytes)?;
                (row, Some(field), None)
            }
            _ => (codec::decode_version(codec::ROW_VERSION, bytes)?, None, None),
        };
        // Damage must not make a discarded record one that was synced or is sent.
        if (row.state == StoredState::Discarded) != user.is_some() {
            return Err(CodecError::Damaged("its state and the user who discarded it contradict each other"));
        }
        row.discarded_by = user;
        if field.is_some() {
            let error = row.error.as_mut();
            error.ok_or(CodecError::Damaged("it has the field of an error, but no error"))?.field = field;
        }
        Ok(row)
    }
}

impl From<StoredError> for LastError {
    fn from(stored: StoredError) -> Self {
        let StoredError { class, http_status, code, message, at, field } = stored;
        Self { class, http_status, code, message, field, at }
    }
}

impl From<&LastError> for StoredError {
    fn from(error: &LastError) -> Self {
        let LastError { class, http_status, code, message, field, at } = error.clone();
        Self { class, http_status, code, message, at, field }
    }
}

/// An enum on disk. Its variants are numbered from 0 in this order, which must not change with the enum that the
/// rest of the program uses.
macro_rules! stored_enum {
    ($(#[$doc:meta])* $name:ident = $shared:ty { $($variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub(super) enum $name { $($variant,)* }

        impl From<$shared> for $name {
            fn from(shared: $shared) -> Self {
                match shared { $(<$shared>::$variant => Self::$variant,)* }
            }
        }

        impl From<$name> for $shared {
            fn from(stored: $name) -> Self {
                match stored { $($name::$variant => Self::$variant,)* }
            }
        }
    };
}

stored_enum! {
    /// [`Stage`] on disk.
    StoredStage = Stage { Fresh, Half, Micro, Single, }
}
stored_enum! {
    /// [`SizeRule`] on disk.
    StoredRule = SizeRule { LargeQueue, LargePayload, Standard, Learned, Micro, Split, ServerHint, }
}
stored_enum! {
    /// [`BatchPhase`] on disk.
    StoredPhase = BatchPhase { InFlight, Unclear, Waiting, }
}

/// An open batch, which claims its members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BatchRow {
    pub(super) parent: Option<u128>,
    pub(super) stage: StoredStage,
    pub(super) rule: StoredRule,
    pub(super) phase: StoredPhase,
    /// `i/N` of its first send; 0/0 before.
    pub(super) sequence: (u32, u32),
    /// Sends under this id, including the current one.
    pub(super) attempt: u32,
    pub(super) lone_failures: u32,
    /// Whether the attempts of its records include the failure of the last send.
    pub(super) counted: bool,
    pub(super) bytes: u64,
    /// In queue order.
    pub(super) members: Vec<MemberRow>,
}

/// A record of an open batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct MemberRow {
    pub(super) position: u64,
    pub(super) id: u128,
    pub(super) bytes: u32,
    /// FAILED in the manifest, otherwise PENDING.
    pub(super) failed: bool,
}

#[cfg(test)]
mod tests;
