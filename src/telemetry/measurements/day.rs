//! The measurements of one day (UTC) and of its hours.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::durations::Durations;
use super::failures::FailureTally;
use super::note_series::Note;
use super::numbers::add_to;
use super::outcomes::{Batches, OutcomeTally};
use super::types::{REPORTED_TYPES_MAX, TypeTable};
use crate::api::{BatchOutcome, BatchReport, PeriodReport};
use crate::model::Network;

const HOURS_PER_DAY: u8 = 24;
/// Classes of failures in a decoded note; the program itself has fewer.
const FAILURE_CLASSES_MAX: usize = 32;

/// One day.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Day {
    pub(super) durations: Durations,
    pub(super) batches: Batches,
    pub(super) types: TypeTable,
    pub(super) failures: BTreeMap<String, FailureTally>,
    quarantined: u64,
}

/// The hours of one day, by the hour of the day.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Hours(BTreeMap<u8, Hour>);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Hour {
    durations: Durations,
    outcomes: OutcomeTally,
    quarantined: u64,
}

impl Day {
    pub(super) fn add_batch(
        &mut self,
        local_hour: usize,
        report: &BatchReport,
        types: &[(String, u64)],
        network: &Network,
        modelled_ms: u64,
    ) {
        let records = report.records as u64;
        self.batches.add_batch(report);
        if report.outcome == BatchOutcome::Answered {
            self.durations.add_records(records, micros_per_record(report));
            self.types.add_success(types, records, report.duration_ms, modelled_ms);
        } else {
            let tally = self.failures.entry(report.outcome.to_string()).or_default();
            tally.add_failure(network, local_hour);
            self.types.add_failure(types, records, report.duration_ms);
        }
    }

    pub(super) fn add_quarantined(&mut self, record_type: &str) {
        add_to(&mut self.quarantined, 1);
        self.types.add_quarantined(record_type);
    }

    /// Adds another day.
    pub(super) fn merge(&mut self, other: &Self) {
        self.durations.merge(&other.durations);
        self.batches.merge(&other.batches);
        self.types.merge(&other.types, REPORTED_TYPES_MAX);
        for (class, theirs) in &other.failures {
            self.failures.entry(class.clone()).or_default().merge(theirs);
        }
        add_to(&mut self.quarantined, other.quarantined);
    }

    pub(super) fn to_report(&self) -> PeriodReport {
        PeriodReport {
            per_record: self.durations.to_report(),
            outcomes: self.batches.total_outcomes().to_report(),
            quarantined: self.quarantined,
        }
    }
}

impl Note for Day {
    fn repair(&mut self) {
        self.types.repair();
        while self.failures.len() > FAILURE_CLASSES_MAX {
            self.failures.pop_last();
        }
    }
}

impl Hours {
    pub(super) fn add_batch(&mut self, hour: u8, report: &BatchReport) {
        let tally = self.0.entry(hour).or_default();
        tally.outcomes.add_batch(report);
        if report.outcome == BatchOutcome::Answered {
            tally.durations.add_records(report.records as u64, micros_per_record(report));
        }
    }

    pub(super) fn add_quarantined(&mut self, hour: u8) {
        add_to(&mut self.0.entry(hour).or_default().quarantined, 1);
    }

    /// The latest first.
    pub(super) fn to_reports(&self) -> impl Iterator<Item = (u8, PeriodReport)> {
        self.0.iter().rev().map(|(hour, measured)| {
            let report = PeriodReport {
                per_record: measured.durations.to_report(),
                outcomes: measured.outcomes.to_report(),
                quarantined: measured.quarantined,
            };
            (*hour, report)
        })
    }
}

impl Note for Hours {
    fn repair(&mut self) {
        self.0.retain(|hour, _| *hour < HOURS_PER_DAY);
    }
}

fn micros_per_record(report: &BatchReport) -> u64 {
    report.duration_ms.saturating_mul(1000) / report.records.max(1) as u64
}
