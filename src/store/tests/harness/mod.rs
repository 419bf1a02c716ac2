//! Runs a queue and its model side by side, under any operations and disk faults. What an operation acknowledged has
//! taken place. What it did not acknowledge has taken place completely or not at all.

mod apply_step;

use std::collections::BTreeSet;
use std::time::Duration;

use super::audit::audit;
use super::disk::SimulatedDisk;
use super::model::QueueModel;
use super::steps::{QueueStep, Submitter, outcome};
use super::support::{HOUR_MS, QueueBench, claim_order, id, retry_config};
use crate::model::{Batch, BatchId, DiskState, NewRecord, RecordId, RecordState, Sequence};
use crate::policy::scheduler::{Disposition, Outcome};
use crate::store::{
    AddToReview, Append, Claim, Dispatch, MendRefused, Op, ReplacePayload, Review, ReviewAction,
    ReviewSelection, Settle, StoreError,
};

const KEEP_SYNCED_MS: u64 = 2 * HOUR_MS;

pub(super) struct ModelHarness {
    pub(super) bench: QueueBench,
    pub(super) model: QueueModel,
    paused: bool,
    /// Disk errors that operations met.
    pub(super) errors: u64,
    /// Power cuts while the store was being opened.
    pub(super) cuts_in_recovery: u64,
}

impl ModelHarness {
    pub(super) fn new() -> Self {
        Self::with_bench(QueueBench::new())
    }

    /// On a disk with power cuts, which may already strike when the file is created.
    pub(super) fn on_disk(disk: SimulatedDisk) -> Self {
        let mut harness = Self::new_closed(disk);
        harness.open_queue();
        harness
    }

    /// On a disk, with the queue not yet opened.
    pub(super) fn new_closed(disk: SimulatedDisk) -> Self {
        Self::with_bench(QueueBench::on_disk(disk))
    }

    /// The same harness on another disk, with the queue not yet opened.
    pub(super) fn fork(&self, disk: SimulatedDisk) -> Self {
        let mut bench = QueueBench::on_disk(disk);
        (bench.now, bench.limits) = (self.bench.now, self.bench.limits);
        bench.key_space = self.bench.key_space;
        Self { bench, model: self.model.clone(), ..*self }
    }

    /// Expects the same as another harness.
    pub(super) fn expect_as(&mut self, other: &Self) {
        self.model = other.model.clone();
        self.paused = other.paused;
    }

    fn with_bench(mut bench: QueueBench) -> Self {
        bench.limits.max_records = 24;
        bench.limits.user_share = 0.75;
        bench.limits.max_record_bytes = 100_000;
        bench.limits.keep_synced_ms = KEEP_SYNCED_MS;
        Self { bench, model: QueueModel::default(), paused: false, errors: 0, cuts_in_recovery: 0 }
    }

    /// Commits of the store.
    pub(super) fn commit_count(&self) -> u64 {
        self.bench.queue().state().counters.commits
    }

    /// The reply of an operation that took place. After a disk fault, the store tells whether it did.
    fn commit_op<O: Op>(&mut self, op: O) -> Option<O::Reply> {
        let before = self.commit_count();
        self.suspend_faults(false);
        let (done, reply) = self.bench.attempt(op);
        self.suspend_faults(true);
        let known = self.heal_disk(done.as_ref().err());
        let after = self.commit_count();
        match done {
            Ok(changed) => assert_eq!(after, before + u64::from(changed), "what was acknowledged is there"),
            Err(_) if known => assert_eq!(after, before, "what failed is not there"),
            Err(_) => assert!(after == before || after == before + 1),
        }
        reply.filter(|_| done.is_ok() || after > before)
    }

    /// Suspends disk faults while the test inspects the store.
    fn suspend_faults(&self, suspended: bool) {
        self.bench.disk.iter().for_each(|disk| disk.set_suspended(suspended));
    }

