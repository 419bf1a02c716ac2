//! The circuit breaker: spares a server that struggles.
//!
//! ```text
//!            micro_after failures           open_after failures
//!   normal ─────────────────────▶ micro ─────────────────────────▶ open ◀──┐ failure
//!      ▲                          │   ▲                              │ wait │
//!      └── close_after successes ─┘   └───── success ── probing ◀────┘──────┘
//! ```
//!
//! Only batch failures count: an unreachable server, throttling, a refused credential or a
//! portal say nothing about batches (`Effect::Neutral`).

use std::time::Duration;

use super::backoff;
use crate::config;

/// How the server is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Batches of the usual sizes.
    #[default]
    Normal,
    /// Micro-batches.
    Micro,
    /// Nothing until then.
    Open {
        /// When the probe may go.
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

/// What the answer to a batch says about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It answered for the records.
    Success,
    /// It failed on the batch.
    Failure,
    /// Nothing.
    Neutral,
}

/// What the breaker announces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerState {
    /// How the server is treated.
    pub mode: Mode,
    /// Batch failures in a row.
    pub consecutive_failures: u32,
}

/// The breaker.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    state: BreakerState,
    failures_in_mode: u32,
    successes_in_mode: u32,
    openings: u32,
}

impl Breaker {
    /// As announced.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether a batch may go now; while open, when to ask again.
    pub fn permit(&mut self, now: Duration) -> Result<(), Duration> {
        match self.state.mode {
            Mode::Open { until } if now < until => Err(until),
            Mode::Open { .. } => {
                self.enter(Mode::Probing);
                Ok(())
            }
            Mode::Normal | Mode::Micro | Mode::Probing => Ok(()),
        }
    }

    /// Ends the wait: the link came back, or a person asked.
    pub fn hurry(&mut self, now: Duration) {
        if let Mode::Open { until } = &mut self.state.mode {
            *until = now.min(*until);
        }
    }

    /// Takes note of an answer.
    pub fn record(
        &mut self,
        now: Duration,
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
                    Mode::Open { .. } | Mode::Probing => self.enter(Mode::Micro),
                    Mode::Micro if self.successes_in_mode >= config.close_after => {
                        self.openings = 0;
                        self.enter(Mode::Normal);
                    }
                    Mode::Normal | Mode::Micro => {}
                }
            }
            Effect::Failure => {
                self.state.consecutive_failures += 1;
                self.failures_in_mode += 1;
                self.successes_in_mode = 0;
                match self.state.mode {
                    Mode::Normal if self.failures_in_mode >= config.micro_after => self.enter(Mode::Micro),
                    Mode::Micro if self.failures_in_mode >= config.open_after => self.open(now, config, rng),
                    Mode::Open { .. } | Mode::Probing => self.open(now, config, rng),
                    Mode::Normal | Mode::Micro => {}
                }
            }
            // A probe that told nothing may be repeated at once; its own gates (link, throttle) hold it.
            Effect::Neutral => {
                if self.state.mode == Mode::Probing {
                    self.enter(Mode::Open { until: now });
                }
            }
        }
    }

    fn open(&mut self, now: Duration, config: &config::Breaker, rng: &mut fastrand::Rng) {
        self.openings += 1;
        let doublings = self.openings.min(31);
        let ceiling = config.open_min.0.saturating_mul(1 << doublings).min(config.open_max.0);
        let wait = backoff::between(config.open_min.0, ceiling, rng);
        self.enter(Mode::Open { until: now + wait });
    }

    fn enter(&mut self, mode: Mode) {
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
                self.breaker.record(self.now, *effect, &self.config, &mut self.rng);
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
    fn a_returning_link_ends_the_pause_and_a_neutral_probe_may_be_repeated() {
        let mut bench = Bench::new().opened();
        bench.breaker.hurry(bench.now);
        assert_eq!(bench.breaker.permit(bench.now), Ok(()));
        assert_eq!(bench.after(&[Effect::Neutral]), "open");
        assert_eq!(bench.breaker.permit(bench.now), Ok(()));
    }
}
