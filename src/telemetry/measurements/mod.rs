//! What was measured, by day and by hour, in answer to the customer's four questions. No I/O, no clock.
//!
//! Everything is a sum, so that days can be added up to any period. Days are counted in UTC. The number of days, of hours
//! and of types in a day is bounded, and so are the bytes of the notes, in memory and on disk.

mod day;
mod durations;
mod failures;
mod least_squares;
mod note_series;
mod numbers;
mod outcomes;
mod stalls;
#[cfg(test)]
mod tests;
mod types;

use std::time::Duration;

use self::day::{Day, Hours};
use self::note_series::{NoteSeries, SeriesLimits};
use self::stalls::UsualCosts;
use self::types::{REPORTED_TYPES_MAX, TypeTable};
use crate::api::{BatchReport, DayReport, HourReport, TelemetryReport};
use crate::clock::{date_start_ms, millis, rfc3339};
use crate::model::Network;
use crate::store::NoteChange;

/// The first part of the name of each note in the store. Versions before 0.3 have a single note of this name.
pub const NOTES_PREFIX: &str = "telemetry";
const DAYS: SeriesLimits = SeriesLimits { prefix: "telemetry/day/", days_max: 90, bytes_max: 512 << 10 };
/// Eight whole days, and today, unless the clock was wrong.
const HOURS: SeriesLimits = SeriesLimits { prefix: "telemetry/hours/", days_max: 9, bytes_max: 96 << 10 };
/// Days before a batch from which it is known what records usually cost.
const USUAL_DAYS: u64 = 7;
const HOUR_MS: u64 = 3600 * 1000;
const HOURS_PER_DAY: u64 = 24;
const DAY_MS: u64 = HOURS_PER_DAY * HOUR_MS;

/// Everything that was measured.
#[derive(Debug)]
pub struct Measurements {
    days: NoteSeries<Day>,
    hours: NoteSeries<Hours>,
    /// Notes on disk that this version does not use.
    unused_notes: Vec<String>,
    /// What records cost on the days before this one, once a batch of this day may have stalled.
    usual_before: Option<(String, Option<UsualCosts>)>,
}

impl Default for Measurements {
    fn default() -> Self {
        let (days, hours) = (NoteSeries::new(DAYS), NoteSeries::new(HOURS));
        Self { days, hours, unused_notes: Vec::new(), usual_before: None }
    }
}

impl Measurements {
    /// Continues with the notes of the previous run. Those of other versions are removed.
    pub fn restore(notes: Vec<(String, Vec<u8>)>) -> Self {
        let mut measurements = Self::default();
        for (name, note) in notes {
            if !measurements.days.restore_note(&name, &note) && !measurements.hours.restore_note(&name, &note)
            {
                tracing::info!(name, "measurements that another version saved are dropped");
                measurements.unused_notes.push(name);
            }
        }
        measurements
    }

    /// A send of a batch came to an end. `local_hour` is the hour of the day in the time zone of the device.
    pub fn batch_ended(
        &mut self,
        report: &BatchReport,
        types: &[(String, u64)],
        network: &Network,
        local_hour: usize,
    ) {
        let date = date_of(report.at);
        let modelled_ms = self.modelled_ms(&date, report, types);
        self.days.open_day(&date).add_batch(local_hour, report, types, network, modelled_ms);
        self.hours.open_day(&date).add_batch(hour_of(report.at), report);
    }

    /// What the model of the costs uses of the duration of a batch.
    fn modelled_ms(&mut self, date: &str, report: &BatchReport, types: &[(String, u64)]) -> u64 {
        let elapsed_ms = report.duration_ms;
        let is_suspect = stalls::may_have_stalled(elapsed_ms, report.expected_ms);
        let Some(expected_ms) = report.expected_ms.filter(|_| is_suspect) else { return elapsed_ms };
        let before = match self.usual_before.take() {
            Some((known, costs)) if known == date => costs,
            _ => self.usual_costs_before(date, report.at),
        };
        let known = [before, self.days.open_day(date).types.usual_costs()];
        let modelled_ms = stalls::modelled_ms(elapsed_ms, expected_ms, types, &known);
        let [before, _] = known;
        self.usual_before = Some((date.to_owned(), before));
        modelled_ms
    }

    /// What records cost on the days before a date.
    fn usual_costs_before(&self, date: &str, at: u64) -> Option<UsualCosts> {
        let from = date_of(at.saturating_sub(USUAL_DAYS * DAY_MS));
        let mut total = TypeTable::default();
        self.days.visit_days(&from, date, |of, day| {
            if of != date {
                total.merge(&day.types, REPORTED_TYPES_MAX);
            }
        });
        total.usual_costs()
    }

    /// A record was quarantined.
    pub fn record_quarantined(&mut self, record_type: &str, at: u64) {
        let date = date_of(at);
        self.days.open_day(&date).add_quarantined(record_type);
        self.hours.open_day(&date).add_quarantined(hour_of(at));
    }

    /// The answers to the four questions over the last `window`, in whole days.
    pub fn report(&self, now: u64, window: Duration) -> TelemetryReport {
        let from = now.saturating_sub(millis(window).saturating_sub(DAY_MS)) / DAY_MS * DAY_MS;
        let (first, last) = (date_of(from), date_of(now));
        let mut total = Day::default();
        let mut days = Vec::new();
        self.days.visit_days(&first, &last, |date, day| {
            total.merge(day);
            days.push(DayReport { day: date.to_owned(), period: day.to_report() });
        });
        let mut hours = Vec::new();
        self.hours.visit_days(&first, &last, |date, of_day| {
            let Some(midnight) = date_start_ms(date) else { return };
            let reports = of_day.to_reports();
            hours.extend(
                reports
                    .map(|(hour, period)| HourReport { hour: midnight + u64::from(hour) * HOUR_MS, period }),
            );
        });
        let (by_type, batch_overhead_ms) = total.types.to_report();
        TelemetryReport {
            window_s: window.as_secs(),
            from,
            to: now,
            per_record: total.durations.to_report(),
            batch_overhead_ms,
            by_batch_size: total.batches.report_sizes(),
            by_in_flight: total.batches.report_in_flight(),
            by_type,
            failures: total.failures.iter().map(|(class, tally)| tally.to_report(class)).collect(),
            days,
            hours,
        }
    }

    /// The notes that differ from those on disk.
    pub fn unsaved_notes(&self) -> Vec<NoteChange> {
        let unused = self.unused_notes.iter();
        let removed = unused.map(|name| NoteChange { name: name.clone().into(), note: None });
        removed.chain(self.days.unsaved_notes()).chain(self.hours.unsaved_notes()).collect()
    }

    /// The notes were handed over to be saved.
    pub fn mark_saved(&mut self) {
        self.unused_notes.clear();
        self.days.mark_saved();
        self.hours.mark_saved();
    }
}

fn date_of(at: u64) -> String {
    rfc3339(at).chars().take(10).collect()
}

fn hour_of(at: u64) -> u8 {
    u8::try_from(at / HOUR_MS % HOURS_PER_DAY).unwrap_or_default()
}
