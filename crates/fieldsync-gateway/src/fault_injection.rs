//! Faults of servers and proxies, injected on demand for demos and tests.
//!
//! Without a fault option nothing here changes the gateway's behaviour.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::option_values::{optional_duration, parse_duration, parse_share};
use super::validated_batch::ValidatedBatch;

/// How long a hanging batch hangs without a time limit.
const HANG_TIME_WITHOUT_LIMIT: Duration = Duration::from_secs(30);
/// With a time limit, a hanging batch hangs for this many times the limit.
const HANG_TIME_FACTOR: u32 = 3;
/// The share of injected 504 responses whose batch is processed nevertheless.
const LOST_RESPONSE_SHARE: f64 = 0.5;

/// The fault options, which are also the keys of `[faults]`.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Faults, for demos and tests")]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FaultOptions {
    /// Behave as behind a proxy with this time limit: a batch that takes longer gets 504, and processing continues.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub(crate) time_limit: Option<Duration>,

    /// Processing time of each record.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    record_cost: Option<Duration>,

    /// Share of batches, 0.0 to 1.0, that get 504 at once; half of those are processed nevertheless.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub(crate) fail_rate: Option<f64>,

    /// A record whose payload contains TEXT never finishes: its batch hangs, and is then dropped.
    #[arg(long, value_name = "TEXT")]
    pub(crate) hang_on: Option<String>,

    /// A record whose payload contains TEXT is rejected.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reject_on: Option<String>,

    /// Behave as a server that does not support outcome queries.
    #[arg(long)]
    #[serde(skip_serializing_if = "is_off")]
    pub(crate) no_lookup: bool,
}

/// The fault that a request meets before its batch is processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InjectedFault {
    None,
    /// 504, and the batch is processed nevertheless.
    LoseResponse,
    /// 504, and the batch is lost.
    LoseRequest,
}

/// How the simulated processing of a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SimulatedWork {
    /// The batch may be applied.
    Finished,
    /// Nothing of the batch may be applied.
    Hung,
}

impl FaultOptions {
    /// Draws the fault for a request.
    pub(crate) fn draw_fault(&self) -> InjectedFault {
        if fastrand::f64() >= self.fail_rate.unwrap_or(0.0) {
            InjectedFault::None
        } else if fastrand::f64() < LOST_RESPONSE_SHARE {
            InjectedFault::LoseResponse
        } else {
            InjectedFault::LoseRequest
        }
    }

    /// Whether batches take time.
    pub(crate) fn simulates_work(&self) -> bool {
        self.record_cost.is_some() || self.hang_on.is_some()
    }

    /// Takes as long as the options say for the batch.
    pub(crate) async fn simulate_work(&self, batch: &ValidatedBatch) -> SimulatedWork {
        if self.should_hang(batch) {
            let hang = self.time_limit.map_or(HANG_TIME_WITHOUT_LIMIT, |limit| limit * HANG_TIME_FACTOR);
            tokio::time::sleep(hang).await;
            return SimulatedWork::Hung;
        }
        let records = u32::try_from(batch.records.len()).unwrap_or(u32::MAX);
        let cost = self.record_cost.unwrap_or_default().saturating_mul(records);
        // Even an empty sleep waits for the next tick of the timer.
        if !cost.is_zero() {
            tokio::time::sleep(cost).await;
        }
        SimulatedWork::Finished
    }

    /// Whether a record with this payload is to be rejected.
    pub(crate) fn should_reject(&self, payload: &str) -> bool {
        contains_text(payload, self.reject_on.as_ref())
    }

    fn should_hang(&self, batch: &ValidatedBatch) -> bool {
        batch.records.iter().any(|record| contains_text(record.payload.get(), self.hang_on.as_ref()))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_off(option: &bool) -> bool {
    !option
}

fn contains_text(payload: &str, text: Option<&String>) -> bool {
    text.is_some_and(|text| payload.contains(text.as_str()))
}

#[cfg(test)]
mod tests {
    use super::{FaultOptions, InjectedFault};

    #[test]
    fn the_fail_rate_is_the_share_of_requests_that_fail_and_half_of_them_are_processed() {
        let draw = |fail_rate| {
            let faults = FaultOptions { fail_rate: Some(fail_rate), ..FaultOptions::default() };
            let faults: Vec<InjectedFault> = (0..4000).map(|_| faults.draw_fault()).collect();
            [InjectedFault::None, InjectedFault::LoseResponse, InjectedFault::LoseRequest]
                .map(|fate| faults.iter().filter(|drawn| **drawn == fate).count())
        };
        assert_eq!(draw(0.0), [4000, 0, 0]);
        let [none, lost_response, lost_request] = draw(1.0);
        assert_eq!(none, 0);
        assert!((1700..2300).contains(&lost_response), "{lost_response} of 4000");
        assert_eq!(lost_response + lost_request, 4000);
        let [none, ..] = draw(0.25);
        assert!((2800..3200).contains(&none), "{none} of 4000");
    }
}
