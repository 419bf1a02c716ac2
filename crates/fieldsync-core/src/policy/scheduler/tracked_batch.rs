//! An open batch: what was sent, with which result, and what happens next.

use std::time::Duration;

use super::denials::Denials;
use super::server_health::queries_enabled;
use crate::config::Config;
use crate::model::{BatchId, BatchPhase, LastError, OpenBatch, Stage};
use crate::policy::evidence::{FaultEvidence, LoneFailure, SendLog};
use crate::policy::in_flight::MeasuredBatch;
use crate::policy::isolation::Glitches;
use crate::policy::service_time::{Forecast, Load, ServiceTime};
use crate::policy::verdict::Ambiguity;

/// A batch that was sent this often may be what keeps the breaker open: another batch is the probe, and this one is
/// cut.
pub(super) const SENDS_AS_PROBE_MAX: u32 = 3;

/// What happens to a batch next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum NextStep {
    /// Its response is awaited.
    InFlight,
    /// It is sent.
    Send { due: Duration },
    /// Its outcome is queried.
    Query(PendingQuery),
}

/// The outcome of a batch is to be queried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PendingQuery {
    pub(super) due: Duration,
    /// Queries that were sent before.
    pub(super) tries: usize,
    /// When the batch was sent.
    pub(super) since: Duration,
    /// Why its outcome is not known.
    pub(super) ambiguity: Ambiguity,
}

/// An open batch.
#[derive(Clone, Debug)]
pub(super) struct TrackedBatch {
    pub(super) batch: OpenBatch,
    pub(super) step: NextStep,
    pub(super) denials: Denials,
    evidence: FaultEvidence,
    /// What the server said when it refused the one record of the batch.
    pub(super) refusal: Option<LastError>,
    /// Batches that it was cut from and that failed.
    pub(super) ancestors: u32,
    /// How often these records were sent as one batch, under any id.
    pub(super) sends: u32,
    /// It was last sent to a server that is not configured any more.
    pub(super) is_at_former_server: bool,
    /// When it was last sent.
    pub(super) sent_at: Duration,
    /// [`ParallelRequests::flight_seconds`](super::parallel_requests::ParallelRequests::flight_seconds) at that time.
    pub(super) flight_seconds_before: f64,
    /// What it holds, once it was sent.
    pub(super) load: Load,
    /// The forecast of its last send, if there was one.
    pub(super) expected: Option<Forecast>,
    /// When its outcome was first unknown under this id.
    unclear_since: Option<Duration>,
    /// How long its last send took until it failed.
    pub(super) failed_after: Duration,
    /// The same records were sent under another id before.
    pub(super) is_renamed: bool,
    /// The server said that it was still processing it.
    pub(super) is_processing: bool,
}

/// What a batch that continues under a new id takes along, and when that is due.
#[derive(Debug)]
pub(super) struct RenamedBatch {
    pub(super) from: BatchId,
    due: Duration,
    evidence: FaultEvidence,
    refusal: Option<LastError>,
    ancestors: u32,
    sends: u32,
}

impl TrackedBatch {
    pub(super) fn new(batch: OpenBatch, step: NextStep) -> Self {
        Self {
            step,
            denials: Denials::default(),
            evidence: FaultEvidence::from_saved(batch.lone_failures),
            refusal: None,
            ancestors: u32::from(batch.parent.is_some()),
            sends: batch.attempt,
            is_at_former_server: false,
            sent_at: Duration::ZERO,
            flight_seconds_before: 0.0,
            load: Load::default(),
            expected: None,
            unclear_since: None,
            failed_after: Duration::ZERO,
            is_renamed: false,
            is_processing: false,
            batch,
        }
    }

    /// A batch as the store opened it.
    pub(super) fn opened(now: Duration, batch: OpenBatch) -> Self {
        let step = match batch.phase {
            BatchPhase::Waiting => NextStep::Send { due: now },
            // The previous run of the daemon may or may not have sent it.
            BatchPhase::InFlight | BatchPhase::Unclear => NextStep::Query(PendingQuery {
                due: now,
                tries: 0,
                since: now,
                ambiguity: Ambiguity::ConnectionLost,
            }),
        };
        Self::new(batch, step)
    }

