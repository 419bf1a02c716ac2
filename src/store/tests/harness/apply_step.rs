//! Applies the steps of a schedule to the queue and its model.

use super::ModelHarness;
use crate::model::{Pause, RecordId};
use crate::policy::isolation;
use crate::policy::scheduler::Disposition;
use crate::store::tests::steps::{QueueStep, new_record};
use crate::store::tests::support::{claim_order, discard, id, test_error};
use crate::store::{
    Claim, Expedite, KeySpace, Review, ReviewAction, ReviewSelection, SetPaused, WaitingNotes,
};

const PAUSE: Pause = Pause { by: 1000, since: 7, until: None };

impl ModelHarness {
    pub(in crate::store::tests) fn apply_step(&mut self, step: QueueStep) {
        match step {
            QueueStep::Append(submitter, picks) => {
                let records = picks.into_iter().map(|pick| new_record(submitter, pick));
                self.append(submitter, &records.collect::<Vec<_>>());
            }
            QueueStep::Claim(records, bytes) => {
                if let Some(claimed) = self.commit_op(Claim::new(claim_order(records, bytes))) {
                    self.check_claim(claimed.as_ref(), records, bytes);
                }
            }
            QueueStep::Dispatch(index) => {
                if let Some(batch) = self.pick_batch(index) {
                    self.dispatch(batch);
                }
            }
            QueueStep::Close(index, picks, missing, then) => {
                let Some(batch) = self.pick_batch(index) else { return };
                self.close_batch(batch, &picks, missing, then);
            }
            QueueStep::Keep(index, phase, fails) => {
                let Some(batch) = self.pick_batch(index) else { return };
                let lone_failures = self.model.open[&batch].lone_failures + 1;
                let error = fails.then(|| test_error("504"));
                self.settle(batch, Disposition::Keep { phase, lone_failures, error }, fails);
            }
            QueueStep::Cut(index, kind, fails) => {
                let Some(batch) = self.pick_batch(index) else { return };
                let open = &self.model.open[&batch];
                let cut = match kind {
                    0 => Some(isolation::cut_in_half(open.members.len())),
                    _ => isolation::plan_cut(open.stage, open.members.len(), kind.into(), None),
                };
                let Some(cut) = cut else { return };
                let error = fails.then(|| test_error("504"));
                self.settle(batch, Disposition::Cut { cut, error }, fails);
            }
            QueueStep::Rename(index) => {
                let Some(batch) = self.pick_batch(index) else { return };
                self.settle(batch, Disposition::Rename { lone_failures: 0 }, false);
            }
            QueueStep::Review(numbers, all, again, submitter) => {
                let action = if again { ReviewAction::Retry } else { discard() };
                let ids: Vec<RecordId> = numbers.into_iter().map(|number| id(u128::from(number))).collect();
                let selected =
                    if all { ReviewSelection::After(None) } else { ReviewSelection::These(ids.clone()) };
                let review = Review { selected, action, submitter };
                self.review(review, |id| all || ids.contains(&id));
            }
            QueueStep::Add(numbers) => {
                let ids: Vec<RecordId> = numbers.into_iter().map(|number| id(u128::from(number))).collect();
                self.add_to_review(&ids);
            }
            QueueStep::ReplacePayload(number, length) => self.replace_payload(number, length),
            QueueStep::Expedite => assert_ne!(self.commit_op(Expedite), Some(true)),
            QueueStep::Pause(paused) => {
                if self.commit_op(SetPaused(paused.then_some(PAUSE))).is_some() {
                    self.paused = paused;
                }
            }
            QueueStep::Wait(time) => self.bench.now += time,
            QueueStep::Reopen => {
                self.suspend_faults(false);
                let closed = self.bench.close_queue();
                self.reopen_after(closed);
            }
            QueueStep::ShareKeys(shared) => {
                self.bench.key_space = if shared { KeySpace::Shared } else { KeySpace::PerSubmitter };
                self.model.shared_since |= shared;
                self.apply_step(QueueStep::Reopen);
            }
            QueueStep::Crash => match self.bench.disk.clone() {
                Some(disk) => {
                    disk.end_process();
                    self.bench.drop_queue();
                    self.reopen_after(Ok(()));
                }
                None => self.bench.crash_process(),
            },
            QueueStep::Quiet => {
                self.suspend_faults(false);
                let done = self.bench.queue_mut().save_allocator_state(&mut WaitingNotes::default());
                self.suspend_faults(true);
                self.heal_disk(done.as_ref().err());
            }
            QueueStep::Rest => {
                self.suspend_faults(false);
                let (limits, now) = (self.bench.limits, self.bench.now());
                let done =
                    self.bench.queue_mut().run_idle_maintenance(limits, now, &mut WaitingNotes::default());
                self.suspend_faults(true);
                self.heal_disk(done.as_ref().err());
                self.model.forget_receipts(&self.bench);
            }
        }
    }
}
