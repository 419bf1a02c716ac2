//! Limits on calls: how many at a time, and how many credits in a rolling window.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Calls with more records than this count against the second limit on calls at a time.
pub(crate) const SMALL_CALL_RECORDS_MAX: usize = 10;

#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitRules {
    /// Calls at a time.
    pub(crate) calls_max: usize,
    /// Calls at a time with more than [`SMALL_CALL_RECORDS_MAX`] records; `None` without such a limit.
    pub(crate) large_calls_max: Option<usize>,
    /// Credits in a window; `None` without a limit.
    pub(crate) credits_max: Option<u64>,
    pub(crate) window: Duration,
    /// Calls above a limit are a violation from so long after the client heard of the limit.
    pub(crate) reaction_time: Duration,
}

/// Why a call is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitReached {
    Calls { limit: usize, is_known: bool },
    Credits { limit: u64 },
}

#[derive(Debug)]
pub(crate) struct CallLimits {
    pub(crate) rules: LimitRules,
    in_flight: usize,
    large_in_flight: usize,
    pub(crate) most_in_flight: usize,
    spent: VecDeque<(Instant, u64)>,
    /// When the client first heard of the limit on calls, and of that on large calls.
    announced: [Option<Instant>; 2],
}

impl CallLimits {
    pub(crate) fn new(rules: LimitRules) -> Self {
        Self {
            rules,
            in_flight: 0,
            large_in_flight: 0,
            most_in_flight: 0,
            spent: VecDeque::new(),
            announced: [None; 2],
        }
    }

    /// Lets a call in, or says why not. `is_announcing` tells whether the refusal names the limit.
    pub(crate) fn enter(
        &mut self,
        records: usize,
        credits: u64,
        is_announcing: bool,
        now: Instant,
    ) -> Result<(), LimitReached> {
        let is_large = records > SMALL_CALL_RECORDS_MAX;
        if self.in_flight >= self.rules.calls_max {
            return Err(self.refuse_call(0, self.rules.calls_max, is_announcing, now));
        }
        if let Some(limit) = self.rules.large_calls_max
            && is_large
            && self.large_in_flight >= limit
        {
            return Err(self.refuse_call(1, limit, is_announcing, now));
        }
        if let Some(limit) = self.rules.credits_max
            && self.credits_spent(now) + credits > limit
        {
            return Err(LimitReached::Credits { limit });
        }
        self.spent.push_back((now, credits));
        self.in_flight += 1;
        self.large_in_flight += usize::from(is_large);
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        Ok(())
    }

    pub(crate) fn leave(&mut self, records: usize) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if records > SMALL_CALL_RECORDS_MAX {
            self.large_in_flight = self.large_in_flight.saturating_sub(1);
        }
    }

    fn refuse_call(&mut self, which: usize, limit: usize, is_announcing: bool, now: Instant) -> LimitReached {
        let announced = self.announced[which];
        let is_known = announced.is_some_and(|then| now.duration_since(then) > self.rules.reaction_time);
        if is_announcing && announced.is_none() {
            self.announced[which] = Some(now);
        }
        LimitReached::Calls { limit, is_known }
    }

    /// Credits of the window that ends now.
    pub(crate) fn credits_spent(&mut self, now: Instant) -> u64 {
        let window = self.rules.window;
        self.spent.retain(|(then, _)| now.duration_since(*then) < window);
        self.spent.iter().map(|(_, credits)| credits).sum()
    }

    /// What is left, once more than half is spent: before that, the CRM says nothing.
    pub(crate) fn credits_left_if_scarce(&mut self, now: Instant) -> Option<u64> {
        let limit = self.rules.credits_max?;
        let spent = self.credits_spent(now);
        (spent * 2 > limit).then(|| limit.saturating_sub(spent))
    }
}
