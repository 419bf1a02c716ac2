//! The store's interface for fuzz targets.

#[path = "tests/audit.rs"]
mod audit;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::queue::Queue;
use super::schema::{ManifestRow, RecordHeader};
use super::{
    Append, Claim, KeySpace, Op, OpenError, QueueLimits, Salvage, SaveNote, Settle, SingleOp, body, codec,
};
use crate::clock::Now;
use crate::config;
use crate::model::{BatchId, BatchPhase, LastError, NewRecord, RecordId, Sequence, SizeRule};
use crate::policy::scheduler::{ClaimOrder, Disposition, Outcome};
use crate::policy::sizing::BatchLimit;
use crate::protocol::receipt::Receipt;

pub use super::salvage::fuzzing::{Carver, assert_rows, reseal, shrink_pages};

/// Records of a sound store.
const RECORDS: u128 = 60;
/// Its two records that are larger than a page.
const LARGE: [u128; 2] = [30, 57];
/// What the server said that some of them became.
const RECEIPT: &str = r#"{"module":"Visits","id":"4150868000000123","action":"insert"}"#;
/// The user who submitted all of them.
const SUBMITTER: u32 = 1000;
const HOUR_MS: u64 = 3_600_000;
const LIMITS: QueueLimits = QueueLimits {
    max_records: 10_000,
    max_bytes: 1 << 30,
    max_disk_bytes: 1 << 30,
    user_share: 1.0,
    own_uid: 0,
    max_record_bytes: 1 << 20,
    keep_synced_ms: HOUR_MS,
    disk_reserve: 0,
};

/// A store with records in every state.
pub struct SoundStore {
    /// Its file after a clean close.
    pub closed: Vec<u8>,
    /// Its file after a crash.
    pub crashed: Vec<u8>,
    records: BTreeMap<u128, NewRecord>,
}

fn new_record(number: u128) -> NewRecord {
    let fill = if LARGE.contains(&number) { 9_000 } else { 40 };
    NewRecord {
        id: RecordId(Uuid::from_u128(number)),
        record_type: "Visits".into(),
        key: (number % 5 == 0).then(|| format!("key {}", number % 3)),
        priority: if number % 11 == 0 { 7 } else { 5 },
        payload: format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(fill)).into(),
    }
}

impl SoundStore {
    /// Creates the store in an empty directory.
    pub fn make(directory: &Path) -> Self {
        let mut queue = open(directory).unwrap();
        let records: Vec<NewRecord> = (1..=RECORDS).map(new_record).collect();
        for some in records.chunks(20) {
            run(&mut queue, Append::new(some.to_vec(), SUBMITTER)).unwrap();
        }
        for (many, outcome) in [
            (5, Outcome::Synced(None)),
            (5, Outcome::Synced(Receipt::parse(RECEIPT))),
            (6, Outcome::Quarantine(error())),
            (6, Outcome::Retry(error())),
        ] {
            let batch = claim(&mut queue, many).unwrap();
            settle(&mut queue, batch, Disposition::close_all(outcome));
        }
        run(&mut queue, SaveNote { name: "note", note: b"component notes".to_vec() });
        claim(&mut queue, 5).unwrap();
        let waiting = claim(&mut queue, 4).unwrap();
        let phase = BatchPhase::Waiting;
        settle(&mut queue, waiting, Disposition::Keep { phase, lone_failures: 0, error: Some(error()) });
        audit::audit(&mut queue);
        let path = directory.join("queue.redb");
        let crashed = std::fs::read(&path).unwrap();
        queue.close().unwrap();
        let records = records.into_iter().map(|record| (record.id.0.as_u128(), record)).collect();
        Self { closed: std::fs::read(&path).unwrap(), crashed, records }
    }

    /// Panics unless the damaged store in this directory opens and contains only records of this one. `is_forged` tells
    /// whether a record with this id was written into the damaged file.
    pub fn assert_recovered(&self, directory: &Path, is_forged: impl Fn(u128) -> bool) {
        let mut queue = match open(directory) {
            Ok(queue) => queue,
            Err(OpenError::NewerSchema { .. }) => return,
            Err(error) => panic!("it does not open: {error}"),
        };
        audit::audit(&mut queue);
        self.assert_known(&queue, is_forged);
        assert_usable(&mut queue);
        queue.close().unwrap();
    }

