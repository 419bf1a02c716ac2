//! The link to the server: when it is up, and its bandwidth. The schedule is random but independent of the clients, so
//! all clients get the same one.

use std::time::Duration;

use fastrand::Rng;

use crate::chance;

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
const MORNING: f64 = 6.0 * HOUR;
const EVENING: f64 = 20.0 * HOUR;

#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkSpec {
    pub(crate) rtt: Duration,
    /// In bits per second.
    pub(crate) bandwidth: Bandwidth,
    pub(crate) pattern: Pattern,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bandwidth {
    Fixed(f64),
    /// A new log-uniform value each time the link comes up.
    Between(f64, f64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Pattern {
    Steady,
    /// Seconds up and down, uniform between 0.5 and 1.5 times these values.
    Flapping {
        up: f64,
        down: f64,
    },
    /// Down from evening to morning.
    Nights,
}

/// A period in which the link is up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Up {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    bits: f64,
}

impl Up {
    /// The time to send this many bytes.
    pub(crate) fn upload(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 * 8.0 / self.bits)
    }
}

pub(crate) struct Link {
    pub(crate) spec: LinkSpec,
    rng: Rng,
    ups: Vec<Up>,
}

impl Link {
    pub(crate) fn new(spec: LinkSpec, rng: Rng) -> Self {
        Self { spec, rng, ups: Vec::new() }
    }

    /// The period up that contains `at`, or else the next one.
    pub(crate) fn next_up(&mut self, at: Duration) -> Up {
        while self.ups.last().is_none_or(|up| up.until <= at) {
            let up = self.draw_next();
            self.ups.push(up);
        }
        self.ups[self.ups.partition_point(|up| up.until <= at)]
    }

    pub(crate) fn is_up(&mut self, at: Duration) -> bool {
        self.next_up(at).from <= at
    }

    fn draw_next(&mut self) -> Up {
        let last = self.ups.last().map(|up| up.until.as_secs_f64());
        let (from, until) = match self.spec.pattern {
            Pattern::Steady => (Duration::ZERO, Duration::MAX),
            Pattern::Flapping { up, down } => {
                let from =
                    last.map_or(0.0, |last| last + chance::uniform(0.5 * down, 1.5 * down, &mut self.rng));
                let until = from + chance::uniform(0.5 * up, 1.5 * up, &mut self.rng);
                (Duration::from_secs_f64(from), Duration::from_secs_f64(until))
            }
            Pattern::Nights => {
                let midnight = self.ups.len() as f64 * DAY;
                (Duration::from_secs_f64(midnight + MORNING), Duration::from_secs_f64(midnight + EVENING))
            }
        };
        let bits = match self.spec.bandwidth {
            Bandwidth::Fixed(bits) => bits,
            Bandwidth::Between(low, high) => chance::log_uniform(low, high, &mut self.rng),
        };
        Up { from, until, bits }
    }
}
