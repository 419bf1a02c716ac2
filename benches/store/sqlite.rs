//! The same queue on SQLite, as fast as possible there: WAL, synchronous=FULL, a schema for the same work.
//!
//! It detects repeated ids, keeps its limits with counters, and claims a batch with a row, in the commit that settles
//! the previous one. It has no keys, priorities or failures, which is an advantage.

use std::path::Path;

use rusqlite::{Connection, Params, params};

use crate::group::GroupSink;
use crate::lifecycle::{BATCH_RECORDS, KEEP_RECEIPTS_MS, RecordLifecycle};
use crate::record::{RECORD_TYPE, Record};

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA cache_size = -8192;
    CREATE TABLE payload (place INTEGER PRIMARY KEY, sealed BLOB NOT NULL);
    CREATE TABLE manifest (
        id BLOB PRIMARY KEY, place INTEGER NOT NULL, state INTEGER NOT NULL, attempts INTEGER NOT NULL,
        type TEXT NOT NULL, key TEXT, payload_bytes INTEGER NOT NULL, digest BLOB NOT NULL,
        submitter INTEGER NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
        due_at INTEGER, batch BLOB, error BLOB
    ) WITHOUT ROWID;
    CREATE TABLE receipts (place INTEGER PRIMARY KEY, id BLOB NOT NULL, settled_at INTEGER NOT NULL);
    CREATE TABLE batch (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL);
    CREATE TABLE counters (
        next_seq INTEGER NOT NULL, pending INTEGER NOT NULL, synced INTEGER NOT NULL, bytes INTEGER NOT NULL
    );
    INSERT INTO counters VALUES (1, 0, 0, 0);
";
/// Receipts that one settlement examines, as in our store.
const PRUNE_RECEIPTS: i64 = 100;
const BATCH_RECORDS_SQL: i64 = BATCH_RECORDS.cast_signed() as i64;
const QUEUE_RECORDS_MAX: i64 = 1 << 40;
const QUEUE_BYTES_MAX: i64 = 1 << 50;
const PENDING_STATE: i64 = 0;
const SYNCED_STATE: i64 = 2;

pub(crate) struct Sqlite {
    connection: Connection,
    counters: Counters,
    buffer: Vec<u8>,
    claimed: Vec<(i64, Vec<u8>)>,
    now: i64,
    commits: u64,
}

struct Counters {
    next_seq: i64,
    pending: i64,
    synced: i64,
    bytes: i64,
}

impl Sqlite {
    pub(crate) fn open(dir: &Path) -> Self {
        let connection = Connection::open(dir.join("queue.sqlite")).expect("SQLite opens");
        connection.set_prepared_statement_cache_capacity(64);
        connection.execute_batch(SCHEMA).expect("the schema is made");
        let counters = Counters { next_seq: 1, pending: 0, synced: 0, bytes: 0 };
        Self { connection, counters, buffer: Vec::new(), claimed: Vec::new(), now: 1_000_000, commits: 0 }
    }

    fn run_sql(&self, sql: &str, values: impl Params) -> usize {
        self.connection.prepare_cached(sql).and_then(|mut run| run.execute(values)).expect(sql)
    }

    /// Runs the work and saves the changed counters in one commit.
    fn in_transaction(&mut self, work: impl FnOnce(&mut Self)) {
        self.now += 1;
        self.commits += 1;
        self.run_sql("BEGIN IMMEDIATE", []);
        work(self);
        let Counters { next_seq, pending, synced, bytes } = self.counters;
        self.run_sql(
            "UPDATE counters SET next_seq = ?, pending = ?, synced = ?, bytes = ?",
            params![next_seq, pending, synced, bytes],
        );
        self.run_sql("COMMIT", []);
    }

