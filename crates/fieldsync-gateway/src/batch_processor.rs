//! Which batches are at work, and the work itself.
//!
//! A batch is at work at most once. It is worked on in a task of its own, so that nobody's hanging
//! up can stop it, and its claim ends with the task, however that ends. Where gateways share a ledger,
//! the batch is claimed there, too, so that the others know. The ledger is only touched on threads that
//! may block, by as many writers at a time as it can use; who finds all of them busy for long is told so.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::fault_injection::{Faults, Work};
use super::ledger::{Application, CheckedBatch, Digest, Ledger, LedgerError, PageLimit, Settled, Turn};
use super::metrics::{Metrics, Tally};
use crate::causes::with_causes;
use crate::clock::{Clock, millis, wall_ms};
use crate::model::{BatchId, DeviceId};
use crate::protocol::wire::BatchAnswer;

/// Bounds the memory that batches at work can take.
const MAX_AT_WORK: usize = 128;
/// Answers that one transaction forgets: few, so that batches hardly wait for it.
const PRUNE_STEP: usize = 200;
/// How often old answers are looked for, at most and at least.
const PRUNE_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(10));
/// Pruning runs this many times in the life of an answer.
const PRUNES_PER_LIFE: u32 = 10;

/// How long an operation waits for a thread. Where the ledger does not answer, all are busy for as long as it has.
const THREAD_LIMIT: Duration = Duration::from_secs(5);
/// How long an operation that writes waits for those before it.
const WRITER_LIMIT: Duration = Duration::from_secs(15);
/// Who asks after the gateway's health does not wait for long.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

type BatchKey = (DeviceId, BatchId);

/// Where batches are worked on.
pub(crate) struct Desk {
    ledger: Arc<dyn Ledger>,
    /// Writers wait here, and not on the threads that readers need.
    writing: Arc<Semaphore>,
    /// Those who ask after the ledger's health take one thread, and not all.
    probing: Arc<Semaphore>,
    /// Outlives the workers that take requests.
    runtime: Handle,
    at_work: Mutex<HashMap<BatchKey, Digest>>,
    busy: watch::Sender<usize>,
    /// Records were applied.
    applied: Notify,
    faults: Faults,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// What became of a batch that was handed in.
pub(crate) enum Submitted {
    /// It is being worked on; whoever wants may wait for the end.
    Begun(JoinHandle<Result<Finished, LedgerError>>),
    /// It was at work already.
    Processing,
    /// Its id is at work with another body.
    Reused,
    /// Too many others are at work.
    Busy,
}

/// How the work on a batch ended.
pub(crate) enum Finished {
    /// With an answer, or the finding that the id belongs to another body.
    Settled(Settled),
    /// Another gateway is at work on it.
    Elsewhere,
    /// It was given up, and forgotten.
    Abandoned,
}

/// What a look-up finds.
pub(crate) enum Outcome {
    Answered(BatchAnswer),
    Processing,
    Unknown,
}

impl Desk {
    pub(crate) fn new(
        ledger: Arc<dyn Ledger>,
        runtime: Handle,
        faults: Faults,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            writing: Arc::new(Semaphore::new(ledger.writers())),
            probing: Arc::new(Semaphore::new(1)),
            ledger,
            runtime,
            at_work: Mutex::default(),
            busy: watch::Sender::new(0),
            applied: Notify::new(),
            faults,
            metrics,
            clock: Clock::start(),
        }
    }

    /// Begins the work on a batch, unless it is at work already.
    pub(crate) fn submit(self: &Arc<Self>, batch: CheckedBatch) -> Submitted {
        let key = (batch.device, batch.id);
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let full = at_work.len() >= MAX_AT_WORK;
        match at_work.entry(key) {
            Entry::Occupied(entry) if *entry.get() == batch.fingerprint => Submitted::Processing,
            Entry::Occupied(_) => Submitted::Reused,
            Entry::Vacant(_) if full => Submitted::Busy,
            Entry::Vacant(entry) => {
                entry.insert(batch.fingerprint);
                self.tell_busy(at_work.len());
                let claim = Claim { desk: Arc::clone(self), key };
                Submitted::Begun(self.runtime.spawn(work(claim, batch)))
            }
        }
    }