    fn assert_known(&self, queue: &Queue, is_forged: impl Fn(u128) -> bool) {
        let tables = queue.take_snapshot().unwrap();
        for item in tables.manifest.range::<u128>(..).unwrap() {
            let (id, row) = item.unwrap();
            let (id, row): (u128, ManifestRow) = (id.value(), codec::decode_row(row.value()).unwrap());
            assert_plausible(&row.record_type, row.key.as_deref());
            if !row.state.is_unsettled() || is_forged(id) {
                continue;
            }
            let (header, body) = body::read_payload(&tables.payload, &tables.chunks, row.position)
                .unwrap()
                .expect("it is unsettled");
            let RecordHeader { id, submitter, record_type, key, .. } = header;
            let sound = self.records.get(&id).expect("a record was invented");
            assert_eq!(submitter, SUBMITTER);
            assert_eq!((&record_type, &key, &body), (&sound.record_type, &sound.key, &sound.payload));
        }
    }

    /// As [`Self::assert_recovered`], for a file that is salvaged by hand.
    pub fn assert_salvaged(&self, file: &Path, scratch: &Path, is_forged: impl Fn(u128) -> bool) {
        let Ok(salvage) = Salvage::read_file(file, scratch) else { return };
        let mut found = 0;
        for record in salvage.list_records().unwrap() {
            let record = record.unwrap();
            found += 1;
            assert_plausible(&record.record_type, record.key.as_deref());
            let id = record.id.0.as_u128();
            if is_forged(id) {
                continue;
            }
            let sound = self.records.get(&id).expect("a record was invented");
            let parts =
                |record: &NewRecord| (record.record_type.clone(), record.key.clone(), record.payload.clone());
            assert_eq!(parts(&record), parts(sound));
        }
        assert_eq!(found, salvage.salvaged);
    }
}

/// The sealed row of a record with its whole body.
pub fn seal(id: u128, position: u64, record_type: &str, key: Option<&str>, payload: &str) -> Vec<u8> {
    let digest = super::append::content_digest(record_type, key, payload);
    let (record_type, key) = (record_type.to_owned(), key.map(Into::into));
    let bytes = u32::try_from(payload.len()).unwrap();
    let header =
        RecordHeader { id, position, record_type, key, submitter: 0, created_at: HOUR_MS, bytes, digest };
    codec::seal_row(&codec::encode_header(&header).unwrap(), payload.as_bytes()).unwrap()
}

/// Opens a store without checking its content.
pub fn open(directory: &Path) -> Result<Queue, OpenError> {
    Queue::open(directory, KeySpace::default(), Arc::new(|_| ()))
}

fn assert_plausible(record_type: &str, key: Option<&str>) {
    let mut letters = record_type.chars().chain(key.unwrap_or_default().chars());
    assert!(!record_type.is_empty() && !letters.any(char::is_control), "{record_type:?} {key:?}");
}

/// Panics unless records can be appended, claimed and settled.
fn assert_usable(queue: &mut Queue) {
    let mut record = new_record(RECORDS + 1);
    record.priority = 9;
    record.key = None;
    let id = record.id;
    let appended = run(queue, Append::new(vec![record], SUBMITTER)).unwrap();
    assert_eq!(appended.accepted, 1);
    let batch = claim(queue, 1000).expect("a record waits");
    let entry = queue.reader().with_view(now(queue), |view| view.find_entry(id)).unwrap().unwrap();
    assert_eq!(entry.batch_id, Some(batch));
    settle(queue, batch, Disposition::close_all(Outcome::Synced(None)));
    audit::audit(queue);
}

fn now(queue: &Queue) -> Now {
    Now { steady: queue.last_steady().max(HOUR_MS) + 1, wall: HOUR_MS }
}

fn run<O: Op>(queue: &mut Queue, op: O) -> O::Reply {
    let mut one = SingleOp::new(op);
    let now = now(queue);
    queue.commit(LIMITS, now, &mut one).unwrap();
    one.into_reply().unwrap()
}

fn claim(queue: &mut Queue, records: usize) -> Option<BatchId> {
    let limit =
        BatchLimit { records, bytes: u64::MAX, rule: SizeRule::Standard, bytes_rule: None, time: None };
    let batch = run(
        queue,
        Claim::new(ClaimOrder { limit, sequence: Sequence { index: 1, total: 3 }, one_per_key: false }),
    );
    batch.map(|batch| batch.open.id)
}

fn settle(queue: &mut Queue, batch: BatchId, disposition: Disposition) {
    run(queue, Settle { batch, disposition, retry: config::Retry::default(), then: None, note: None });
}

fn error() -> LastError {
    LastError {
        class: "test".into(),
        http_status: Some(504),
        code: None,
        message: "late".into(),
        field: Some("/text".into()),
        at: HOUR_MS,
    }
}