    fn insert_record(&mut self, record: &Record) {
        let size = i64::try_from(record.payload.len()).expect("a payload is small");
        let fits = self.counters.pending < QUEUE_RECORDS_MAX
            && self.counters.bytes.saturating_add(size) <= QUEUE_BYTES_MAX;
        assert!(fits, "there is room");
        let place = self.counters.next_seq;
        let new = self.run_sql(
            "INSERT INTO manifest VALUES (?, ?, ?, 0, ?, NULL, ?, ?, 0, ?, ?, NULL, NULL, NULL) \
             ON CONFLICT DO NOTHING",
            params![
                record.id.0.as_bytes(),
                place,
                PENDING_STATE,
                RECORD_TYPE,
                size,
                record.payload_digest(),
                self.now,
                self.now
            ],
        );
        assert_eq!(new, 1, "the record is new");
        self.buffer.clear();
        record.seal_into(self.now.unsigned_abs(), &mut self.buffer);
        self.run_sql("INSERT INTO payload VALUES (?, ?)", params![place, self.buffer]);
        self.counters.next_seq += 1;
        self.counters.pending += 1;
        self.counters.bytes += size;
    }

    fn settle_batch(&mut self) {
        for (place, id) in std::mem::take(&mut self.claimed) {
            let size: i64 = self
                .connection
                .prepare_cached(
                    "UPDATE manifest SET state = ?, attempts = attempts + 1, updated_at = ?, batch = ? \
                     WHERE id = ? RETURNING payload_bytes",
                )
                .and_then(|mut update| {
                    update.query_row(params![SYNCED_STATE, self.now, [0_u8; 16], id], |row| row.get(0))
                })
                .expect("the record is known");
            self.run_sql("DELETE FROM payload WHERE place = ?", [place]);
            self.run_sql("INSERT INTO receipts VALUES (?, ?, ?)", params![place, id, self.now]);
            self.counters.pending -= 1;
            self.counters.synced += 1;
            self.counters.bytes -= size;
        }
        self.run_sql("DELETE FROM batch", []);
    }

    fn prune_receipts(&mut self) {
        let before = self.now - KEEP_RECEIPTS_MS.cast_signed();
        let old = self.select_rows(
            "SELECT place, id FROM (SELECT * FROM receipts ORDER BY place LIMIT ?) WHERE settled_at < ?",
            params![PRUNE_RECEIPTS, before],
        );
        for (place, id) in old {
            self.run_sql("DELETE FROM receipts WHERE place = ?", [place]);
            self.run_sql("DELETE FROM manifest WHERE id = ?", [id]);
            self.counters.synced -= 1;
        }
    }

    fn claim_batch(&mut self) {
        // The id of a sealed record follows its magic number and its length.
        self.claimed = self.select_rows(
            "SELECT place, substr(sealed, 13, 16) FROM payload ORDER BY place LIMIT ?",
            [BATCH_RECORDS_SQL],
        );
        assert_eq!(self.claimed.len(), BATCH_RECORDS, "batches are full");
        let place = |claimed: Option<&(i64, Vec<u8>)>| claimed.map(|(place, _)| *place);
        let ends = (place(self.claimed.first()), place(self.claimed.last()));
        self.run_sql("INSERT INTO batch VALUES (NULL, ?, ?)", ends);
    }

    fn select_rows(&self, sql: &str, values: impl Params) -> Vec<(i64, Vec<u8>)> {
        let mut select = self.connection.prepare_cached(sql).expect(sql);
        let rows = select.query_map(values, |row| Ok((row.get(0)?, row.get(1)?))).expect(sql);
        rows.collect::<Result<_, _>>().expect(sql)
    }
}

impl GroupSink for Sqlite {
    fn commit_group(&mut self, group: &[Record]) {
        self.in_transaction(|sqlite| group.iter().for_each(|record| sqlite.insert_record(record)));
    }
}

impl RecordLifecycle for Sqlite {
    fn append(&mut self, records: Vec<Record>) {
        self.commit_group(&records);
    }

    fn settle_and_claim(&mut self) {
        self.in_transaction(|sqlite| {
            sqlite.settle_batch();
            sqlite.prune_receipts();
            sqlite.claim_batch();
        });
    }

    fn commit_count(&self) -> u64 {
        self.commits
    }
}