    /// What is known of a batch.
    pub(crate) async fn outcome(&self, device: DeviceId, batch: BatchId) -> Result<Outcome, LedgerError> {
        // In this order: a batch leaves the desk only after it is in the ledger.
        let at_work =
            self.at_work.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&(device, batch));
        if at_work {
            return Ok(Outcome::Processing);
        }
        self.read(move |ledger| {
            // In this order, too. What is answered may be claimed for a moment more.
            let is_claimed = ledger.is_claimed(device, batch)?;
            Ok(match ledger.answer(device, batch)? {
                Some(kept) => Outcome::Answered(kept.replay()),
                None if is_claimed => Outcome::Processing,
                None => Outcome::Unknown,
            })
        })
        .await
    }

    /// A page of the append-only table.
    pub(crate) async fn applied_after(
        &self,
        seq: u64,
        limit: PageLimit,
    ) -> Result<Vec<Application>, LedgerError> {
        self.read(move |ledger| ledger.applied_after(seq, limit)).await
    }

    /// What is to be handed on next.
    pub(crate) async fn to_forward(&self, limit: PageLimit) -> Result<Turn, LedgerError> {
        self.read(move |ledger| ledger.to_forward(limit)).await
    }

    /// Everything up to `seq` was handed on.
    pub(crate) async fn forwarded(&self, seq: u64) -> Result<(), LedgerError> {
        self.write(move |ledger| ledger.forwarded(seq)).await
    }

    /// Waits until records were applied, here, since the last wait.
    pub(crate) async fn applied(&self) {
        self.applied.notified().await;
    }

    /// Other gateways may apply records, too.
    pub(crate) fn is_shared(&self) -> bool {
        self.ledger.is_shared()
    }

    /// Fails when the ledger does not answer soon, be it that so many others wait for it.
    pub(crate) async fn probe(&self) -> Result<(), LedgerError> {
        let probe = self.in_turn(&self.probing, PROBE_LIMIT, |ledger| ledger.probe());
        timeout(PROBE_LIMIT, probe)
            .await
            .unwrap_or_else(|elapsed| Err(LedgerError::Unreachable(elapsed.into())))
    }

    /// Lets another gateway hand on.
    pub(crate) async fn yield_forwarding(&self) -> Result<(), LedgerError> {
        self.read(|ledger| ledger.yield_forwarding()).await
    }

    /// Waits until no batch is at work.
    pub(crate) async fn idle(&self) {
        let mut busy = self.busy.subscribe();
        // It fails only without a sender, and this one lives.
        drop(busy.wait_for(|batches| *batches == 0).await);
    }

    /// Forgets answers that are older than `keep`, for ever, in small steps.
    pub(crate) async fn prune(&self, keep: Duration) {
        let pause = (keep / PRUNES_PER_LIFE).clamp(PRUNE_EVERY.0, PRUNE_EVERY.1);
        loop {
            let before = wall_ms().saturating_sub(millis(keep));
            match self.write(move |ledger| ledger.prune(before, PRUNE_STEP)).await {
                Ok(PRUNE_STEP) => tokio::task::yield_now().await,
                Ok(_) => tokio::time::sleep(pause).await,
                Err(error) => {
                    tracing::error!(error = with_causes(&error), "old answers were not pruned");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn settle(self: &Arc<Self>, batch: &Arc<CheckedBatch>) -> Result<Finished, LedgerError> {
        let (device, id) = (batch.device, batch.id);
        if !self.read(move |ledger| ledger.claim(device, id)).await? {
            // Answered already, it may be claimed for a moment more.
            let kept = self.read(move |ledger| ledger.answer(device, id)).await?;
            return Ok(kept.map_or(Finished::Elsewhere, |kept| {
                Finished::Settled(kept.for_fingerprint(&batch.fingerprint))
            }));
        }
        let _claim = SharedClaim { desk: Arc::clone(self), device, batch: id };
        self.settle_claimed(batch).await
    }

    async fn settle_claimed(&self, batch: &Arc<CheckedBatch>) -> Result<Finished, LedgerError> {
        let (device, id) = (batch.device, batch.id);
        let kept = self.read(move |ledger| ledger.answer(device, id)).await?;
        if let Some(kept) = kept {
            return Ok(Finished::Settled(kept.for_fingerprint(&batch.fingerprint)));
        }
        if self.faults.work(batch).await == Work::Abandoned {
            return Ok(Finished::Abandoned);
        }
        let batch = Arc::clone(batch);
        self.write(move |ledger| ledger.settle(&batch, wall_ms())).await.map(Finished::Settled)
    }

    async fn read<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let ledger = Arc::clone(&self.ledger);
        let (begin, started) = oneshot::channel();
        let task = self.runtime.spawn_blocking(move || {
            // Nobody waits for it any more: it is not done at all.
            begin.send(()).map_err(|()| LedgerError::Closed)?;
            operation(ledger.as_ref())
        });
        timeout(THREAD_LIMIT, started)
            .await
            .map_err(|elapsed| LedgerError::Unreachable(elapsed.into()))?
            .ok();
        task.await.unwrap_or_else(|error| Err(LedgerError::Storage(error.into())))
    }

    async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.in_turn(&self.writing, WRITER_LIMIT, operation).await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        turns: &Arc<Semaphore>,
        limit: Duration,
        operation: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let turn = timeout(limit, Arc::clone(turns).acquire_owned())
            .await
            .map_err(|elapsed| LedgerError::Unreachable(elapsed.into()))?
            .map_err(|error| LedgerError::Storage(error.into()))?;
        self.read(move |ledger| {
            let result = operation(ledger);
            drop(turn);
            result
        })
        .await
    }

    fn tell_busy(&self, batches: usize) {
        self.busy.send_replace(batches);
        self.metrics.processing(batches);
    }
}

/// Keeps a batch at work; its end, even by a panic, takes it off the desk.
struct Claim {
    desk: Arc<Desk>,
    key: BatchKey,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut at_work = self.desk.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        at_work.remove(&self.key);
        self.desk.tell_busy(at_work.len());
    }
}

