//! A real queue in its own directory, and a clock that only tests advance.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use uuid::Uuid;

use super::disk::SimulatedDisk;
use crate::clock::Now;
use crate::config;
use crate::model::{Batch, BatchId, LastError, ManifestEntry, NewRecord, RecordId, Sequence, SizeRule};
use crate::policy::scheduler::{ClaimOrder, Disposition, Outcome};
use crate::policy::sizing::BatchLimit;
use crate::protocol::receipt::Receipt;
use crate::store::WaitingNotes;
use crate::store::options::StoreOptions;
use crate::store::schema::RecordHeader;
use crate::store::{
    Append, AppendSummary, Claim, Dispatch, KeySpace, Op, OpenError, Queue, QueueLimits, ReviewAction,
    Settle, SettleSummary, SingleOp, StoreError, StoreView,
};

pub(super) const HOUR_MS: u64 = 3_600_000;

/// How far the wall clock is ahead of the steady clock.
pub(super) const WALL_AHEAD_MS: u64 = 1_000 * HOUR_MS;

/// Opens a queue without a progress callback.
pub(super) fn open_queue_in(dir: &Path) -> Queue {
    open_queue_with(KeySpace::default(), dir)
}

pub(super) fn open_queue_with(key_space: KeySpace, dir: &Path) -> Queue {
    Queue::open(dir, key_space, Arc::new(|_| ())).unwrap()
}

pub(super) struct QueueBench {
    pub(super) dir: TempDir,
    /// Replaces the directory in tests with disk faults.
    pub(super) disk: Option<SimulatedDisk>,
    queue: Option<Queue>,
    /// Steady time.
    pub(super) now: u64,
    /// The wall clock, if it is independent of the steady clock.
    pub(super) wall: Option<u64>,
    pub(super) limits: QueueLimits,
    /// For the next start.
    pub(super) key_space: KeySpace,
}

impl QueueBench {
    pub(super) fn new() -> Self {
        Self::open_at(tempfile::tempdir().unwrap())
    }

    /// On the files in a directory.
    pub(super) fn open_at(dir: TempDir) -> Self {
        let mut bench = Self::new_closed(dir, None);
        bench.open_queue().unwrap();
        bench
    }

    /// On a simulated disk, with the queue not yet opened.
    pub(super) fn on_disk(disk: SimulatedDisk) -> Self {
        Self::new_closed(tempfile::tempdir().unwrap(), Some(disk))
    }

    fn new_closed(dir: TempDir, disk: Option<SimulatedDisk>) -> Self {
        let limits = QueueLimits {
            max_records: 1000,
            max_bytes: 1 << 20,
            max_disk_bytes: 1 << 40,
            user_share: 1.0,
            own_uid: 0,
            max_record_bytes: 1000,
            keep_synced_ms: HOUR_MS,
            disk_reserve: 0,
        };
        Self { dir, disk, queue: None, now: HOUR_MS, wall: None, limits, key_space: KeySpace::default() }
    }

    /// Opens the queue, which must be closed.
    pub(super) fn open_queue(&mut self) -> Result<(), OpenError> {
        assert!(self.queue.is_none());
        self.queue = Some(match self.disk.clone() {
            Some(disk) => {
                let options = StoreOptions { key_space: self.key_space, progress: Arc::new(|_| ()) };
                Queue::open_on(Box::new(disk), options)?
            }
            None => open_queue_with(self.key_space, self.dir.path()),
        });
        Ok(())
    }

    pub(super) fn queue(&self) -> &Queue {
        self.queue.as_ref().unwrap()
    }

    pub(super) fn queue_mut(&mut self) -> &mut Queue {
        self.queue.as_mut().unwrap()
    }

    /// Wall and steady time differ, so that no test passes if they are confused.
    pub(super) fn now(&self) -> Now {
        Now { steady: self.now, wall: self.wall.unwrap_or(self.now + WALL_AHEAD_MS) }
    }

    /// Commits one operation.
    pub(super) fn run<O: Op>(&mut self, op: O) -> O::Reply {
        self.try_run(op).unwrap()
    }

    pub(super) fn try_run<O: Op>(&mut self, op: O) -> Result<O::Reply, StoreError> {
        let (done, reply) = self.attempt(op);
        done.map(|_| reply.unwrap())
    }

    /// As [`QueueBench::try_run`]. After an error, returns the reply as well, if there was one.
    pub(super) fn attempt<O: Op>(&mut self, op: O) -> (Result<bool, StoreError>, Option<O::Reply>) {
        let (limits, now) = (self.limits, self.now());
        let mut one = SingleOp::new(op);
        let done = self.queue_mut().commit(limits, now, &mut one);
        (done, one.into_reply())
    }

    /// Runs one step of idle maintenance.
    pub(super) fn run_idle_maintenance(&mut self) -> bool {
        let (limits, now) = (self.limits, self.now());
        self.queue_mut().run_idle_maintenance(limits, now, &mut WaitingNotes::default()).unwrap()
    }

