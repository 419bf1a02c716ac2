//! Our store as the measurements drive it. No other file here knows its interface.

use std::path::Path;
use std::sync::Arc;

use actix::prelude::*;
use fieldsync::actors::Drain;
use fieldsync::actors::queue_store::{QueueStore, Write};
use fieldsync::clock::{Now, Steady};
use fieldsync::config::{self, Config, Size};
use fieldsync::model::{
    Backlog, Batch, BatchId, DEFAULT_PRIORITY, LastError, NewRecord, QueuePosition, Sequence, SizeRule,
};
use fieldsync::policy::scheduler::{ClaimOrder, Disposition, Outcome};
use fieldsync::policy::sizing::BatchLimit;
use fieldsync::store::{Append, Claim, Filter, KeySpace, Limits, One, Op, Queue, Settle};
use tokio::sync::watch;

use crate::life::{BATCH, KEEP_RECEIPTS, Life};
use crate::record::{Record, TYPE};

/// The store's file in its directory.
pub(crate) const FILE: &str = "queue.redb";

fn open(dir: &Path) -> Queue {
    Queue::open(dir, KeySpace::default(), Arc::new(|_| ())).expect("the store opens")
}

/// The queue itself, without its actor.
pub(crate) struct Store {
    queue: Queue,
    now: u64,
    commits: u64,
    claimed: Option<BatchId>,
}

impl Store {
    /// A batch that a process left open when it was killed is taken up again.
    pub(crate) fn open(dir: &Path) -> Self {
        let queue = open(dir);
        let claimed = queue.open_batches().first().map(|batch| batch.id);
        Self { queue, now: 1_000_000, commits: 0, claimed }
    }

    fn commit<O: Op>(&mut self, op: O) -> O::Reply {
        let limits = Limits {
            max_records: u64::MAX,
            max_bytes: u64::MAX,
            max_disk_bytes: u64::MAX,
            user_share: 1.0,
            own_uid: 0,
            max_record_bytes: u64::MAX,
            keep_synced_ms: KEEP_RECEIPTS,
            disk_reserve: 0,
        };
        self.now += 1;
        self.commits += 1;
        let mut one = One::new(op);
        let now = Now { steady: self.now, wall: self.now };
        self.queue.commit(limits, now, &mut one).expect("the store commits");
        one.into_reply().expect("the operation ran")
    }

    pub(crate) fn claim(&mut self) {
        self.claim_of(BATCH);
    }

    /// A batch of so many records.
    pub(crate) fn claim_of(&mut self, records: usize) {
        let batch = self.commit(Claim::new(order(records)));
        self.took(batch, records);
    }

    fn took(&mut self, batch: Option<Batch>, records: usize) {
        let batch = batch.expect("records wait");
        assert_eq!(batch.records.len(), records, "batches are full");
        self.claimed = Some(batch.open.id);
    }

    /// Takes in records of a key, or of none.
    pub(crate) fn append_of(&mut self, records: Vec<Record>, key: Option<&str>) {
        let new = |record| NewRecord { key: key.map(Into::into), ..new(record) };
        let expected = records.len() as u64;
        let appended = self.commit(Append::new(records.into_iter().map(new).collect(), 0));
        assert_eq!(appended.expect("there is room").accepted, expected, "all of them are new");
        self.backlog();
    }

    /// The records of the batch under way all go where one outcome leads.
    pub(crate) fn close(&mut self, outcome: Outcome) {
        let Some(batch) = self.claimed.take() else { return };
        let disposition = Disposition::Close { outcomes: Vec::new(), missing: outcome };
        let retry = config::Retry::default();
        self.commit(Settle { batch, disposition, retry, then: None, note: None });
        self.backlog();
    }

    /// Sets the records of the batch under way aside.
    pub(crate) fn quarantine(&mut self) {
        let (message, class) = ("no".to_owned(), "rejected".to_owned());
        self.close(Outcome::Quarantine(LastError {
            class,
            http_status: Some(200),
            code: None,
            message,
            at: 1,
        }));
    }

