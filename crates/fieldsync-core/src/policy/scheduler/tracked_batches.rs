//! The batches that are open on disk, by id.

use std::collections::BTreeMap;
use std::time::Duration;

use super::View;
use super::denials::OtherTraffic;
use super::tracked_batch::{NextStep, TrackedBatch};
use crate::config::Config;
use crate::model::BatchId;
use crate::policy::breaker::Mode;

/// The batches that are open on disk.
#[derive(Debug, Default)]
pub(super) struct TrackedBatches {
    batches: BTreeMap<BatchId, TrackedBatch>,
}

impl TrackedBatches {
    pub(super) fn get(&self, id: BatchId) -> Option<&TrackedBatch> {
        self.batches.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: BatchId) -> Option<&mut TrackedBatch> {
        self.batches.get_mut(&id)
    }

    /// The batch, which is made where there is none.
    pub(super) fn get_or_insert(
        &mut self,
        id: BatchId,
        make: impl FnOnce() -> TrackedBatch,
    ) -> &mut TrackedBatch {
        self.batches.entry(id).or_insert_with(make)
    }

    pub(super) fn insert(&mut self, tracked: TrackedBatch) {
        self.batches.insert(tracked.batch.id, tracked);
    }

    pub(super) fn remove(&mut self, id: BatchId) -> Option<TrackedBatch> {
        self.batches.remove(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &TrackedBatch> {
        self.batches.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut TrackedBatch> {
        self.batches.values_mut()
    }

    /// Sets what happens to a batch next.
    pub(super) fn set_step(&mut self, id: BatchId, step: NextStep) {
        if let Some(tracked) = self.get_mut(id) {
            tracked.step = step;
        }
    }

    /// Counted failures of a batch's one record alone.
    pub(super) fn lone_failures(&self, id: BatchId) -> u32 {
        self.get(id).map_or(0, TrackedBatch::lone_failures)
    }

    /// Batches whose response is awaited.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = &TrackedBatch> {
        self.iter().filter(|tracked| tracked.is_in_flight())
    }

    /// How many batches the server may be working on although no response is awaited.
    pub(super) fn count_unclear(&self) -> usize {
        self.iter().filter(|tracked| tracked.is_unclear()).count()
    }

    /// A request came to this, for all batches but its own.
    pub(super) fn note_traffic(&mut self, own: Option<BatchId>, traffic: OtherTraffic) {
        for other in self.iter_mut().filter(|other| Some(other.batch.id) != own) {
            other.denials.note_traffic(traffic);
        }
    }

    /// A batch that was sent, if one is open.
    pub(super) fn any_sent(&self) -> Option<BatchId> {
        self.iter().find(|tracked| tracked.batch.attempt > 0).map(|tracked| tracked.batch.id)
    }

    /// Whether a batch is denied.
    pub(super) fn has_denied(&self) -> bool {
        self.iter().any(|tracked| tracked.denials.is_denied())
    }

    /// A batch whose outcome is to be queried now.
    pub(super) fn due_query(&self, view: &View<'_>) -> Option<BatchId> {
        let is_due =
            |tracked: &&TrackedBatch| tracked.query_due(view.config).is_some_and(|due| due <= view.now);
        self.iter().find(is_due).map(|tracked| tracked.batch.id)
    }

    /// Batches that are due, in queue order; for a probe, which is a micro-batch, first those that are the least likely
    /// to fail: no part of a batch that failed, and nothing that was sent often.
    pub(super) fn due_batches(&self, view: &View<'_>) -> Vec<&TrackedBatch> {
        let is_probing = matches!(view.breaker.mode, Mode::Open { .. } | Mode::Probing);
        let is_due =
            |tracked: &&TrackedBatch| tracked.send_due(view.config).is_some_and(|due| due <= view.now);
        let mut due: Vec<&TrackedBatch> = self.iter().filter(is_due).collect();
        due.sort_by_key(|tracked| {
            let batch = &tracked.batch;
            (is_probing.then(|| (tracked.fault_likelihood(), batch.records)), batch.place)
        });
        due
    }

    /// When batches are to be sent.
    pub(super) fn send_dues(&self, config: &Config) -> impl Iterator<Item = Duration> {
        self.iter().filter_map(|tracked| tracked.send_due(config))
    }

    /// When outcomes are to be queried.
    pub(super) fn query_dues(&self, config: &Config) -> impl Iterator<Item = Duration> {
        self.iter().filter_map(|tracked| tracked.query_due(config))
    }
}