    /// Repairs the disk after a fault. False if only the restart tells what is on it.
    fn heal_disk(&mut self, error: Option<&StoreError>) -> bool {
        let Some(disk) = self.bench.disk.clone() else {
            assert!(error.is_none(), "{error:?}");
            return true;
        };
        if disk.is_down() {
            self.bench.drop_queue();
            disk.power_cycle(None);
            self.open_queue();
            return false;
        }
        let Some(error) = error else { return true };
        self.errors += 1;
        assert!(!error.is_damage(), "{error}");
        let known = !matches!(self.bench.queue().read_note("note"), Err(StoreError::Closed));
        if !matches!(error, StoreError::NoRoom) {
            // May fail any number of times while the disk fails.
            self.suspend_faults(false);
            drop(self.bench.queue_mut().reopen_and_verify());
            drop(self.bench.queue_mut().reopen_and_verify());
            self.suspend_faults(true);
        }
        assert!(disk.clear_faults(), "nothing was wrong with the disk: {error}");
        if matches!(error, StoreError::NoRoom) {
            let limits = self.bench.limits;
            self.bench.queue_mut().check_free_space(limits).unwrap();
        } else {
            self.bench.queue_mut().reopen_and_verify().unwrap();
        }
        known
    }

    /// Opens the queue, however often the power is cut meanwhile.
    pub(super) fn open_queue(&mut self) {
        let Some(disk) = self.bench.disk.clone() else { return self.bench.open_queue().unwrap() };
        disk.set_suspended(false);
        while let Err(error) = self.bench.open_queue() {
            if disk.is_down() {
                self.cuts_in_recovery += 1;
                disk.power_cycle(None);
            } else {
                assert!(disk.clear_faults(), "it cannot be opened: {error}");
                self.errors += 1;
            }
        }
        disk.set_suspended(true);
    }

    fn pick_batch(&self, index: usize) -> Option<BatchId> {
        let mut open: Vec<BatchId> = self.model.open.keys().copied().collect();
        // Batch ids are random. This order makes a failing schedule reproducible.
        open.sort_by_key(|id| self.model.open.get(id).map(|batch| batch.members.clone()));
        open.get(index.checked_rem(open.len())?).copied()
    }

    fn check_claim(&mut self, claimed: Option<&Batch>, records: usize, bytes: u64) {
        match claimed {
            Some(batch) => self.model.apply_claim(batch, records, bytes, &self.bench),
            None => self.model.check_nothing_claimable(&self.bench),
        }
    }

    pub(super) fn append(&mut self, submitter: Submitter, records: &[NewRecord]) {
        let Some(reply) = self.commit_op(Append::new(records.to_vec(), submitter)) else { return };
        let reply = reply.map(|done| done.accepted).map_err(|no| QueueModel::refusal_name(&no));
        // Only a disk without space rejects for it, and then it rejects any new record.
        if self.bench.disk.is_some() && reply == Err("disk full") {
            assert_eq!(self.bench.queue().disk_state(), DiskState::Full);
            return;
        }
        let limits = self.bench.limits;
        assert_eq!(reply, self.model.apply_append(submitter, records, limits));
    }

    fn dispatch(&mut self, batch: BatchId) -> Option<bool> {
        let sent = self.commit_op(Dispatch {
            batch,
            sequence: Sequence { index: 7, total: 9 },
            one_per_key: false,
        })?;
        self.model.apply_dispatch(batch, sent.as_ref(), self.bench.key_space);
        Some(sent.is_some())
    }

    fn close_batch(&mut self, id: BatchId, picks: &[(u8, u8)], missing: u8, then: Option<usize>) {
        let outcomes: Vec<(RecordId, Outcome)> = picks
            .iter()
            .map(|(number, pick)| (super::support::id(u128::from(*number)), outcome(*pick)))
            .collect();
        let missing = outcome(missing);
        let settled = self.commit_op(Settle {
            batch: id,
            disposition: Disposition::Close {
                outcomes: outcomes.clone(),
                missing: missing.clone(),
                retry_after: Duration::ZERO,
            },
            retry: retry_config(),
            then: then.map(|records| Claim::new(claim_order(records, u64::MAX))),
            note: None,
        });
        let Some(settled) = settled else { return };
        self.check_due_together(id, &outcomes, &missing);
        self.model.apply_close(id, &outcomes, &missing, &self.bench);
        self.model.forget_receipts(&self.bench);
        if let Some(records) = then {
            self.check_claim(settled.claimed.as_ref(), records, u64::MAX);
        }
    }

    /// Retried records of one batch have one due time.
    fn check_due_together(&self, batch: BatchId, outcomes: &[(RecordId, Outcome)], missing: &Outcome) {
        let given =
            |id: RecordId| outcomes.iter().find(|(of, _)| *of == id).map_or(missing, |(_, given)| given);
        let members = &self.model.open[&batch].members;
        let again = members.iter().filter(|id| matches!(given(**id), Outcome::Retry(_)));
        let due: BTreeSet<u64> =
            again.filter_map(|id| self.bench.find_entry(*id).unwrap().next_attempt_at).collect();
        assert!(due.len() <= 1, "{due:?}");
    }