    /// All records of the batch under way are synced.
    pub(crate) fn sync(&mut self) {
        self.close(Outcome::Synced);
    }

    /// A page of the manifest from the middle of the queue, and how many of its records another one holds.
    pub(crate) fn page(&self, after: u64, limit: usize) -> usize {
        let after = Some(QueuePosition::new(DEFAULT_PRIORITY, after));
        let filter = Filter { after, limit, ..Filter::default() };
        let now = Now { steady: self.now, wall: self.now };
        let page = self.queue.reader().look(now, |view| view.page(&filter)).expect("the store reads");
        assert_eq!(page.entries.len(), limit, "pages are full");
        page.entries.iter().filter(|entry| entry.held_by.is_some()).count()
    }

    /// Settles the batch under way, and claims the next in the same commit or not.
    pub(crate) fn settle(&mut self, then: bool) {
        let Some(batch) = self.claimed.take() else { return };
        let disposition = Disposition::Close { outcomes: Vec::new(), missing: Outcome::Synced };
        let retry = config::Retry::default();
        let then = then.then(|| Claim::new(order(BATCH)));
        let claims = then.is_some();
        let settled = self.commit(Settle { batch, disposition, retry, then, note: None });
        assert!(settled.synced.len() <= BATCH && settled.failed == 0, "all of it is synced");
        if claims {
            self.took(settled.claimed, BATCH);
        }
    }

    /// What a status needs.
    pub(crate) fn backlog(&mut self) -> Backlog {
        self.queue.backlog().expect("the store reads")
    }

    pub(crate) fn settle_down(&mut self) {
        self.queue.settle_down().expect("the store settles down");
    }

    pub(crate) fn end(self) {
        self.queue.close().expect("the store closes");
    }
}

impl Life for Store {
    fn append(&mut self, records: Vec<Record>) {
        let expected = records.len() as u64;
        let appended = self.commit(Append::new(records.into_iter().map(new).collect(), 0));
        assert_eq!(appended.expect("there is room").accepted, expected, "all of them are new");
    }

    fn turn(&mut self) {
        if self.claimed.is_some() {
            self.settle(true);
        } else {
            self.claim();
        }
    }

    fn commits(&self) -> u64 {
        self.commits
    }
}

/// The actor on a thread of its own, as the daemon starts it.
pub(crate) struct Live {
    store: Addr<QueueStore>,
    thread: Arbiter,
}

impl Live {
    pub(crate) fn start(dir: &Path) -> Self {
        let queue = open(dir);
        let mut config = Config::default();
        config.queue.max_bytes = Size(u64::MAX);
        // A watch without its sender keeps its last value, and one without receivers takes any.
        let (_, config) = watch::channel(Arc::new(config));
        let (backlog, _) = watch::channel(Backlog::default());
        let (fatal, _) = watch::channel(None);
        let thread = Arbiter::new();
        let store = QueueStore::start_in_arbiter(&thread.handle(), move |_| {
            QueueStore::new(queue, config, Steady::resume(0), backlog, fatal)
        });
        Self { store, thread }
    }

    /// Returns when the record is on disk.
    pub(crate) async fn append(&self, record: Record) {
        let append = Append::new(vec![new(record)], 0);
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

fn new(record: Record) -> NewRecord {
    NewRecord {
        id: record.id,
        record_type: TYPE.into(),
        key: None,
        priority: DEFAULT_PRIORITY,
        payload: record.payload,
    }
}

fn order(records: usize) -> ClaimOrder {
    ClaimOrder {
        limit: BatchLimit {
            records,
            bytes: u64::MAX,
            rule: SizeRule::Standard,
            bytes_rule: None,
            time: None,
        },
        sequence: Sequence { index: 1, total: 1 },
    }
}
