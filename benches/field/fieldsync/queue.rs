//! The queue of a device, in memory, as the store would keep it: open batches, and records that wait to be tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use fieldsync::config::Config;
use fieldsync::model::{Backlog, BatchId, BatchPhase, OpenBatch, QueuePosition, SizeRule, Stage};
use fieldsync::policy::backoff;
use fieldsync::policy::scheduler::{ClaimOrder, Disposition, Outcome};

use super::RECORD_TYPES;
use crate::events::DeviceId;
use crate::requests::member;
use crate::world::World;

pub(super) struct Queue {
    device: DeviceId,
    open: BTreeMap<BatchId, (OpenBatch, Vec<usize>)>,
    /// FAILED records, and when they are due, in steady milliseconds.
    failed: BTreeMap<usize, u64>,
    attempts: BTreeMap<usize, u32>,
    /// A record that the server has, for canaries.
    pub(super) canary: Option<usize>,
}

impl Queue {
    pub(super) fn new(device: DeviceId) -> Self {
        Self {
            device,
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
            attempts: BTreeMap::new(),
            canary: None,
        }
    }

    pub(super) fn backlog(&self, world: &World) -> Backlog {
        let device = &world.devices[self.device];
        let (records, bytes) = device.open_totals();
        Backlog {
            pending: (records - self.failed.len()) as u64,
            failed: self.failed.len() as u64,
            bytes,
            next_due_at: self.failed.values().min().copied(),
            claimable: !device.waiting().is_empty(),
            ..Backlog::default()
        }
    }

    /// Claims waiting records and failed ones that are due, in queue order.
    pub(super) fn claim(&mut self, world: &mut World, steady_ms: u64, order: ClaimOrder) -> Option<BatchId> {
        let ClaimOrder { limit, .. } = order;
        let device = &mut world.devices[self.device];
        let due = self.failed.iter().filter(|(_, due)| **due <= steady_ms).map(|(member, _)| *member);
        let mut ready: Vec<usize> = device.waiting().iter().copied().take(limit.records).collect();
        ready.extend(due);
        ready.sort_unstable();
        let mut filling = limit.start_filling();
        let fitting = ready.iter().take_while(|member| {
            let record = &world.records[**member];
            filling.admit_record(RECORD_TYPES[record.kind], record.bytes)
        });
        ready.truncate(fitting.count());
        if ready.is_empty() {
            return None;
        }
        device.take_these(&ready);
        for member in &ready {
            self.failed.remove(member);
        }
        Some(self.open_batch(world, ready, None, Stage::Fresh, filling.rule()).id)
    }

    /// The batch is about to be sent.
    pub(super) fn dispatch(&mut self, id: BatchId) -> Option<(OpenBatch, Vec<usize>)> {
        let (open, members) = self.open.get_mut(&id)?;
        open.attempt += 1;
        open.phase = BatchPhase::InFlight;
        Some((open.clone(), members.clone()))
    }

    pub(super) fn count_attempt(&mut self, members: &[usize]) {
        for member in members {
            *self.attempts.entry(*member).or_default() += 1;
        }
    }

    fn open_batch(
        &mut self,
        world: &mut World,
        members: Vec<usize>,
        parent: Option<BatchId>,
        stage: Stage,
        rule: SizeRule,
    ) -> OpenBatch {
        let id = world.new_batch_id();
        let open = OpenBatch {
            id,
            parent,
            stage,
            rule,
            place: QueuePosition(members.first().map_or(0, |first| *first as u64)),
            records: members.len(),
            bytes: world.bytes(&members),
            attempt: 0,
            lone_failures: 0,
            phase: BatchPhase::Waiting,
        };
        self.open.insert(id, (open.clone(), members));
        open
    }

    /// Follows the disposition. Returns the batches under which records continue.
    pub(super) fn settle(
        &mut self,
        world: &mut World,
        id: BatchId,
        disposition: Disposition,
        retry: &mut Retry<'_>,
    ) -> Vec<OpenBatch> {
        let Some((open, members)) = self.open.remove(&id) else { return Vec::new() };
        match disposition {
            Disposition::Close { outcomes, missing, retry_after } => {
                let outcomes: BTreeMap<usize, Outcome> =
                    outcomes.into_iter().map(|(id, outcome)| (member(id), outcome)).collect();
                let due = self.retry_due(&members, retry_after, retry);
                for member in members {
                    self.close_record(world, member, outcomes.get(&member).unwrap_or(&missing), due);
                }
                Vec::new()
            }
            Disposition::Keep { phase, lone_failures, .. } => {
                self.open.insert(id, (OpenBatch { lone_failures, phase, ..open }, members));
                Vec::new()
            }
            Disposition::Cut { cut, .. } => {
                let mut rest = members.into_iter();
                let parts = cut.parts.into_iter().map(|size| {
                    let part = rest.by_ref().take(size).collect();
                    self.open_batch(world, part, Some(id), cut.stage, SizeRule::Split)
                });
                parts.collect()
            }
            Disposition::Rename { .. } => {
                vec![self.open_batch(world, members, Some(id), open.stage, open.rule)]
            }
        }
    }

    /// When the records of one response are sent again: together.
    fn retry_due(&self, members: &[usize], retry_after: Duration, retry: &mut Retry<'_>) -> u64 {
        let attempts = members.iter().filter_map(|member| self.attempts.get(member)).max().copied();
        let (first, most) = (retry.config.retry.initial_backoff.0, retry.config.retry.max_backoff.0);
        let wait = backoff::backoff_delay(first, most, attempts.unwrap_or_default(), retry.rng);
        retry.steady_ms + u64::try_from(wait.max(retry_after).as_millis()).unwrap_or(u64::MAX)
    }

    fn close_record(&mut self, world: &mut World, member: usize, outcome: &Outcome, due: u64) {
        match outcome {
            Outcome::Synced(_) => {
                world.mark_synced(member);
                self.canary = Some(member);
            }
            Outcome::Quarantine(_) => world.quarantine(member),
            Outcome::Retry(_) => drop(self.failed.insert(member, due)),
        }
    }
}

/// What decides when records are sent again.
pub(super) struct Retry<'d> {
    pub(super) config: &'d Config,
    pub(super) steady_ms: u64,
    pub(super) rng: &'d mut fastrand::Rng,
}
