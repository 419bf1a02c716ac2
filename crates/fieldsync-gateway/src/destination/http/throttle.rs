//! When a call may start, and how large it may be.
//!
//! The destination limits calls at a time, large calls at a time, and credits. What it refuses lowers the limit here,
//! which rises again slowly.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::mapping::LimitsMapping;
use crate::clock::Clock;
use crate::policy::backoff::backoff_delay;

/// After so long, a call finds out whether credits have come back.
const CREDITS_PROBE_INTERVAL: Duration = Duration::from_mins(5);
/// How often a lowered limit on calls at a time rises by one.
const LIMIT_RAISE_INTERVAL: Duration = Duration::from_mins(10);
/// The waits after throttled calls that do not say how long.
const THROTTLE_DELAY_RANGE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

/// After so many calls in a row without a response, the destination cannot be reached.
const SILENT_CALLS_MAX: u32 = 3;
/// After so many responses in a row that say nothing about the records, people are told. One record may be the cause, so
/// that it takes more of them.
const UNUSABLE_RESPONSES_MAX: u32 = 6;
/// The waits between single calls that find out whether it can be reached again.
const PROBE_DELAY_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A longer wait than this is cut: a proxy in between may have asked for it.
const THROTTLE_WAIT_MAX: Duration = Duration::from_hours(1);

/// Why no call may start for so long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GateTrouble {
    pub(crate) wait: Duration,
    pub(crate) reason: String,
}

impl GateTrouble {
    fn of_silence(state: &GateState, now: Duration) -> Self {
        Self { wait: state.probe_at.saturating_sub(now), reason: state.silence_reason.clone() }
    }
}

impl GateTrouble {
    /// Calls go on meanwhile: one record may be the cause.
    fn of_unusable(state: &GateState) -> Self {
        Self { wait: Duration::ZERO, reason: state.unusable_reason.clone() }
    }
}

struct GateState {
    in_flight: usize,
    large_in_flight: usize,
    /// Calls at a time, as far as the destination is known.
    calls_max: usize,
    calls_max_changed: Duration,
    /// Throttled calls in a row.
    throttles: u32,
    blocked_until: Duration,
    block_reason: String,
    /// Calls in a row without a response, of all types.
    silent_calls: u32,
    /// When the next call finds out whether the destination can be reached.
    probe_at: Duration,
    silence_reason: String,
    /// Responses in a row that say nothing about the records, of all types.
    unusable_responses: u32,
    unusable_reason: String,
    credits_low_until: Duration,
    /// Records in a call: fewer after calls that took too long.
    records_max: usize,
}

impl GateState {
    fn is_unreachable(&self) -> bool {
        self.silent_calls >= SILENT_CALLS_MAX
    }

    fn is_unusable(&self) -> bool {
        self.unusable_responses >= UNUSABLE_RESPONSES_MAX
    }
}

enum EntryCheck {
    Entered,
    Full,
    Blocked(GateTrouble),
}

/// Lets calls in.
pub(crate) struct CallGate {
    limits: LimitsMapping,
    records_max: usize,
    clock: Clock,
    state: Mutex<GateState>,
    changed: Notify,
}

impl CallGate {
    pub(crate) fn new(limits: LimitsMapping, records_max: usize, clock: Clock) -> Self {
        let state = GateState {
            in_flight: 0,
            large_in_flight: 0,
            calls_max: limits.max_in_flight,
            calls_max_changed: Duration::ZERO,
            throttles: 0,
            blocked_until: Duration::ZERO,
            block_reason: String::new(),
            silent_calls: 0,
            probe_at: Duration::ZERO,
            silence_reason: String::new(),
            unusable_responses: 0,
            unusable_reason: String::new(),
            credits_low_until: Duration::ZERO,
            records_max,
        };
        Self { limits, records_max, clock, state: Mutex::new(state), changed: Notify::new() }
    }

    /// Whether it has these limits.
    pub(crate) fn has_limits(&self, limits: &LimitsMapping, records_max: usize) -> bool {
        self.limits == *limits && self.records_max == records_max
    }

