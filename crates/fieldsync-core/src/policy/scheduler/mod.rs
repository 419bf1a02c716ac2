//! What to do next, and what becomes of a batch: the planner's whole cycle without its effects.
//!
//! The driver asks [`Scheduler::next_action`], carries out the [`Action`], and tells what came of it;
//! [`Scheduler::on_response`] and [`Scheduler::on_outcome_reply`] say how the batch is to be settled on disk. One
//! action is under way at a time. The scheduler holds the open batches only, never the queue.
//!
//! | part | what it decides |
//! |---|---|
//! | `next_action` | what is done next |
//! | `responses` | what becomes of a batch that was answered, or was not |
//! | `outcome_replies` | what becomes of one whose outcome was asked for |
//! | `denials` | what becomes of a batch that is sent away, alone or with all others |
//! | `bisection` | the search for a record at fault |
//! | `server_health` | what is known of the server before it is sent anything |

mod bisection;
mod denials;
mod next_action;
mod outcome_replies;
mod responses;
mod server_health;
#[cfg(test)]
mod tests;
mod waits;

use std::collections::BTreeMap;
use std::time::Duration;

use super::breaker::BreakerState;
use super::isolation::{Cut, Evidence};
use super::learned::Learned;
use super::service_time::{Forecast, Load};
use super::sizing::BatchLimit;
use super::verdict::{Ambiguity, Verdict};
use crate::config::Config;
use crate::model::{
    Backlog, BatchId, BatchPhase, Deferral, LastError, LinkState, OpenBatch, Phase, RecordId, Sequence,
};
use crate::protocol::exchange::ServerHints;
use bisection::{Failing, Family};
use denials::Denials;
pub use next_action::UsualSize;
use server_health::ServerHealth;
use waits::Waits;

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Take fresh records from the queue and send them.
    Claim(ClaimOrder),
    /// Send an open batch.
    Send(BatchId, Sequence),
    /// Ask the server what became of a batch: of an open one, or, where nothing may be sent before the
    /// server is known to live, of any.
    QueryOutcome(BatchId),
    /// Set the one record of this batch aside: the evidence is complete.
    Quarantine(BatchId),
    /// Cut this part: the breaker asks for micro-batches, and it is larger; or it is denied again and
    /// again, and nothing smaller is there to show whether everyone is.
    Divide(BatchId),
    /// Send a record that the server has already, to see whether others get through.
    SendCanary(Sequence),
    /// Nothing, until something changes or the time comes.
    Rest {
        /// Why.
        phase: Phase,
        /// When to ask again, at the latest.
        until: Option<Duration>,
    },
}

/// What a claim may take.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimOrder {
    /// The size and why.
    pub limit: BatchLimit,
    /// For the header.
    pub sequence: Sequence,
}

/// What becomes of a batch on disk.
#[derive(Clone, Debug, PartialEq)]
pub enum Disposition {
    /// Every record by its own outcome; those without one as `missing` says.
    Close {
        /// In the order of the answer; foreign ids are ignored by the store.
        outcomes: Vec<(RecordId, Outcome)>,
        /// For records without a result.
        missing: Outcome,
    },
    /// The batch stays open under its id.
    Keep {
        /// What is known of its last send.
        phase: BatchPhase,
        /// Counted failures alone.
        lone_failures: u32,
        /// When given, its records are FAILED with it, and the attempt counts.
        error: Option<LastError>,
    },
    /// Its parts go on under ids of their own.
    Cut {
        /// How.
        cut: Cut,
        /// As in `Keep`.
        error: Option<LastError>,
    },
    /// The same set goes on under a new id.
    Rename {
        /// As in `Keep`.
        lone_failures: u32,
    },
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The server has it.
    Synced,
    /// Set aside for review.
    Quarantine(LastError),
    /// To be tried again after a back-off.
    Retry(LastError),
}

/// What the scheduler looks at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Since the daemon started.
    pub now: Duration,
    /// On the wall, for error entries.
    pub wall_ms: u64,
    /// For due times of records.
    pub steady_ms: u64,
    /// As it is now.
    pub config: &'a Config,
    /// What waits.
    pub backlog: &'a Backlog,
    /// The way to the server.
    pub link: LinkState,
    /// Why nothing is sent all the same.
    pub deferral: Option<Deferral>,
    /// How the server is treated.
    pub breaker: BreakerState,
}

