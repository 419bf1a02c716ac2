//! The circuit breaker: reduces the load on a server that fails.
//!
//! ```text
//!            micro_after failures           open_after failures
//!   normal ─────────────────────▶ micro ─────────────────────────▶ open ◀──┐ failure
//!      ▲                          │   ▲                              │ wait │
//!      └── close_after successes ─┘   └───── success ── probing ◀────┘──────┘
//! ```
//!
//! Batches that were under way together fail together: a failure counts only if its batch was sent after the last one
//! that counted was known. Only failures of batches count. An unreachable server, throttling, a refused credential or a
//! portal say nothing about batches (`Effect::Neutral`). An outcome query that the server fails to process counts, too.
//! While open, an outcome query is the probe if the server supports it: it is cheap, so it may be sent three times as
//! often. Then exactly one micro-batch decides.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff;
use crate::clock::millis;
use crate::config;

/// An outcome query as the probe may be sent this many times as often as a batch.
const QUERIES_PER_BATCH: u32 = 3;

/// Which batches may be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Batches of the usual sizes.
    #[default]
    Normal,
    /// Micro-batches.
    Micro,
    /// None until the probe.
    Open {
        /// When the probe may be sent.
        until: Duration,
    },
    /// One micro-batch is under way.
    Probing,
}

impl Mode {
    /// The name in the API and in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Micro => "micro",
            Self::Open { .. } => "open",
            Self::Probing => "probing",
        }
    }
}

/// What the response to a request shows about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It processed the request.
    Success,
    /// It failed on the request.
    Failure,
    /// Nothing.
    Neutral,
}

/// The state of the breaker, as published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerState {
    /// Which batches may be sent.
    pub mode: Mode,
    /// Batch failures in a row.
    pub consecutive_failures: u32,
    /// How often it opened since it was last normal.
    pub openings: u32,
}

/// The state of the breaker as saved on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedBreaker {
    micro: bool,
    /// While open: when the probe may be sent, in steady milliseconds.
    open_until: Option<u64>,
    consecutive_failures: u32,
    openings: u32,
}

impl BreakerState {
    /// The state to save. `now` is `steady_ms` on the clock that continues over restarts.
    pub fn to_saved(&self, now: Duration, steady_ms: u64) -> SavedBreaker {
        let open_until = match self.mode {
            Mode::Open { until } => Some(steady_ms + millis(until.saturating_sub(now))),
            Mode::Probing => Some(steady_ms),
            Mode::Normal | Mode::Micro => None,
        };
        SavedBreaker {
            micro: self.mode == Mode::Micro,
            open_until,
            consecutive_failures: self.consecutive_failures,
            openings: self.openings,
        }
    }
}

impl SavedBreaker {
    /// The state to continue with after a restart.
    pub fn restore(self, now: Duration, steady_ms: u64) -> BreakerState {
        let mode = match self.open_until {
            Some(until) => Mode::Open { until: now + Duration::from_millis(until.saturating_sub(steady_ms)) },
            None if self.micro => Mode::Micro,
            None => Mode::Normal,
        };
        BreakerState { mode, consecutive_failures: self.consecutive_failures, openings: self.openings }
    }
}

/// The breaker.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    state: BreakerState,
    failures_in_mode: u32,
    successes_in_mode: u32,
    /// When the last failure that counted was known.
    counted_at: Option<Duration>,
}

impl Breaker {
    /// Continues from the state of the previous run; only the counts within the mode start over.
    pub fn restore(state: BreakerState) -> Self {
        Self { state, ..Self::default() }
    }

    /// The state to publish.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether a batch may be sent now; while open, the error is when to ask again.
    pub fn permit(&mut self, now: Duration) -> Result<(), Duration> {
        match self.state.mode {
            Mode::Open { until } if now < until => Err(until),
            Mode::Open { .. } => {
                self.enter_mode(Mode::Probing);
                Ok(())
            }
            Mode::Normal | Mode::Micro | Mode::Probing => Ok(()),
        }
    }

    /// Ends the wait: the link came up, or a person asked to try now.
    pub fn try_now(&mut self, now: Duration) {
        if let Mode::Open { until } = &mut self.state.mode {
            *until = now.min(*until);
        }
    }