    /// Waits until the call may start, as long as only other calls of this gateway are in the way.
    pub(crate) async fn enter(&self, records: usize) -> Result<GatePermit<'_>, GateTrouble> {
        let is_large = self.limits.small_call_records.is_some_and(|small| records > small);
        loop {
            let changed = self.changed.notified();
            match self.check_entry(is_large, self.clock.now()) {
                EntryCheck::Entered => return Ok(GatePermit { gate: self, is_large }),
                EntryCheck::Blocked(trouble) => return Err(trouble),
                EntryCheck::Full => changed.await,
            }
        }
    }

    fn check_entry(&self, is_large: bool, now: Duration) -> EntryCheck {
        let mut state = self.lock();
        if let Some(trouble) = find_block(&state, now) {
            return EntryCheck::Blocked(trouble);
        }
        while state.calls_max < self.limits.max_in_flight
            && state.calls_max_changed + LIMIT_RAISE_INTERVAL <= now
        {
            state.calls_max += 1;
            state.calls_max_changed += LIMIT_RAISE_INTERVAL;
        }
        let is_large_full =
            is_large && self.limits.max_large_in_flight.is_some_and(|max| state.large_in_flight >= max);
        let calls_max = if state.is_unreachable() { 1 } else { state.calls_max };
        if state.in_flight >= calls_max || is_large_full {
            return EntryCheck::Full;
        }
        state.in_flight += 1;
        state.large_in_flight += usize::from(is_large);
        EntryCheck::Entered
    }

    /// Records in a call while so many are due: small calls while they can all start at once, large ones to catch up.
    pub(crate) fn choose_call_records(&self, due: usize) -> usize {
        let state = self.lock();
        let free = state.calls_max.saturating_sub(state.in_flight);
        let chosen = match (self.limits.small_call_records, self.limits.max_large_in_flight) {
            (Some(small), _) if due <= small.saturating_mul(free) => small,
            (Some(small), Some(max)) if state.large_in_flight >= max => small,
            _ => self.records_max,
        };
        chosen.min(state.records_max).max(1)
    }

    /// A call of so many records took too long, or was too large. Of one record, that says nothing about the others.
    pub(crate) fn note_too_large(&self, records: usize) {
        if records <= 1 {
            return;
        }
        let mut state = self.lock();
        state.records_max = state.records_max.min((records / 2).max(1));
    }

    /// A call of so many records was answered.
    pub(crate) fn note_answered(&self, records: usize) {
        let mut state = self.lock();
        state.throttles = 0;
        if records >= state.records_max {
            state.records_max = (state.records_max + 1).min(self.records_max);
        }
    }

    /// The call, whose permit is still held, was throttled. Returns how long no call starts.
    pub(crate) fn note_throttled(
        &self,
        after: Option<Duration>,
        limit: Option<usize>,
        is_limit: bool,
        reason: &str,
    ) -> Duration {
        let now = self.clock.now();
        let mut state = self.lock();
        state.throttles = state.throttles.saturating_add(1);
        if is_limit {
            let limit = limit.unwrap_or(state.in_flight.saturating_sub(1));
            state.calls_max = state.calls_max.min(limit).max(1);
            state.calls_max_changed = now;
        }
        let (first, longest) = THROTTLE_DELAY_RANGE;
        let wait = match after {
            Some(after) => after.clamp(first, THROTTLE_WAIT_MAX),
            None => backoff_delay(first, longest, state.throttles, &mut fastrand::Rng::new()),
        };
        state.blocked_until = state.blocked_until.max(now + wait);
        reason.clone_into(&mut state.block_reason);
        state.blocked_until.saturating_sub(now)
    }

    /// A call got no response. Returns whether the destination cannot be reached: then single calls try again.
    pub(crate) fn note_silence(&self, reason: &str) -> bool {
        let now = self.clock.now();
        let mut state = self.lock();
        state.silent_calls = state.silent_calls.saturating_add(1);
        reason.clone_into(&mut state.silence_reason);
        let Some(probes) = state.silent_calls.checked_sub(SILENT_CALLS_MAX) else { return false };
        let (first, longest) = PROBE_DELAY_RANGE;
        let wait = backoff_delay(first, longest, probes.saturating_add(1), &mut fastrand::Rng::new());
        state.probe_at = now + wait;
        true
    }

    /// A call got a response, whatever it says.
    pub(crate) fn note_response(&self) {
        self.lock().silent_calls = 0;
    }

    /// A call got a response that says nothing about its records.
    pub(crate) fn note_unusable(&self, reason: &str) {
        let mut state = self.lock();
        state.unusable_responses = state.unusable_responses.saturating_add(1);
        reason.clone_into(&mut state.unusable_reason);
    }

    /// A response was the destination's own, or an operator may have acted.
    pub(crate) fn forget_unusable(&self) {
        let mut state = self.lock();
        state.unusable_responses = 0;
        state.silent_calls = 0;
    }

    /// What a response says about credits; nothing if many are left.
    pub(crate) fn note_credits(&self, left: Option<u64>) {
        let until = match left {
            Some(left) if left < self.limits.credits_min => self.clock.now() + CREDITS_PROBE_INTERVAL,
            _ => Duration::ZERO,
        };
        self.lock().credits_low_until = until;
    }

    /// Why no record is handed over now.
    pub(crate) fn trouble(&self) -> Option<GateTrouble> {
        let (state, now) = (self.lock(), self.clock.now());
        // While the next call is due or under way, there is nothing to wait for.
        find_block(&state, now)
            .or_else(|| state.is_unreachable().then(|| GateTrouble::of_silence(&state, now)))
            .or_else(|| state.is_unusable().then(|| GateTrouble::of_unusable(&state)))
    }

    /// Why only urgent records are handed over now.
    pub(crate) fn scarcity(&self) -> Option<GateTrouble> {
        let (until, now) = (self.lock().credits_low_until, self.clock.now());
        (now < until).then(|| GateTrouble {
            wait: until.saturating_sub(now),
            reason: "the destination has few credits left, which are kept for urgent records".into(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find_block(state: &GateState, now: Duration) -> Option<GateTrouble> {
    if now < state.blocked_until {
        let wait = state.blocked_until.saturating_sub(now);
        return Some(GateTrouble { wait, reason: state.block_reason.clone() });
    }
    (state.is_unreachable() && now < state.probe_at).then(|| GateTrouble::of_silence(state, now))
}

/// A call that was let in. Dropping it lets the next one in.
pub(crate) struct GatePermit<'gate> {
    gate: &'gate CallGate,
    is_large: bool,
}

impl Drop for GatePermit<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.large_in_flight = state.large_in_flight.saturating_sub(usize::from(self.is_large));
        drop(state);
        self.gate.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