    /// Settles a batch that stays open or is replaced. `fails` tells whether its records failed.
    fn settle(&mut self, id: BatchId, disposition: Disposition, fails: bool) {
        let kept = match &disposition {
            Disposition::Keep { phase, lone_failures, .. } => Some((*phase, *lone_failures)),
            _ => None,
        };
        let settled =
            self.commit_op(Settle { batch: id, disposition, retry: retry_config(), then: None, note: None });
        let Some(settled) = settled else { return };
        if fails {
            self.model.apply_failure(id);
        }
        self.model.forget_receipts(&self.bench);
        match kept {
            Some(kept) => {
                let open = self.model.open.get_mut(&id).unwrap();
                (open.phase, open.lone_failures) = kept;
            }
            None => self.model.apply_replacement(id, &settled.opened),
        }
    }

    fn review(&mut self, review: Review, chosen: impl Fn(RecordId) -> bool) {
        let (action, submitter) = (review.action.clone(), review.submitter);
        let Some(reviewed) = self.commit_op(review) else { return };
        let mut changed = reviewed.changed;
        changed.sort_unstable();
        let quarantined = |state| state == RecordState::Quarantined;
        let expected: Vec<RecordId> = self
            .model
            .records
            .iter()
            .filter(|(id, rec)| quarantined(rec.state) && chosen(**id))
            .filter(|(_, rec)| submitter.is_none_or(|submitter| submitter == rec.submitter))
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(changed, expected);
        for id in expected {
            match action {
                ReviewAction::Retry => {
                    self.model.records.get_mut(&id).unwrap().state = RecordState::Pending;
                }
                ReviewAction::Discard { .. } => self.model.discard(id, self.bench.now),
            }
        }
        self.model.forget_receipts(&self.bench);
    }

    fn add_to_review(&mut self, ids: &[RecordId]) {
        if let Some(done) = self.commit_op(AddToReview { ids: ids.to_vec() }) {
            self.model.check_added_to_review(ids, &done);
        }
    }

    fn replace_payload(&mut self, number: u8, length: u8) {
        let id = id(u128::from(number));
        let filling = "x".repeat(3_000 * usize::from(length));
        let payload: Box<str> = format!("{{\"edited\":\"{filling}\"}}").into();
        let Some(replaced) = self.commit_op(ReplacePayload { id, payload: payload.clone() }) else { return };
        let rec = self.model.records.get_mut(&id).filter(|rec| rec.state == RecordState::Quarantined);
        if self.bench.disk.is_some() && replaced == Err(MendRefused::DiskFull) {
            return;
        }
        assert_eq!(replaced.is_ok(), rec.is_some());
        if let Some(rec) = rec {
            rec.state = RecordState::Pending;
            rec.new.payload = payload;
        }
    }

    /// Opens the queue again after it was closed, cleanly or not.
    fn reopen_after(&mut self, closed: Result<(), StoreError>) {
        match self.bench.disk.clone() {
            Some(disk) if disk.is_down() => disk.power_cycle(None),
            Some(disk) => assert!(closed.is_ok() || disk.clear_faults()),
            None => closed.unwrap(),
        }
        self.open_queue();
    }

    pub(super) fn check_all(&mut self) {
        self.model.check_queue(&self.bench);
        assert_eq!(self.bench.queue_mut().read_backlog().unwrap().paused, self.paused);
        audit(self.bench.queue_mut());
    }

    /// With a server that accepts everything and a person who retries, no record is left.
    pub(super) fn drain_all(&mut self) {
        for _ in 0..200 {
            self.bench.now += HOUR_MS;
            let open: Vec<BatchId> = self.model.open.keys().copied().collect();
            for batch in open {
                if self.dispatch(batch) == Some(true) {
                    self.close_batch(batch, &[], 0, None);
                }
            }
            self.apply_step(QueueStep::Claim(5, u64::MAX));
            let (selected, action) = (ReviewSelection::After(None), ReviewAction::Retry);
            self.review(Review { selected, action, submitter: None }, |_| true);
            let backlog = self.bench.queue_mut().read_backlog().unwrap();
            if backlog.to_go() + backlog.quarantined == 0 {
                assert_eq!(backlog.bytes, 0);
                return;
            }
        }
        panic!("records stay behind: {:?}", self.bench.queue_mut().read_backlog());
    }
}