/// A batch that is claimed in the ledger; its end, even by a panic, gives up the claim. Nobody waits for that.
struct SharedClaim {
    desk: Arc<Desk>,
    device: DeviceId,
    batch: BatchId,
}

impl Drop for SharedClaim {
    fn drop(&mut self) {
        let (desk, device, batch) = (Arc::clone(&self.desk), self.device, self.batch);
        self.desk.runtime.spawn(async move {
            match desk.read(move |ledger| ledger.release(device, batch)).await {
                Ok(true) | Err(LedgerError::Closed) => {}
                Ok(false) => tracing::warn!(batch_id = %batch, "a claim was lost with its connection"),
                Err(error) => {
                    let error = with_causes(&error);
                    tracing::warn!(batch_id = %batch, error, "a claim was not given up in order");
                }
            }
        });
    }
}

async fn work(claim: Claim, batch: CheckedBatch) -> Result<Finished, LedgerError> {
    let desk = &claim.desk;
    let began = desk.clock.now();
    let batch = Arc::new(batch);
    let finished = desk.settle(&batch).await;
    let duration_ms = millis(desk.clock.now().saturating_sub(began));
    let (batch_id, device_id, records) = (batch.id, batch.device, batch.records.len());
    match &finished {
        Ok(Finished::Settled(Settled::Fresh(answer))) => {
            let tally = Tally::of(answer);
            desk.metrics.records_settled(tally);
            if tally.applied > 0 {
                desk.applied.notify_one();
            }
            let Tally { applied, duplicate, rejected } = tally;
            tracing::info!(
                %batch_id, %device_id, records, applied, duplicate, rejected, duration_ms,
                "batch settled"
            );
        }
        Ok(Finished::Settled(Settled::Replayed(_))) => {
            tracing::info!(%batch_id, %device_id, records, duration_ms, "batch replayed");
        }
        // The request's own line tells it.
        Ok(Finished::Settled(Settled::Reused) | Finished::Elsewhere) => {}
        Ok(Finished::Abandoned) => {
            tracing::warn!(%batch_id, %device_id, records, duration_ms, "batch given up");
        }
        Err(error) => {
            let error = with_causes(error);
            tracing::error!(%batch_id, %device_id, records, duration_ms, error, "batch failed");
        }
    }
    finished
}
