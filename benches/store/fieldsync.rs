//! Adapts our store for the measurements. No other file here uses its interface.

use std::path::Path;
use std::sync::Arc;

use actix::prelude::*;
use fieldsync::actors::Drain;
use fieldsync::actors::queue_store::{QueueStore, Write};
use fieldsync::clock::{Now, SteadyClock};
use fieldsync::config::{self, Config, Size};
use fieldsync::model::{
    Backlog, Batch, BatchId, DEFAULT_PRIORITY, LastError, NewRecord, QueuePosition, Sequence, SizeRule,
};
use fieldsync::policy::scheduler::{ClaimOrder, Disposition, Outcome};
use fieldsync::policy::sizing::BatchLimit;
use fieldsync::store::{
    Append, Claim, Filter, KeySpace, Op, Queue, QueueLimits, Settle, SingleOp, WaitingNotes,
};
use fieldsync::telemetry::metrics::sources::commit_times;
use tokio::sync::watch;

use crate::lifecycle::{BATCH_RECORDS, KEEP_RECEIPTS_MS, RecordLifecycle};
use crate::record::{RECORD_TYPE, Record};

/// The store's file in its directory.
pub(crate) const FILE_NAME: &str = "queue.redb";

fn open_queue(dir: &Path) -> Queue {
    Queue::open(dir, KeySpace::default(), Arc::new(|_| ())).expect("the store opens")
}

/// The queue without its actor.
pub(crate) struct Store {
    queue: Queue,
    now: u64,
    commits: u64,
    claimed: Option<BatchId>,
}

impl Store {
    /// Continues with a batch that a killed process left open.
    pub(crate) fn open(dir: &Path) -> Self {
        let queue = open_queue(dir);
        let claimed = queue.open_batches().first().map(|batch| batch.id);
        Self { queue, now: 1_000_000, commits: 0, claimed }
    }

    fn commit_op<O: Op>(&mut self, op: O) -> O::Reply {
        let limits = QueueLimits {
            max_records: u64::MAX,
            max_bytes: u64::MAX,
            max_disk_bytes: u64::MAX,
            user_share: 1.0,
            own_uid: 0,
            max_record_bytes: u64::MAX,
            keep_synced_ms: KEEP_RECEIPTS_MS,
            disk_reserve: 0,
        };
        self.now += 1;
        self.commits += 1;
        let mut one = SingleOp::new(op);
        let now = Now { steady: self.now, wall: self.now };
        self.queue.commit(limits, now, &mut one).expect("the store commits");
        one.into_reply().expect("the operation ran")
    }

    pub(crate) fn claim_batch(&mut self) {
        self.claim_batch_of(BATCH_RECORDS);
    }

    /// Claims a batch of so many records.
    pub(crate) fn claim_batch_of(&mut self, records: usize) {
        let batch = self.commit_op(Claim::new(claim_order(records)));
        self.set_claimed(batch, records);
    }

    fn set_claimed(&mut self, batch: Option<Batch>, records: usize) {
        let batch = batch.expect("records wait");
        assert_eq!(batch.records.len(), records, "batches are full");
        self.claimed = Some(batch.open.id);
    }

    /// Appends records of a key, or without one.
    pub(crate) fn append_with_key(&mut self, records: Vec<Record>, key: Option<&str>) {
        let new = |record| NewRecord { key: key.map(Into::into), ..to_new_record(record) };
        let expected = records.len() as u64;
        let appended = self.commit_op(Append::new(records.into_iter().map(new).collect(), 0));
        assert_eq!(appended.expect("there is room").accepted, expected, "all of them are new");
        self.read_backlog();
    }

    /// Settles all records of the current batch with one outcome.
    pub(crate) fn close_batch(&mut self, outcome: Outcome) {
        let Some(batch) = self.claimed.take() else { return };
        let disposition = Disposition::close_all(outcome);
        let retry = config::Retry::default();
        self.commit_op(Settle { batch, disposition, retry, then: None, note: None });
        self.read_backlog();
    }

    /// Quarantines the records of the current batch.
    pub(crate) fn quarantine_batch(&mut self) {
        let (message, class) = ("no".to_owned(), "rejected".to_owned());
        self.close_batch(Outcome::Quarantine(LastError {
            class,
            http_status: Some(200),
            code: None,
            message,
            field: None,
            at: 1,
        }));
    }

    /// Marks all records of the current batch as synced.
    pub(crate) fn sync_batch(&mut self) {
        self.close_batch(Outcome::Synced(None));
    }

