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
//! portal say nothing about batches (`Effect::Neutral`). A look-up that the server fails to answer counts,
//! too. While open, a look-up is the probe where the server has look-up: it costs next to nothing, so
//! it may go three times as often; then exactly one micro-batch decides.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff;
use crate::clock::millis;
use crate::config;

/// A look-up as the probe may go so many times as often as a batch.
const LOOK_UPS_A_BATCH: u32 = 3;

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
    /// Times that it opened since it was last normal.
    pub openings: u32,
}

/// As it is kept over a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBreaker {
    micro: bool,
    /// While open: until when, in steady milliseconds.
    open_until: Option<u64>,
    consecutive_failures: u32,
    openings: u32,
}

impl BreakerState {
    /// As it is kept: `now` is `steady_ms` on the clock that goes on over restarts.
    pub fn kept(&self, now: Duration, steady_ms: u64) -> KeptBreaker {
        let open_until = match self.mode {
            Mode::Open { until } => Some(steady_ms + millis(until.saturating_sub(now))),
            Mode::Probing => Some(steady_ms),
            Mode::Normal | Mode::Micro => None,
        };
        KeptBreaker {
            micro: self.mode == Mode::Micro,
            open_until,
            consecutive_failures: self.consecutive_failures,
            openings: self.openings,
        }
    }
}

impl KeptBreaker {
    /// As it goes on.
    pub fn resumed(self, now: Duration, steady_ms: u64) -> BreakerState {
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
}

impl Breaker {
    /// Goes on as a former life left it; only the count within the mode begins anew.
    pub fn resume(state: BreakerState) -> Self {
        Self { state, ..Self::default() }
    }

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
                        self.state.openings = 0;
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
                    Mode::Micro if self.failures_in_mode >= config.open_after => {
                        self.open(now, config.open_max.0, config, rng);
                    }
                    Mode::Open { .. } | Mode::Probing => self.open(now, config.open_max.0, config, rng),
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

    /// Takes note of the answer to a look-up.
    pub fn looked_up(
        &mut self,
        now: Duration,
        effect: Effect,
        config: &config::Breaker,
        rng: &mut fastrand::Rng,
    ) {
        match (self.state.mode, effect) {
            // It lives: one micro-batch may try.
            (Mode::Open { until }, Effect::Success) if until <= now => self.enter(Mode::Probing),
            (Mode::Open { .. }, Effect::Failure) => {
                let most = (config.open_max.0 / LOOK_UPS_A_BATCH).max(config.open_min.0);
                self.open(now, most, config, rng);
            }
            (_, Effect::Failure) => self.record(now, effect, config, rng),
            // A batch that gets through is another thing than a server that answers.
            (_, Effect::Success | Effect::Neutral) => {}
        }
    }

    fn open(&mut self, now: Duration, most: Duration, config: &config::Breaker, rng: &mut fastrand::Rng) {
        self.state.openings += 1;
        let doublings = self.state.openings.min(31);
        let ceiling = config.open_min.0.saturating_mul(1 << doublings).min(most);
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
    fn a_look_up_is_the_probe_and_then_one_batch_decides() {
        let mut bench = Bench::new().opened();
        for _ in 0..20 {
            let wait = bench.wait();
            assert!(wait <= 200 * SECOND || bench.breaker.state().openings == 1, "{wait:?}");
            bench.now += wait;
            bench.breaker.looked_up(bench.now, Effect::Failure, &bench.config, &mut bench.rng);
            assert_eq!(bench.breaker.state().mode.name(), "open");
        }
        let wait = bench.wait();
        bench.now += wait;
        bench.breaker.looked_up(bench.now, Effect::Neutral, &bench.config, &mut bench.rng);
        assert_eq!(bench.breaker.state().mode.name(), "open", "it said nothing");
        bench.breaker.looked_up(bench.now, Effect::Success, &bench.config, &mut bench.rng);
        assert_eq!(bench.breaker.state().mode, Mode::Probing);
        assert_eq!(bench.after(&[Effect::Success]), "micro");
        bench.breaker.looked_up(bench.now, Effect::Success, &bench.config, &mut bench.rng);
        assert_eq!(bench.after(&[Effect::Failure]), "micro");
        bench.breaker.looked_up(bench.now, Effect::Failure, &bench.config, &mut bench.rng);
        assert_eq!(bench.breaker.state().mode.name(), "open", "a look-up that fails counts");
    }

    #[test]
    fn it_goes_on_after_a_restart() {
        let mut bench = Bench::new().opened();
        bench.now += 10 * SECOND;
        let (state, wait) = (bench.breaker.state(), bench.wait());
        let kept = serde_json::to_vec(&state.kept(bench.now, 1_000_000)).unwrap();
        let kept: KeptBreaker = serde_json::from_slice(&kept).unwrap();
        let mut after = Breaker::resume(kept.resumed(SECOND, 1_004_000));
        let until = after.permit(SECOND).unwrap_err();
        assert_eq!((until + 3 * SECOND).as_secs(), wait.as_secs(), "four seconds passed");
        assert_eq!(after.state().openings, state.openings);
        let probing = BreakerState { mode: Mode::Probing, ..state };
        let kept = probing.kept(bench.now, 5000);
        assert_eq!(
            kept.resumed(SECOND, 5000).mode,
            Mode::Open { until: SECOND },
            "the probe may be repeated"
        );
        for mode in [Mode::Normal, Mode::Micro] {
            let kept = BreakerState { mode, ..state }.kept(bench.now, 5000);
            assert_eq!(kept.resumed(SECOND, 5000).mode, mode);
        }
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
