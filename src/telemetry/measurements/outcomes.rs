//! What became of batches: added up for each range of sizes, for each number in flight, and for an hour.

use serde::{Deserialize, Serialize};

use super::numbers::{add_to, mean_of, to_float};
use crate::api::{BatchOutcome, BatchReport, InFlightBucket, Outcomes, SizeBucket};

/// Upper bounds of the ranges of batch sizes, and their names.
pub(super) const SIZE_RANGES: [(usize, &str); 7] =
    [(1, "1"), (5, "2–5"), (10, "6–10"), (25, "11–25"), (50, "26–50"), (100, "51–100"), (usize::MAX, ">100")];
/// Upper bounds of the ranges of batches under way at once, and their names.
pub(super) const IN_FLIGHT_RANGES: [(usize, &str); 5] =
    [(1, "1"), (2, "2"), (4, "3–4"), (8, "5–8"), (usize::MAX, ">8")];

/// The number of batches by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct OutcomeTally {
    batches: u64,
    succeeded: u64,
    timeouts: u64,
    refused: u64,
    /// In successful batches.
    records: u64,
    /// The duration of each batch, divided by how many were under way.
    busy_micros: u64,
}

impl OutcomeTally {
    pub(super) fn add_batch(&mut self, report: &BatchReport) {
        add_to(&mut self.batches, 1);
        let busy = report.duration_ms.saturating_mul(1000) / report.in_flight.max(1) as u64;
        add_to(&mut self.busy_micros, busy);
        match kind_of(report) {
            OutcomeKind::Success => {
                add_to(&mut self.succeeded, 1);
                add_to(&mut self.records, report.records as u64);
            }
            OutcomeKind::Timeout => add_to(&mut self.timeouts, 1),
            OutcomeKind::Refusal => add_to(&mut self.refused, 1),
            OutcomeKind::OtherFailure => {}
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        add_to(&mut self.batches, other.batches);
        add_to(&mut self.succeeded, other.succeeded);
        add_to(&mut self.timeouts, other.timeouts);
        add_to(&mut self.refused, other.refused);
        add_to(&mut self.records, other.records);
        add_to(&mut self.busy_micros, other.busy_micros);
    }

    pub(super) fn to_report(self) -> Outcomes {
        let failures = self.batches.saturating_sub(self.succeeded);
        let busy_seconds = to_float(self.busy_micros) / 1e6;
        Outcomes {
            batches: self.batches,
            succeeded: self.succeeded,
            timeouts: self.timeouts,
            refused: self.refused,
            other_failures: failures.saturating_sub(self.timeouts).saturating_sub(self.refused),
            records: self.records,
            success_rate: mean_of(to_float(self.succeeded), self.batches),
            records_per_s: (self.busy_micros > 0).then(|| to_float(self.records) / busy_seconds),
        }
    }
}

/// Batches of one range of sizes, and how long they were expected to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SizeTally {
    pub(super) outcomes: OutcomeTally,
    /// Of successful batches.
    duration_ms: u64,
    expected: u64,
    expected_ms: u64,
}

impl SizeTally {
    pub(super) fn add_batch(&mut self, report: &BatchReport) {
        self.outcomes.add_batch(report);
        if kind_of(report) != OutcomeKind::Success {
            return;
        }
        add_to(&mut self.duration_ms, report.duration_ms);
        if let Some(expected_ms) = report.expected_ms {
            add_to(&mut self.expected, 1);
            add_to(&mut self.expected_ms, expected_ms);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.outcomes.merge(&other.outcomes);
        add_to(&mut self.duration_ms, other.duration_ms);
        add_to(&mut self.expected, other.expected);
        add_to(&mut self.expected_ms, other.expected_ms);
    }
}

/// Batches by size and by the number in flight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Batches {
    sizes: [SizeTally; SIZE_RANGES.len()],
    in_flight: [OutcomeTally; IN_FLIGHT_RANGES.len()],
}

impl Batches {
    pub(super) fn add_batch(&mut self, report: &BatchReport) {
        if let Some(tally) = self.sizes.get_mut(range_of(&SIZE_RANGES, report.records)) {
            tally.add_batch(report);
        }
        if let Some(tally) = self.in_flight.get_mut(range_of(&IN_FLIGHT_RANGES, report.in_flight)) {
            tally.add_batch(report);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.sizes.iter_mut().zip(&other.sizes) {
            mine.merge(theirs);
        }
        for (mine, theirs) in self.in_flight.iter_mut().zip(&other.in_flight) {
            mine.merge(theirs);
        }
    }

    pub(super) fn total_outcomes(&self) -> OutcomeTally {
        let mut total = OutcomeTally::default();
        for tally in &self.sizes {
            total.merge(&tally.outcomes);
        }
        total
    }

    pub(super) fn report_sizes(&self) -> Vec<SizeBucket> {
        let buckets = SIZE_RANGES.iter().zip(&self.sizes).map(|((_, name), tally)| {
            let outcomes = tally.outcomes.to_report();
            SizeBucket {
                size: (*name).to_owned(),
                mean_ms: mean_of(to_float(tally.duration_ms), outcomes.succeeded),
                expected_ms: mean_of(to_float(tally.expected_ms), tally.expected),
                expected: tally.expected,
                outcomes,
            }
        });
        buckets.collect()
    }

    pub(super) fn report_in_flight(&self) -> Vec<InFlightBucket> {
        let buckets = IN_FLIGHT_RANGES.iter().zip(&self.in_flight);
        buckets
            .map(|((_, name), tally)| InFlightBucket {
                in_flight: (*name).to_owned(),
                outcomes: tally.to_report(),
            })
            .collect()
    }
}

fn range_of(ranges: &[(usize, &str)], number: usize) -> usize {
    ranges.iter().position(|(most, _)| number <= *most).unwrap_or(ranges.len() - 1)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum OutcomeKind {
    Success,
    /// The time limit of the server or of the daemon passed.
    Timeout,
    /// The server responded that it does not take it.
    Refusal,
    OtherFailure,
}

fn kind_of(report: &BatchReport) -> OutcomeKind {
    match report.outcome.known() {
        Some(BatchOutcome::Answered) => OutcomeKind::Success,
        Some(BatchOutcome::Timeout) => OutcomeKind::Timeout,
        Some(
            BatchOutcome::TooLarge
            | BatchOutcome::Throttled
            | BatchOutcome::BatchIdReused
            | BatchOutcome::Refused
            | BatchOutcome::EncodingRefused
            | BatchOutcome::Unauthorized
            | BatchOutcome::Misconfigured,
        ) => OutcomeKind::Refusal,
        Some(
            BatchOutcome::ServerError
            | BatchOutcome::ConnectionLost
            | BatchOutcome::LinkTooSlow
            | BatchOutcome::Unreachable
            | BatchOutcome::Processing
            | BatchOutcome::Interfered,
        )
        | None => OutcomeKind::OtherFailure,
    }
}