    /// Reads a page from the middle of the queue. Returns how many of its records are blocked.
    pub(crate) fn read_page(&self, after: u64, limit: usize) -> usize {
        let after = Some(QueuePosition::new(DEFAULT_PRIORITY, after));
        let filter = Filter { after, limit, ..Filter::default() };
        let now = Now { steady: self.now, wall: self.now };
        let page =
            self.queue.reader().with_view(now, |view| view.list_page(&filter)).expect("the store reads");
        assert_eq!(page.entries.len(), limit, "pages are full");
        page.entries.iter().filter(|entry| entry.blocked_by.is_some()).count()
    }

    /// Settles the current batch, and claims the next one in the same commit if `then` is set.
    pub(crate) fn settle_batch(&mut self, then: bool) {
        let Some(batch) = self.claimed.take() else { return };
        let disposition = Disposition::close_all(Outcome::Synced(None));
        let retry = config::Retry::default();
        let then = then.then(|| Claim::new(claim_order(BATCH_RECORDS)));
        let claims = then.is_some();
        let settled = self.commit_op(Settle { batch, disposition, retry, then, note: None });
        assert!(settled.synced.len() <= BATCH_RECORDS && settled.failed == 0, "all of it is synced");
        if claims {
            self.set_claimed(settled.claimed, BATCH_RECORDS);
        }
    }

    /// What a status request needs.
    pub(crate) fn read_backlog(&mut self) -> Backlog {
        self.queue.read_backlog().expect("the store reads")
    }

    pub(crate) fn save_allocator_state(&mut self) {
        self.queue.save_allocator_state(&mut WaitingNotes::default()).expect("the store settles down");
    }

    pub(crate) fn close_store(self) {
        self.queue.close().expect("the store closes");
    }
}

impl RecordLifecycle for Store {
    fn append(&mut self, records: Vec<Record>) {
        let expected = records.len() as u64;
        let appended = self.commit_op(Append::new(records.into_iter().map(to_new_record).collect(), 0));
        assert_eq!(appended.expect("there is room").accepted, expected, "all of them are new");
    }

    fn settle_and_claim(&mut self) {
        if self.claimed.is_some() {
            self.settle_batch(true);
        } else {
            self.claim_batch();
        }
    }

    fn commit_count(&self) -> u64 {
        self.commits
    }
}

/// The actor on its own thread, as the daemon starts it.
pub(crate) struct LiveStore {
    store: Addr<QueueStore>,
    thread: Arbiter,
}

impl LiveStore {
    pub(crate) fn start(dir: &Path) -> Self {
        let queue = open_queue(dir);
        let mut config = Config::default();
        config.queue.max_bytes = Size(u64::MAX);
        // A watch without its sender keeps its last value. One without receivers accepts any value.
        let (_, config) = watch::channel(Arc::new(config));
        let (backlog, _) = watch::channel(Backlog::default());
        let (fatal, _) = watch::channel(None);
        let thread = Arbiter::new();
        let store = QueueStore::start_in_arbiter(&thread.handle(), move |_| {
            QueueStore::new(
                queue,
                config,
                SteadyClock::continue_from(0),
                backlog,
                fatal,
                watch::channel(commit_times()).0,
            )
        });
        Self { store, thread }
    }

    /// Returns when the record is on disk.
    pub(crate) async fn append(&self, record: Record) {
        let append = Append::new(vec![to_new_record(record)], 0);
        let reply = self.store.send(Write(append)).await.expect("the actor is there");
        let appended = reply.expect("the store commits").expect("there is room");
        assert_eq!(appended.accepted, 1, "the record is new");
    }

    pub(crate) async fn close(self) {
        self.store.send(Drain).await.expect("the actor drains");
        self.thread.stop();
        self.thread.join().expect("the thread ends");
    }
}

fn to_new_record(record: Record) -> NewRecord {
    NewRecord {
        id: record.id,
        record_type: RECORD_TYPE.into(),
        key: None,
        priority: DEFAULT_PRIORITY,
        payload: record.payload,
    }
}

fn claim_order(records: usize) -> ClaimOrder {
    ClaimOrder {
        limit: BatchLimit {
            records,
            bytes: u64::MAX,
            rule: SizeRule::Standard,
            bytes_rule: None,
            time: None,
        },
        sequence: Sequence { index: 1, total: 1 },
        one_per_key: false,
    }
}