    /// Records the response to a batch that was sent then.
    pub fn record_response(
        &mut self,
        now: Duration,
        sent_at: Duration,
        effect: Effect,
        config: &config::Breaker,
        rng: &mut fastrand::Rng,
    ) {
        match effect {
            Effect::Success => {
                self.state.consecutive_failures = 0;
                self.failures_in_mode = 0;
                self.successes_in_mode += 1;
                match self.state.mode {
                    Mode::Open { .. } | Mode::Probing => self.enter_mode(Mode::Micro),
                    Mode::Micro if self.successes_in_mode >= config.close_after => {
                        self.state.openings = 0;
                        self.enter_mode(Mode::Normal);
                    }
                    Mode::Normal | Mode::Micro => {}
                }
            }
            Effect::Failure if self.counted_at.is_some_and(|counted| sent_at < counted) => {}
            Effect::Failure => {
                self.counted_at = Some(now);
                self.state.consecutive_failures += 1;
                self.failures_in_mode += 1;
                self.successes_in_mode = 0;
                match self.state.mode {
                    Mode::Normal if self.failures_in_mode >= config.micro_after => {
                        self.enter_mode(Mode::Micro);
                    }
                    Mode::Micro if self.failures_in_mode >= config.open_after => {
                        self.open_until_backoff(now, config.open_max.0, config, rng);
                    }
                    Mode::Open { .. } | Mode::Probing => {
                        self.open_until_backoff(now, config.open_max.0, config, rng);
                    }
                    Mode::Normal | Mode::Micro => {}
                }
            }
            // A probe that showed nothing may be repeated at once; the link or a throttle delays it if necessary.
            Effect::Neutral => {
                if self.state.mode == Mode::Probing {
                    self.enter_mode(Mode::Open { until: now });
                }
            }
        }
    }

    /// Records the response to an outcome query that was sent then.
    pub fn record_query(
        &mut self,
        now: Duration,
        sent_at: Duration,
        effect: Effect,
        config: &config::Breaker,
        rng: &mut fastrand::Rng,
    ) {
        match (self.state.mode, effect) {
            // The server responds: one micro-batch may be sent.
            (Mode::Open { until }, Effect::Success) if until <= now => self.enter_mode(Mode::Probing),
            (Mode::Open { .. }, Effect::Failure) => {
                let most = (config.open_max.0 / QUERIES_PER_BATCH).max(config.open_min.0);
                self.open_until_backoff(now, most, config, rng);
            }
            (_, Effect::Failure) => self.record_response(now, sent_at, effect, config, rng),
            // A server that responds to queries need not be able to process batches.
            (_, Effect::Success | Effect::Neutral) => {}
        }
    }

    fn open_until_backoff(
        &mut self,
        now: Duration,
        most: Duration,
        config: &config::Breaker,
        rng: &mut fastrand::Rng,
    ) {
        self.state.openings += 1;
        let doublings = self.state.openings.min(31);
        let ceiling = config.open_min.0.saturating_mul(1 << doublings).min(most);
        let wait = backoff::uniform_between(config.open_min.0, ceiling, rng);
        self.enter_mode(Mode::Open { until: now + wait });
    }

    fn enter_mode(&mut self, mode: Mode) {
        self.state.mode = mode;
        self.failures_in_mode = 0;
        self.successes_in_mode = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Bench {
        breaker: Breaker,
        config: config::Breaker,
        rng: fastrand::Rng,
        now: Duration,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                breaker: Breaker::default(),
                config: config::Breaker::default(),
                rng: fastrand::Rng::with_seed(7),
                now: Duration::ZERO,
            }
        }

