//! The properties of a server: how long a batch takes, and which faults it has and when. Only the oracle reads them;
//! the other clients have to find out.

use std::f64::consts::TAU;
use std::time::Duration;

use crate::capacity::Capacity;
use crate::chance;
use crate::record::Record;

#[derive(Clone, Debug)]
pub(crate) struct ServerSpec {
    /// The gateway's time limit, counted from the end of the body.
    pub(crate) limit: Duration,
    /// Seconds for each batch, independent of its size.
    pub(crate) start: f64,
    /// Seconds for each record, by its type.
    pub(crate) each: [f64; 3],
    pub(crate) per_kib: f64,
    /// The exponent of the cost in the number of records.
    pub(crate) power: f64,
    /// Standard deviation of the logarithm of the time.
    pub(crate) sigma: f64,
    pub(crate) tail: Option<Tail>,
    pub(crate) load: Load,
    pub(crate) outages: Vec<Outage>,
    /// The probability that a batch gets a random 504; half of those batches are processed.
    pub(crate) random_504: f64,
    /// The probability that a request is refused with a 400 for no reason.
    pub(crate) random_400: f64,
    pub(crate) quota: Option<Quota>,
    pub(crate) look_ups: LookUps,
    /// The time limit as configured on the device, if it differs.
    pub(crate) configured: Option<Duration>,
    /// What several batches at once cost.
    pub(crate) capacity: Capacity,
}

/// How the server treats outcome queries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LookUps {
    Answered,
    /// The server does not support them.
    Missing,
    /// Each gets a 500.
    Failing,
    /// Each gets a 403.
    Denied,
    /// Each gets a 503.
    Throttled,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    pub(crate) probability: f64,
    pub(crate) factor: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    pub(crate) requests: u32,
    pub(crate) window: Duration,
}

/// The factor by which everything takes longer, over time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    Flat,
    Wave { period: Duration, peak: f64 },
    Step { from: Duration, until: Duration, factor: f64 },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) kind: OutageKind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum OutageKind {
    /// Every request gets a 504 after the time limit.
    TimesOut,
    /// Every request gets a 503 immediately.
    Unavailable,
}

impl Default for ServerSpec {
    /// The customer's example: 30 records in 35 s, behind a gateway with a time limit of a minute.
    fn default() -> Self {
        Self {
            limit: Duration::from_mins(1),
            start: 2.0,
            each: [1.1; 3],
            per_kib: 0.0,
            power: 1.0,
            sigma: 0.15,
            tail: None,
            load: Load::Flat,
            outages: Vec::new(),
            random_504: 0.0,
            random_400: 0.0,
            quota: None,
            look_ups: LookUps::Answered,
            configured: None,
            capacity: Capacity::UNLIMITED,
        }
    }
}

impl ServerSpec {
    /// The median time of a batch of these records, in seconds.
    pub(crate) fn mean<'a>(&self, at: Duration, records: impl Iterator<Item = &'a Record>) -> f64 {
        let (mut count, mut sum) = (0.0f64, self.start);
        for record in records {
            count += 1.0;
            sum += self.each[record.kind] + self.per_kib * record.bytes as f64 / 1024.0;
        }
        let crowded =
            if count > 0.0 { (sum - self.start) * (count.powf(self.power - 1.0) - 1.0) } else { 0.0 };
        (sum + crowded) * self.load(at)
    }

    fn load(&self, at: Duration) -> f64 {
        match self.load {
            Load::Wave { period, peak } => {
                let phase = TAU * at.as_secs_f64() / period.as_secs_f64();
                1.0 + (peak - 1.0) * (1.0 - phase.cos()) / 2.0
            }
            Load::Step { from, until, factor } if (from..until).contains(&at) => factor,
            Load::Flat | Load::Step { .. } => 1.0,
        }
    }

    /// The cost of a batch beyond that of its records, which a better size reduces.
    pub(crate) fn overhead(&self, at: Duration, count: usize) -> f64 {
        let each = self.each[0];
        let crowded = each * ((count as f64).powf(self.power) - count as f64);
        (self.start + crowded) * self.load(at)
    }

    /// The probability that a batch with the median time `mean` takes longer than `limit`.
    pub(crate) fn late(&self, mean: f64, limit: f64) -> f64 {
        let tail = self.tail.unwrap_or(Tail { probability: 0.0, factor: 1.0 });
        let beyond = |mean: f64| chance::exceeds((limit / mean).ln() / self.sigma);
        (1.0 - tail.probability) * beyond(mean) + tail.probability * beyond(mean * tail.factor)
    }

    pub(crate) fn outage(&self, at: Duration) -> Option<&Outage> {
        self.outages.iter().find(|outage| (outage.from..outage.until).contains(&at))
    }
}