    /// Ends the batch under its id: it continues under a new one.
    pub(super) fn rename(self, due: Duration) -> RenamedBatch {
        let Self { batch, evidence, refusal, ancestors, sends, .. } = self;
        RenamedBatch { from: batch.id, due, evidence, refusal, ancestors, sends }
    }

    /// The batch continues another, under a new id.
    pub(super) fn continue_renamed(&mut self, before: RenamedBatch) {
        let RenamedBatch { from: _, due, evidence, refusal, ancestors, sends } = before;
        self.step = NextStep::Send { due };
        (self.evidence, self.refusal, self.ancestors, self.sends) = (evidence, refusal, ancestors, sends);
        self.is_renamed = true;
    }

    /// The batch is a part of one that failed or was denied.
    pub(super) fn continue_part(&mut self, ancestors: u32, denials: u32) {
        self.ancestors = ancestors;
        self.denials = Denials::of_part(denials);
    }

    /// The batch is about to be sent.
    pub(super) fn start_send(
        &mut self,
        now: Duration,
        batch: &OpenBatch,
        load: Load,
        expected: Option<Forecast>,
    ) {
        self.batch.clone_from(batch);
        self.sends += 1;
        (self.sent_at, self.is_at_former_server) = (now, false);
        self.step = NextStep::InFlight;
        (self.load, self.expected) = (load, expected);
    }

    /// Its outcome is unknown; `elapsed`: how long the send took.
    pub(super) fn become_unclear(&mut self, now: Duration, elapsed: Duration) {
        self.failed_after = elapsed;
        self.unclear_since.get_or_insert(now);
    }

    /// The server says that it is processing the batch. Returns since when its outcome is unknown.
    pub(super) fn processing_since(&mut self, now: Duration) -> Duration {
        *self.unclear_since.get_or_insert(now)
    }

    /// The one record got no response alone.
    pub(super) fn record_unconfirmed_failure(&mut self, now: Duration, log: &SendLog) {
        self.evidence.record_unconfirmed_failure(self.lone_failure(now), log);
    }

    /// The one record failed alone. Returns whether that counts at once.
    pub(super) fn fail_alone(&mut self, now: Duration, log: &SendLog) -> bool {
        let before = self.evidence.counted;
        self.evidence.record_failure(self.lone_failure(now), log);
        self.evidence.counted > before
    }

    /// The server refused the one record alone.
    pub(super) fn refuse_alone(&mut self, now: Duration, log: &SendLog, error: &LastError) {
        self.evidence.record_failure(self.lone_failure(now), log);
        self.refusal = Some(error.clone());
    }

    /// Its last send, once it took that long beside so many.
    pub(super) fn as_measured(&self, elapsed: Duration, under_way: f64) -> MeasuredBatch {
        MeasuredBatch { sent_at: self.sent_at, elapsed, under_way, load: self.load.clone() }
    }

    fn lone_failure(&self, now: Duration) -> LoneFailure {
        LoneFailure { id: self.batch.id, sent_at: self.sent_at, failed_at: now }
    }

    /// Another batch ended. What waited for the success of others may be sent.
    pub(super) fn review_evidence(&mut self, now: Duration, log: &SendLog) {
        if self.evidence.review(log) {
            self.send_at(now);
        }
    }

    /// When the failure of the one record was sent that may yet count.
    pub(super) fn undecided_since(&self) -> Option<Duration> {
        self.evidence.undecided_since()
    }

    /// Records of another batch were stored: that is enough for one more test of a record that was refused.
    pub(super) fn others_succeeded(&mut self, now: Duration) {
        if self.refusal.is_some() && !self.denials.is_denied() {
            self.send_at(now);
        }
    }

    /// If it waits to be sent, it is sent then.
    pub(super) fn send_at(&mut self, at: Duration) {
        if let NextStep::Send { due } = &mut self.step {
            *due = at;
        }
    }

    /// If it waits to be sent, it is sent then at the latest.
    pub(super) fn send_by(&mut self, at: Duration) {
        if let NextStep::Send { due } = &mut self.step {
            *due = at.min(*due);
        }
    }

