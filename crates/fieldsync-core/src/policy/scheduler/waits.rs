//! Why nothing is sent although records wait, and until when: back-offs, stops, and deferral.

use std::time::Duration;

use super::View;
use crate::model::{Phase, WaitCause};
use crate::policy::backoff;
use crate::policy::verdict::Verdict;

/// After a denial, the server is queried this many times as often as it would be sent a batch.
const QUERIES_PER_BATCH: u32 = 3;
/// A stop is retried so many times per longest back-off: a batch that has no company is denied a second time, and
/// cut, within one.
const STOP_RETRIES: u32 = 2;
/// Extra wait on top of `Retry-After`, so that a fleet does not return in step.
const RETRY_AFTER_SPREAD: f64 = 0.05;
const RETRY_AFTER_SPREAD_MAX: Duration = Duration::from_secs(10);
/// The longest wait between two tries of an address that cannot be reached.
const UNREACHABLE_WAIT_MAX: Duration = Duration::from_secs(15);

/// Why nothing is sent for a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum WaitReason {
    /// Something failed. A link that returns ends the wait.
    BackOff,
    /// The server asked for it.
    ServerAsked,
    /// The credential was refused.
    AuthRequired,
    /// The address is not that of a batch endpoint.
    Misconfigured,
}

impl WaitReason {
    /// The phase of a stop: a wait that calls for a person.
    fn stop_phase(self) -> Option<Phase> {
        match self {
            Self::AuthRequired => Some(Phase::AuthRequired),
            Self::Misconfigured => Some(Phase::Misconfigured),
            Self::BackOff | Self::ServerAsked => None,
        }
    }
}

/// Nothing is sent until then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wait {
    since: Duration,
    pub(super) until: Duration,
    reason: WaitReason,
    /// Other records may yet show that the denial is about one batch, and not about the sender.
    pub(super) is_unconfirmed: bool,
}

impl Wait {
    /// The phase, if a person has to act.
    pub(super) fn stop_phase(self) -> Option<Phase> {
        self.reason.stop_phase()
    }

    /// What the planner says that it waits for.
    pub(super) fn cause(self) -> WaitCause {
        match self.reason {
            WaitReason::ServerAsked => WaitCause::ServerAsked,
            WaitReason::BackOff | WaitReason::AuthRequired | WaitReason::Misconfigured => WaitCause::BackOff,
        }
    }
}

/// Why nothing is sent.
#[derive(Debug, Default)]
pub(super) struct Waits {
    current: Option<Wait>,
    /// Back-offs in a row.
    setbacks: u32,
    /// When the last one began.
    setback_at: Duration,
    /// How many waits began.
    pub(super) begun: u64,
    /// A person asked to send the waiting records despite a deferral, until this many are settled.
    deferral_override: Option<u64>,
}

impl Waits {
    /// The wait that is not over, if there is one.
    pub(super) fn current(&self, now: Duration) -> Option<Wait> {
        self.current.filter(|wait| now < wait.until)
    }

    /// Whether the server itself said when to come back.
    pub(super) fn is_server_asked(&self) -> bool {
        self.current.is_some_and(|wait| wait.reason == WaitReason::ServerAsked)
    }

    /// Starts a wait, in place of any other. `since`: now; `sent_at`: when the request was sent that is the reason. If
    /// others that were under way with it are the reason of the present wait, the longer one holds, and a back-off
    /// replaces none that the server asked for or that calls for a person.
    pub(super) fn wait_until(
        &mut self,
        since: Duration,
        sent_at: Duration,
        until: Duration,
        reason: WaitReason,
    ) {
        let is_weaker = |present: Wait| {
            let is_mere_backoff = reason == WaitReason::BackOff && present.reason != WaitReason::BackOff;
            is_mere_backoff || present.until >= until
        };
        if self.current(since).is_some_and(|present| sent_at < present.since && is_weaker(present)) {
            return;
        }
        let is_unconfirmed = reason.stop_phase().is_some();
        self.begun += 1;
        self.current = Some(Wait { since, until, reason, is_unconfirmed });
    }

    /// The current wait concerns every batch: no other can show the contrary.
    pub(super) fn confirm(&mut self) {
        if let Some(wait) = &mut self.current {
            wait.is_unconfirmed = false;
        }
    }

    /// Nothing is sent for a back-off that grows with each failure in a row. `sent_at`: when the request was sent that
    /// failed; requests that were under way together fail for one reason.
    pub(super) fn pause(
        &mut self,
        view: &View<'_>,
        sent_at: Duration,
        longest: Duration,
        rng: &mut fastrand::Rng,
    ) {
        let until = view.now + self.next_backoff(view, sent_at, longest, rng);
        self.wait_until(view.now, sent_at, until, WaitReason::BackOff);
    }

    /// Something on the way to the server fails: a short back-off.
    pub(super) fn wait_for_link(&mut self, view: &View<'_>, sent_at: Duration, rng: &mut fastrand::Rng) {
        let longest = view.config.retry.max_backoff.0.min(UNREACHABLE_WAIT_MAX);
        self.pause(view, sent_at, longest, rng);
    }

