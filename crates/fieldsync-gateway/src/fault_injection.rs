//! Faults on demand: what bad servers and bad proxies do, so that demos and tests can meet it.
//!
//! Without a fault option nothing here changes any behaviour.

use std::time::Duration;

use super::ledger::CheckedBatch;
use super::option_values::{parse_duration, parse_share};

/// How long a hanging batch hangs when no time limit says what is long.
const HANG_WITHOUT_LIMIT: Duration = Duration::from_secs(30);
/// A hanging batch outlasts the time limit this many times.
const HANG_LIMITS: u32 = 3;
/// The share of unheard answers whose batch is processed all the same.
const UNHEARD_SHARE: f64 = 0.5;

/// The fault options.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Faults, for demos and tests")]
pub(crate) struct Faults {
    /// A proxy in front: answers 504 when a batch takes longer, while processing goes on behind it.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) time_limit: Option<Duration>,

    /// Processing time of each record.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub(crate) record_cost: Duration,

    /// Share of batches, 0.0 to 1.0, that get 504 at once; half of those are processed all the same.
    #[arg(long, value_name = "SHARE", default_value = "0.0", value_parser = parse_share)]
    pub(crate) fail_rate: f64,

    /// A record whose payload contains TEXT never finishes: its batch hangs, and is then forgotten.
    #[arg(long, value_name = "TEXT")]
    pub(crate) hang_on: Option<String>,

    /// A record whose payload contains TEXT is rejected.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reject_on: Option<String>,

    /// Behave as a server without look-up.
    #[arg(long)]
    pub(crate) no_lookup: bool,
}

/// What becomes of a request before anybody looks at its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing special.
    Heard,
    /// 504, and the batch is processed all the same.
    Unheard,
    /// 504, and the batch is lost.
    Lost,
}

/// How the work on a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// It may be applied.
    Done,
    /// It never finished: nothing of it may be applied.
    Abandoned,
}

impl Faults {
    /// Draws a request's fate.
    pub(crate) fn fate(&self) -> Fate {
        if fastrand::f64() >= self.fail_rate {
            Fate::Heard
        } else if fastrand::f64() < UNHEARD_SHARE {
            Fate::Unheard
        } else {
            Fate::Lost
        }
    }

    /// Spends the time that the batch costs.
    pub(crate) async fn work(&self, batch: &CheckedBatch) -> Work {
        if self.hangs(batch) {
            let hang = self.time_limit.map_or(HANG_WITHOUT_LIMIT, |limit| limit * HANG_LIMITS);
            tokio::time::sleep(hang).await;
            return Work::Abandoned;
        }
        let records = u32::try_from(batch.records.len()).unwrap_or(u32::MAX);
        let cost = self.record_cost.saturating_mul(records);
        // Even a sleep of no length waits for the timer's next tick.
        if !cost.is_zero() {
            tokio::time::sleep(cost).await;
        }
        Work::Done
    }

    /// The record is to be rejected for what its payload says.
    pub(crate) fn rejects(&self, payload: &str) -> bool {
        contains(payload, self.reject_on.as_ref())
    }

    fn hangs(&self, batch: &CheckedBatch) -> bool {
        batch.records.iter().any(|record| contains(record.payload.get(), self.hang_on.as_ref()))
    }
}

fn contains(payload: &str, text: Option<&String>) -> bool {
    text.is_some_and(|text| payload.contains(text.as_str()))
}

#[cfg(test)]
mod tests {
    use super::{Fate, Faults};

    #[test]
    fn the_fail_rate_is_the_share_of_requests_that_fail_and_half_of_them_are_processed() {
        let draw = |fail_rate| {
            let faults = Faults { fail_rate, ..Faults::default() };
            let fates: Vec<Fate> = (0..4000).map(|_| faults.fate()).collect();
            [Fate::Heard, Fate::Unheard, Fate::Lost]
                .map(|fate| fates.iter().filter(|drawn| **drawn == fate).count())
        };
        assert_eq!(draw(0.0), [4000, 0, 0]);
        let [heard, unheard, lost] = draw(1.0);
        assert_eq!(heard, 0);
        assert!((1700..2300).contains(&unheard), "{unheard} of 4000");
        assert_eq!(unheard + lost, 4000);
        let [heard, ..] = draw(0.25);
        assert!((2800..3200).contains(&heard), "{heard} of 4000");
    }
}
