//! A real queue in a directory of its own, and a clock that only tests move.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;
use uuid::Uuid;

use crate::config;
use crate::model::{Batch, BatchId, LastError, NewRecord, RecordId, Sequence};
use crate::policy::agenda::{ClaimOrder, Disposition, Outcome};
use crate::policy::sizing::{BatchLimit, SizeRule};
use crate::store::{Append, Appended, Claim, Dispatch, Limits, Op, Queue, Settle, Settled};

pub(super) const HOUR: u64 = 3_600_000;

pub(super) struct Bench {
    pub(super) dir: TempDir,
    queue: Option<Queue>,
    pub(super) now: u64,
    pub(super) limits: Limits,
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let queue = Some(Queue::open(dir.path()).unwrap());
        let limits =
            Limits { max_records: 1000, max_bytes: 1 << 20, max_record_bytes: 1000, keep_synced_ms: HOUR };
        Self { dir, queue, now: HOUR, limits }
    }

    pub(super) fn queue(&self) -> &Queue {
        self.queue.as_ref().unwrap()
    }

    pub(super) fn queue_mut(&mut self) -> &mut Queue {
        self.queue.as_mut().unwrap()
    }

    /// One operation in a commit of its own.
    pub(super) fn run<O: Op>(&mut self, op: O) -> O::Reply {
        let (limits, now) = (self.limits, self.now);
        let mut reply = None;
        let queue = self.queue_mut();
        queue
            .commit(limits, now, |transaction| {
                reply = Some(op.apply(transaction)?);
                Ok(())
            })
            .unwrap();
        reply.unwrap()
    }

    pub(super) fn reopen(&mut self) {
        self.queue.take().unwrap().close().unwrap();
        self.queue = Some(Queue::open(self.dir.path()).unwrap());
    }

    /// What a process that ends at once leaves: the file as the last commit left it, never closed.
    pub(super) fn crash(&mut self) {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(self.dir.path().join("queue.redb"), dir.path().join("queue.redb")).unwrap();
        self.queue = None;
        self.queue = Some(Queue::open(dir.path()).unwrap());
        self.dir = dir;
    }

    pub(super) fn append(&mut self, records: Vec<NewRecord>) -> Appended {
        self.run(Append { records, submitter: 0 }).unwrap()
    }

    pub(super) fn claim(&mut self, records: usize) -> Option<Batch> {
        self.run(Claim(order(records, u64::MAX)))
    }

    pub(super) fn dispatch(&mut self, batch: BatchId) -> Option<Batch> {
        self.run(Dispatch { batch, sequence: Sequence { index: 7, total: 9 } })
    }

    pub(super) fn settle(&mut self, batch: BatchId, disposition: Disposition) -> Settled {
        self.run(Settle { batch, disposition, retry: retry(), then: None })
    }

    pub(super) fn close(&mut self, batch: BatchId, outcome: Outcome) -> Settled {
        self.settle(batch, Disposition::Close { outcomes: Vec::new(), missing: outcome })
    }

    pub(super) fn attempts(&self, id: RecordId) -> u32 {
        self.queue().entry(id).unwrap().unwrap().attempts
    }
}

pub(super) fn retry() -> config::Retry {
    let mut retry = config::Retry::default();
    retry.max_backoff.0 = Duration::from_millis(HOUR);
    retry
}

pub(super) fn order(records: usize, bytes: u64) -> ClaimOrder {
    ClaimOrder {
        limit: BatchLimit { records, bytes, rule: SizeRule::Standard },
        sequence: Sequence { index: 1, total: 3 },
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

pub(super) fn error(message: &str) -> LastError {
    LastError { class: "test".into(), http_status: Some(504), code: None, message: message.into(), at: 1 }
}