    /// A response that says nothing about a batch, but when to come back. `may_query`: an outcome query comes next,
    /// which is cheap.
    pub(super) fn back_off(
        &mut self,
        view: &View<'_>,
        sent_at: Duration,
        verdict: &Verdict,
        may_query: bool,
        rng: &mut fastrand::Rng,
    ) {
        let retry = &view.config.retry;
        let (wait, reason) = match verdict {
            Verdict::Throttled { retry_after: Some(asked), is_protocol } if !asked.is_zero() => {
                // Only the server itself may ask for a longer wait than our own back-off.
                let (longest, reason) = if *is_protocol {
                    (retry.max_retry_after.0, WaitReason::ServerAsked)
                } else {
                    (retry.max_backoff.0, WaitReason::BackOff)
                };
                (add_jitter((*asked).min(longest), rng), reason)
            }
            Verdict::Throttled { .. } => {
                let tries = if may_query { QUERIES_PER_BATCH } else { 1 };
                (self.next_backoff(view, sent_at, retry.max_backoff.0 / tries, rng), WaitReason::BackOff)
            }
            // A person has to act; but a server that works again must be found without a person at the device.
            Verdict::Unauthorized => (retry.max_backoff.0 / STOP_RETRIES, WaitReason::AuthRequired),
            Verdict::EndpointNotFound => (retry.max_backoff.0 / STOP_RETRIES, WaitReason::Misconfigured),
            _ => return self.wait_for_link(view, sent_at, rng),
        };
        self.wait_until(view.now, sent_at, view.now + wait, reason);
    }

    /// An outcome query failed. A present wait continues.
    pub(super) fn query_failed(
        &mut self,
        view: &View<'_>,
        asked_at: Duration,
        is_in_question: bool,
        rng: &mut fastrand::Rng,
    ) {
        if self.current(view.now).is_some() {
            return;
        }
        if is_in_question {
            self.pause(view, asked_at, view.config.retry.max_backoff.0 / QUERIES_PER_BATCH, rng);
        } else {
            self.wait_for_link(view, asked_at, rng);
        }
    }

    /// An outcome query that was sent then got a response. `ends_stops`: it shows that the sender is not denied.
    pub(super) fn query_answered(&mut self, asked_at: Duration, ends_stops: bool) {
        self.current = self.current.filter(|wait| match wait.reason {
            _ if asked_at < wait.since => true,
            WaitReason::ServerAsked => true,
            WaitReason::AuthRequired | WaitReason::Misconfigured => !ends_stops,
            WaitReason::BackOff => false,
        });
    }

    /// The server responded with results for records, to a request that was sent then. What was sent before a wait
    /// began does not end it.
    pub(super) fn batch_completed(&mut self, sent_at: Duration) {
        if self.current.is_none_or(|wait| wait.since <= sent_at) {
            self.setbacks = 0;
            self.end_wait();
        }
    }

    /// Ends the wait of any reason.
    pub(super) fn end_wait(&mut self) {
        self.current = None;
    }

    /// The link came back, or leads another way: back-offs end.
    pub(super) fn link_restored(&mut self) {
        self.current = self.current.filter(|wait| wait.reason != WaitReason::BackOff);
        self.setbacks = 0;
    }

    /// The credential or a certificate was replaced: a stop ends, whatever its reason. A server may respond 404 to
    /// those it does not know. No other wait depends on the credential.
    pub(super) fn credentials_renewed(&mut self) {
        self.current = self.current.filter(|wait| wait.stop_phase().is_none());
    }

    /// A person asked to try now: the records that wait are sent whatever the link costs and however low the battery
    /// is. Later records, or a later deferral, wait again.
    pub(super) fn override_deferral(&mut self, view: &View<'_>) {
        let backlog = view.backlog;
        self.deferral_override = view.deferral.map(|_| backlog.settled_total + backlog.to_go());
    }

    /// Forgets [`Self::override_deferral`].
    pub(super) fn end_deferral_override(&mut self) {
        self.deferral_override = None;
    }

    /// Whether sending is deferred, and no person asked for it.
    pub(super) fn is_deferred(&self, view: &View<'_>) -> bool {
        let is_wanted = self.deferral_override.is_some_and(|until| view.backlog.settled_total < until);
        view.deferral.is_some() && !is_wanted
    }

    fn next_backoff(
        &mut self,
        view: &View<'_>,
        sent_at: Duration,
        longest: Duration,
        rng: &mut fastrand::Rng,
    ) -> Duration {
        if self.setbacks == 0 || sent_at >= self.setback_at {
            self.setbacks = self.setbacks.saturating_add(1);
            self.setback_at = view.now;
        }
        let first = view.config.retry.initial_backoff.0.min(longest);
        backoff::backoff_delay(first, longest, self.setbacks, rng)
    }
}

fn add_jitter(wait: Duration, rng: &mut fastrand::Rng) -> Duration {
    let most = wait.mul_f64(RETRY_AFTER_SPREAD).min(RETRY_AFTER_SPREAD_MAX);
    wait + backoff::uniform_between(Duration::ZERO, most, rng)
}