/// What came of a send.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// What the answer means.
    pub verdict: &'a Verdict,
    /// The entry for the manifest.
    pub error: &'a LastError,
    /// Until the answer, or until it was given up.
    pub took: Duration,
    /// Of it, until the body was out; none when it was cut.
    pub sending: Option<Duration>,
    /// The answer is that of an earlier request.
    pub replayed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    InFlight,
    Send { due: Duration },
    LookUp { due: Duration, tries: usize, since: Duration, doubt: Ambiguity },
}

#[derive(Clone, Debug)]
struct Entry {
    batch: OpenBatch,
    step: Step,
    evidence: Evidence,
    /// What the server said when it refused the one record of the batch.
    refusal: Option<LastError>,
    /// Batches that it comes from and that failed.
    ancestors: u32,
    /// How often this set was sent, under whatever id.
    sends: u32,
    /// What it holds, once it was sent.
    load: Load,
    /// What was expected of it when it was sent, where anything was known.
    expected: Option<Forecast>,
    /// When it was first in doubt under this id, and how long its last send took until then.
    doubted_at: Option<Duration>,
    failed_after: Duration,
    /// The same set was sent under another id before.
    is_renamed: bool,
    /// The server said that it was still at it.
    is_processing: bool,
    denials: Denials,
}

impl Entry {
    fn new(batch: OpenBatch, step: Step) -> Self {
        let evidence = Evidence::restored(batch.lone_failures);
        let ancestors = u32::from(batch.parent.is_some());
        let sends = batch.attempt;
        Self {
            batch,
            step,
            evidence,
            refusal: None,
            ancestors,
            sends,
            load: Load::default(),
            expected: None,
            doubted_at: None,
            failed_after: Duration::ZERO,
            is_renamed: false,
            is_processing: false,
            denials: Denials::default(),
        }
    }
}

/// What speaks against a batch that goes on under a new id, and when that is due.
#[derive(Debug)]
struct Carried {
    from: BatchId,
    ancestors: u32,
    sends: u32,
    evidence: Evidence,
    refusal: Option<LastError>,
    due: Duration,
}

/// The open batches and what was learned.
#[derive(Debug)]
pub struct Scheduler {
    open: BTreeMap<BatchId, Entry>,
    learned: Learned,
    /// What the server's last answer asks for.
    hints: ServerHints,
    sent_in_run: u32,
    last_success: Option<Duration>,
    control_wanted: bool,
    server: ServerHealth,
    /// Refused requests without a stored record in between.
    refusals: u32,
    waits: Waits,
    carried: Option<Carried>,
    /// The parts of batches that were cut, by the id of the batch.
    families: BTreeMap<BatchId, Family>,
    /// What failed since others last got through.
    failing: Failing,
    rng: fastrand::Rng,
}

impl Scheduler {
    /// Goes on with the batches that a former life left open, and with what it learned.
    pub fn new(open: Vec<OpenBatch>, learned: Learned, rng: fastrand::Rng) -> Self {
        let mut scheduler = Self {
            open: BTreeMap::new(),
            learned,
            hints: ServerHints::default(),
            sent_in_run: 0,
            last_success: None,
            control_wanted: false,
            server: ServerHealth::default(),
            refusals: 0,
            waits: Waits::default(),
            carried: None,
            families: BTreeMap::new(),
            failing: Failing::Nothing,
            rng,
        };
        scheduler.track_batches(Duration::ZERO, open);
        scheduler
    }

    /// Takes note of batches that the store opened: the parts of one that was cut.
    pub fn track_batches(&mut self, now: Duration, batches: Vec<OpenBatch>) {
        for batch in batches {
            let step = match batch.phase {
                BatchPhase::Waiting => Step::Send { due: now },
                // Perhaps it was sent by a former life, perhaps not.
                BatchPhase::InFlight | BatchPhase::Unclear => {
                    Step::LookUp { due: now, tries: 0, since: now, doubt: Ambiguity::ConnectionLost }
                }
            };
            let carried = self.carried.take_if(|carried| batch.parent == Some(carried.from));
            let mut entry = Entry::new(batch, step);
            if let Some(Carried { evidence, refusal, due, ancestors, sends, .. }) = carried {
                let step = Step::Send { due };
                entry = Entry { step, evidence, refusal, ancestors, sends, is_renamed: true, ..entry };
            }
            self.joins_family(now, &mut entry);
            self.open.insert(entry.batch.id, entry);
        }
    }