        fn after(&mut self, effects: &[Effect]) -> &'static str {
            for effect in effects {
                self.breaker.record_response(self.now, self.now, *effect, &self.config, &mut self.rng);
            }
            self.breaker.state().mode.name()
        }

        fn opened(mut self) -> Self {
            assert_eq!(self.after(&[Effect::Failure; 5]), "open");
            self
        }

        fn wait(&mut self) -> Duration {
            self.breaker.permit(self.now).unwrap_err().checked_sub(self.now).unwrap()
        }
    }

    #[test]
    fn three_failures_in_a_row_lead_to_micro_batches_and_two_more_to_a_pause() {
        use Effect::{Failure, Neutral, Success};
        for (effects, mode) in [
            (&[Failure, Failure][..], "normal"),
            (&[Failure, Failure, Failure], "micro"),
            (&[Failure, Failure, Success, Failure], "normal"),
            (&[Failure, Neutral, Failure, Neutral, Neutral], "normal"),
            (&[Failure, Failure, Neutral, Failure], "micro"),
            (&[Failure, Failure, Failure, Failure], "micro"),
            (&[Failure, Failure, Failure, Failure, Failure], "open"),
            (&[Failure, Failure, Failure, Success, Success], "micro"),
            (&[Failure, Failure, Failure, Success, Success, Success], "normal"),
        ] {
            assert_eq!(Bench::new().after(effects), mode, "{effects:?}");
        }
    }

    #[test]
    fn while_open_nothing_goes_then_exactly_one_probe_decides() {
        let mut bench = Bench::new().opened();
        let wait = bench.wait();
        bench.now += wait;
        assert_eq!(bench.breaker.permit(bench.now), Ok(()));
        assert_eq!(bench.breaker.state().mode, Mode::Probing);
        assert_eq!(bench.after(&[Effect::Failure]), "open");
        let wait = bench.wait();
        bench.now += wait;
        bench.breaker.permit(bench.now).unwrap();
        assert_eq!(bench.after(&[Effect::Success]), "micro");
        assert_eq!(bench.after(&[Effect::Success; 3]), "normal");
    }

    #[test]
    fn pauses_lie_between_the_least_and_the_longest_and_grow() {
        let mut bench = Bench::new().opened();
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            let wait = bench.wait();
            assert!(wait >= 30 * SECOND && wait <= 600 * SECOND, "{wait:?}");
            longest = longest.max(wait);
            bench.now += wait;
            bench.breaker.permit(bench.now).unwrap();
            bench.after(&[Effect::Failure]);
        }
        assert!(longest > 300 * SECOND, "{longest:?}");
    }

    #[test]
    fn a_look_up_is_the_probe_and_then_one_batch_decides() {
        let mut bench = Bench::new().opened();
        for _ in 0..20 {
            let wait = bench.wait();
            assert!(wait <= 200 * SECOND || bench.breaker.state().openings == 1, "{wait:?}");
            bench.now += wait;
            bench.breaker.record_query(bench.now, bench.now, Effect::Failure, &bench.config, &mut bench.rng);
            assert_eq!(bench.breaker.state().mode.name(), "open");
        }
        let wait = bench.wait();
        bench.now += wait;
        bench.breaker.record_query(bench.now, bench.now, Effect::Neutral, &bench.config, &mut bench.rng);
        assert_eq!(bench.breaker.state().mode.name(), "open", "it said nothing");
        bench.breaker.record_query(bench.now, bench.now, Effect::Success, &bench.config, &mut bench.rng);
        assert_eq!(bench.breaker.state().mode, Mode::Probing);
        assert_eq!(bench.after(&[Effect::Success]), "micro");
        bench.breaker.record_query(bench.now, bench.now, Effect::Success, &bench.config, &mut bench.rng);
        assert_eq!(bench.after(&[Effect::Failure]), "micro");
        bench.breaker.record_query(bench.now, bench.now, Effect::Failure, &bench.config, &mut bench.rng);
        assert_eq!(bench.breaker.state().mode.name(), "open", "a look-up that fails counts");
    }

    #[test]
    fn it_goes_on_after_a_restart() {
        let mut bench = Bench::new().opened();
        bench.now += 10 * SECOND;
        let (state, wait) = (bench.breaker.state(), bench.wait());
        let kept = serde_json::to_vec(&state.to_saved(bench.now, 1_000_000)).unwrap();
        let kept: SavedBreaker = serde_json::from_slice(&kept).unwrap();
        let mut after = Breaker::restore(kept.restore(SECOND, 1_004_000));
        let until = after.permit(SECOND).unwrap_err();
        assert_eq!((until + 3 * SECOND).as_secs(), wait.as_secs(), "four seconds passed");
        assert_eq!(after.state().openings, state.openings);
        let probing = BreakerState { mode: Mode::Probing, ..state };
        let kept = probing.to_saved(bench.now, 5000);
        assert_eq!(
            kept.restore(SECOND, 5000).mode,
            Mode::Open { until: SECOND },
            "the probe may be repeated"
        );
        for mode in [Mode::Normal, Mode::Micro] {
            let kept = BreakerState { mode, ..state }.to_saved(bench.now, 5000);
            assert_eq!(kept.restore(SECOND, 5000).mode, mode);
        }
    }

    #[test]
    fn a_returning_link_ends_the_pause_and_a_neutral_probe_may_be_repeated() {
        let mut bench = Bench::new().opened();
        bench.breaker.try_now(bench.now);
        assert_eq!(bench.breaker.permit(bench.now), Ok(()));
        assert_eq!(bench.after(&[Effect::Neutral]), "open");
        assert_eq!(bench.breaker.permit(bench.now), Ok(()));
    }
}