    /// If its outcome is to be queried, it is queried then.
    pub(super) fn query_at(&mut self, at: Duration) {
        if let NextStep::Query(query) = &mut self.step {
            query.due = at;
        }
    }

    /// When its outcome is to be queried.
    pub(super) fn query_due(&self, config: &Config) -> Option<Duration> {
        match self.step {
            NextStep::Query(query) if queries_enabled(config) => Some(query.due),
            _ => None,
        }
    }

    /// When it is to be sent. Without outcome queries, sending it once more under the same id is as safe as a query.
    pub(super) fn send_due(&self, config: &Config) -> Option<Duration> {
        match self.step {
            NextStep::Send { due } => Some(due),
            NextStep::Query(query) if !queries_enabled(config) => Some(query.due),
            _ => None,
        }
    }

    /// Counted failures of the one record alone.
    pub(super) fn lone_failures(&self) -> u32 {
        self.evidence.counted
    }

    /// Whether a failure of the one record counts, or would count after a success of others.
    pub(super) fn has_lone_failure(&self) -> bool {
        self.evidence.has_failure()
    }

    /// Whether a failure of the one record counts only once others succeed.
    pub(super) fn awaits_success(&self) -> bool {
        self.evidence.awaits_success()
    }

    /// Whether it failed before, in a send or as a refusal.
    pub(super) fn has_failed(&self) -> bool {
        self.unclear_since.is_some() || self.refusal.is_some()
    }

    /// Whether its one record failed alone before: then its success would prove little about others.
    pub(super) fn has_failed_alone(&self) -> bool {
        self.has_lone_failure() || (self.batch.records == 1 && self.batch.attempt > 0)
    }

    /// Whether it may have a faulty record: it failed, was denied, or is a part of a batch that was.
    pub(super) fn is_suspected(&self) -> bool {
        self.batch.parent.is_some() || self.has_failed() || self.denials.is_denied()
    }

    /// Whether its response is awaited.
    pub(super) fn is_in_flight(&self) -> bool {
        self.step == NextStep::InFlight
    }

    /// Whether the server may be working on it although no response is awaited.
    pub(super) fn is_unclear(&self) -> bool {
        matches!(self.step, NextStep::Query(_))
    }

    /// Whether a canary would show what its failure is about. `is_stale`: no record was stored lately.
    pub(super) fn wants_canary(&self, is_stale: bool) -> bool {
        self.denials.wants_canary()
            || self.awaits_success()
            || (is_stale && self.batch.records == 1 && self.has_failed_alone())
    }

    /// A measure of how likely it has a faulty record: by its origin, and by how often it was sent and denied.
    pub(super) fn fault_likelihood(&self) -> u32 {
        let is_part = u32::from(self.batch.parent.is_some());
        self.sends / SENDS_AS_PROBE_MAX + is_part + self.denials.count()
    }

    /// Whether one record goes instead of the whole batch.
    pub(super) fn needs_carving(&self) -> bool {
        self.batch.records > 1 && self.denials.needs_carving()
    }

    /// Whether the evidence against the one record is complete. `lacks_queries`: without outcome queries it takes one
    /// failure more, as no query can confirm that it failed.
    pub(super) fn is_isolated(
        &self,
        quarantine_after: u32,
        glitches: &Glitches,
        lacks_queries: bool,
    ) -> bool {
        let unconfirmed = u32::from(self.refusal.is_none() && lacks_queries);
        let needed = quarantine_after.max(glitches.failures_needed(self.ancestors) + unconfirmed);
        self.batch.records == 1
            && matches!(self.step, NextStep::Send { .. })
            && self.evidence.counted >= needed
    }

    /// Whether a whole batch is better sent once more than cut: while most failures had no cause in the batch.
    pub(super) fn is_first_send(&self) -> bool {
        self.batch.stage == Stage::Fresh && self.sends == 1
    }

    /// Whether it fit the time limit according to the model.
    pub(super) fn fits_time_limit(&self, service: &ServiceTime, time_limit: Duration) -> bool {
        let limit = time_limit.as_secs_f64();
        service.has_enough_measurements() && self.expected.is_none_or(|expected| expected.upper <= limit)
    }
}