    /// Takes note of a batch that is about to be sent.
    pub fn start_send(&mut self, now: Duration, batch: &OpenBatch, load: Load) {
        if batch.attempt == 1 {
            self.sent_in_run += 1;
        }
        let service = &self.learned.service;
        let expected = service.is_known().then(|| service.forecast(&load));
        let unsent = || OpenBatch { attempt: batch.attempt.saturating_sub(1), ..batch.clone() };
        let entry = self.open.entry(batch.id).or_insert_with(|| Entry::new(unsent(), Step::InFlight));
        entry.batch.clone_from(batch);
        entry.sends += 1;
        entry.step = Step::InFlight;
        (entry.load, entry.expected) = (load, expected);
        self.server.batch_sending(now, batch.id);
        self.others_went(batch.id);
    }

    /// What was expected of a batch when it was sent, where anything was known.
    pub fn expected_duration(&self, id: BatchId) -> Option<Forecast> {
        self.open.get(&id)?.expected
    }

    /// Forgets a batch that the store no longer has: its records were all taken out of it.
    pub fn forget_batch(&mut self, id: BatchId) {
        if let Some(entry) = self.open.remove(&id) {
            self.left_family(&entry, false);
        }
    }

    /// What was learned of one server says nothing of another. True when it is another one.
    pub fn switch_server(&mut self, config: &Config) -> bool {
        let endpoint = format!("{}{}", config.server.url, config.server.path);
        if self.learned.endpoint == endpoint {
            return false;
        }
        let another = !self.learned.endpoint.is_empty();
        let learned = if another { Learned::default() } else { std::mem::take(&mut self.learned) };
        self.learned = Learned { endpoint, ..learned };
        if another {
            (self.server, self.hints) = (ServerHealth::default(), ServerHints::default());
            (self.last_success, self.failing) = (None, Failing::Nothing);
        }
        another
    }

    /// A new run began: sequence numbers start again, and the server may have learned to look up.
    pub fn start_run(&mut self) {
        self.sent_in_run = 0;
        self.server.run_started();
        self.waits.end_deferral_override();
    }

    /// A person asked to try now, or the configuration changed: waits end.
    pub fn retry_now(&mut self, now: Duration) {
        self.link_restored(now);
        self.waits.end();
        for entry in self.open.values_mut() {
            entry.denials = Denials::default();
            if let Step::Send { due } = &mut entry.step {
                *due = now;
            }
        }
    }

    /// A person asked to try now: what waits is sent on whatever link, on whatever battery. What comes
    /// later, or another time, is deferred again.
    pub fn override_deferral(&mut self, view: &View<'_>) {
        self.waits.override_deferral(view);
    }

    /// Nothing is deferred any more: what a person wanted is done.
    pub fn end_deferral_override(&mut self) {
        self.waits.end_deferral_override();
    }

    /// The credential or a certificate was replaced: a stop ends, whatever it was for. A server may
    /// hide behind 404 from those it does not know, and no other wait has to do with who asks.
    pub fn credentials_renewed(&mut self, now: Duration) {
        self.waits.credentials_renewed();
        for entry in self.open.values_mut().filter(|entry| entry.denials.count > 0) {
            entry.denials = Denials::default();
            if let Step::Send { due } = &mut entry.step {
                *due = now.min(*due);
            }
        }
    }

    /// The link came back, or leads another way: what was waited for because of it ends.
    pub fn link_restored(&mut self, now: Duration) {
        self.waits.link_restored();
        for entry in self.open.values_mut() {
            if let Step::LookUp { due, .. } = &mut entry.step {
                *due = now;
            }
        }
    }

    /// From now on there is a record for [`Action::SendCanary`].
    pub fn canary_confirmed(&mut self) {
        self.server.canary_confirmed();
    }

    /// Takes note of what the server asks for on an answer of its own: it holds until the next one.
    pub fn apply_hints(&mut self, hints: ServerHints) {
        self.hints = hints;
    }

    /// What was learned, as it is to be kept.
    pub fn learned_state(&self, view: &View<'_>) -> Learned {
        Learned { breaker: view.breaker.kept(view.now, view.steady_ms), ..self.learned.clone() }
    }

    /// The time limit in front of the server.
    pub fn time_limit(&self, config: &Config) -> Duration {
        self.learned.time_limit(config.server.request_timeout.0)
    }

    /// The time that a batch may take: the limit less the margin, or the server's own wish.
    pub fn time_budget(&self, config: &Config) -> Duration {
        let ours = self.time_limit(config).mul_f64(1.0 - config.batch.safety_margin);
        self.hints.time_budget.map_or(ours, |theirs| ours.min(theirs))
    }

    fn set(&mut self, id: BatchId, step: Step) {
        if let Some(entry) = self.open.get_mut(&id) {
            entry.step = step;
        }
    }
}