    /// Calls `read` with a reader's view.
    pub(super) fn with_view<T>(&self, read: impl FnOnce(&StoreView) -> Result<T, StoreError>) -> T {
        view_queue(self.queue(), self.now(), read)
    }

    pub(super) fn find_entry(&self, id: RecordId) -> Option<ManifestEntry> {
        self.with_view(|view| view.find_entry(id))
    }

    pub(super) fn close_queue(&mut self) -> Result<(), StoreError> {
        self.queue.take().unwrap().close()
    }

    /// As when the process or the power ends.
    pub(super) fn drop_queue(&mut self) {
        self.queue = None;
    }

    pub(super) fn reopen_queue(&mut self) {
        self.close_queue().unwrap();
        self.open_queue().unwrap();
    }

    /// Closes the queue and returns its directory.
    pub(super) fn close_all(mut self) -> TempDir {
        self.close_queue().unwrap();
        self.dir
    }

    /// Continues on a copy of the file as the last commit left it, never closed.
    pub(super) fn crash_process(&mut self) {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(self.dir.path().join("queue.redb"), dir.path().join("queue.redb")).unwrap();
        self.queue = None;
        self.queue = Some(open_queue_with(self.key_space, dir.path()));
        self.dir = dir;
    }

    pub(super) fn append(&mut self, records: Vec<NewRecord>) -> AppendSummary {
        self.append_by(0, records)
    }

    /// As [`QueueBench::append`], for another user.
    pub(super) fn append_by(&mut self, submitter: u32, records: Vec<NewRecord>) -> AppendSummary {
        self.run(Append::new(records, submitter)).unwrap()
    }

    pub(super) fn claim(&mut self, records: usize) -> Option<Batch> {
        self.run(Claim::new(claim_order(records, u64::MAX)))
    }

    /// As [`QueueBench::claim`], with one record of a key at most.
    pub(super) fn claim_one_per_key(&mut self, records: usize) -> Option<Batch> {
        self.run(Claim::new(ClaimOrder { one_per_key: true, ..claim_order(records, u64::MAX) }))
    }

    pub(super) fn dispatch(&mut self, batch: BatchId) -> Option<Batch> {
        self.run(Dispatch { batch, sequence: Sequence { index: 7, total: 9 }, one_per_key: false })
    }

    pub(super) fn settle(&mut self, batch: BatchId, disposition: Disposition) -> SettleSummary {
        self.run(Settle { batch, disposition, retry: retry_config(), then: None, note: None })
    }

    pub(super) fn close_batch(&mut self, batch: BatchId, outcome: Outcome) -> SettleSummary {
        self.settle(batch, Disposition::close_all(outcome))
    }

    pub(super) fn attempts_of(&self, id: RecordId) -> u32 {
        self.find_entry(id).unwrap().attempts
    }
}

pub(super) fn view_queue<T>(
    queue: &Queue,
    now: Now,
    read: impl FnOnce(&StoreView) -> Result<T, StoreError>,
) -> T {
    queue.reader().with_view(now, read).unwrap()
}

pub(super) fn retry_config() -> config::Retry {
    let mut retry = config::Retry::default();
    retry.max_backoff.0 = Duration::from_millis(HOUR_MS);
    retry
}

pub(super) fn claim_order(records: usize, bytes: u64) -> ClaimOrder {
    ClaimOrder {
        limit: BatchLimit { records, bytes, rule: SizeRule::Standard, bytes_rule: None, time: None },
        sequence: Sequence { index: 1, total: 3 },
        one_per_key: false,
    }
}

pub(super) fn id(number: u128) -> RecordId {
    RecordId(Uuid::from_u128(number))
}

pub(super) fn record(number: u128, key: Option<&str>) -> NewRecord {
    NewRecord {
        id: id(number),
        record_type: "Visits".into(),
        key: key.map(Into::into),
        priority: 5,
        payload: format!("{{\"n\":{number}}}").into(),
    }
}

pub(super) fn ids(batch: &Batch) -> Vec<u128> {
    batch.records.iter().map(|record| record.id.0.as_u128()).collect()
}

/// A receipt of the server with this many bytes.
pub(super) fn receipt(bytes: usize) -> Option<Receipt> {
    let receipt = Receipt::parse(&format!("{{\"id\":\"{}\"}}", "7".repeat(bytes - 9)));
    assert!(receipt.is_some());
    receipt
}

pub(super) fn discard() -> ReviewAction {
    ReviewAction::Discard { by: "alice".into() }
}

pub(super) fn test_error(message: &str) -> LastError {
    LastError {
        class: "test".into(),
        http_status: Some(504),
        code: None,
        message: message.into(),
        field: None,
        at: 1,
    }
}

/// A header with another value in each field.
pub(in crate::store) fn sample_header() -> RecordHeader {
    RecordHeader {
        id: 1,
        position: 2,
        record_type: "T".into(),
        key: Some("k".into()),
        submitter: 3,
        created_at: 4,
        bytes: 5,
        digest: [7; 16],
    }
}
