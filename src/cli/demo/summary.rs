//! What happened in the demo, and why, in a few lines.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::stage::{Count, Timing};
use crate::api::{BatchOutcome, BatchReport};
use crate::model::{BatchId, ManifestEntry, RecordId, SizeRule};

/// Everything that is known at the end.
pub(super) struct Summary {
    pub(super) enqueued: Vec<RecordId>,
    pub(super) quarantined: Vec<ManifestEntry>,
    /// The newest first.
    pub(super) batches: Vec<BatchReport>,
    pub(super) server: Count,
    pub(super) timing: Timing,
}

#[derive(Serialize)]
struct Line<'a> {
    records: usize,
    synced: usize,
    quarantined: usize,
    lost: usize,
    duplicates: u64,
    requests: u64,
    answers: &'a BTreeMap<u16, u64>,
    seconds: f64,
}

impl Summary {
    fn synced(&self) -> usize {
        self.enqueued.iter().filter(|id| self.server.applied.contains_key(id)).count()
    }

    /// Neither at the server nor under review.
    fn lost(&self) -> usize {
        let kept = |id: &RecordId| {
            self.server.applied.contains_key(id) || self.quarantined.iter().any(|entry| entry.id == *id)
        };
        self.enqueued.iter().filter(|id| !kept(id)).count()
    }

    fn duplicates(&self) -> u64 {
        self.server.applied.values().map(|times| times.saturating_sub(1)).sum()
    }

    fn requests(&self) -> u64 {
        self.server.answers.values().sum()
    }

    /// Nothing was lost, nothing doubled.
    pub(super) fn is_sound(&self) -> bool {
        self.lost() == 0 && self.duplicates() == 0
    }

    pub(super) fn json(&self, took: Duration) -> String {
        let line = Line {
            records: self.enqueued.len(),
            synced: self.synced(),
            quarantined: self.quarantined.len(),
            lost: self.lost(),
            duplicates: self.duplicates(),
            requests: self.requests(),
            answers: &self.server.answers,
            seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
        };
        serde_json::to_string(&line).unwrap_or_default()
    }

    pub(super) fn story(&self, took: Duration) -> Vec<String> {
        let mut lines = vec![String::new(), format!("What happened, in {:.1} s", took.as_secs_f64())];
        let timed_out = self.server.answers.get(&504).copied().unwrap_or_default();
        lines.push(format!(
            "  504s         {timed_out} of {} requests took longer than the gateway's {} ms.",
            self.requests(),
            self.timing.limit.as_millis(),
        ));
        lines.extend(self.sizes());
        lines.extend(self.quarantined.iter().flat_map(|entry| self.isolation(entry)));
        lines.push(format!(
            "  The server   has {} of {} records: {} lost, {} doubled, counted in its own ledger.",
            self.synced(),
            self.enqueued.len(),
            self.lost(),
            self.duplicates(),
        ));
        lines
    }

    /// Why the batch sizes changed.
    fn sizes(&self) -> Vec<String> {
        let oldest_first = || self.batches.iter().rev();
        let mut lines = Vec::new();
        if let Some(first) = oldest_first().next() {
            let rule = match first.rule.known() {
                Some(SizeRule::LargeQueue) => "more than 100 records waited",
                Some(SizeRule::LargePayload) => "more than 1 MiB waited",
                _ => "the standard",
            };
            lines.push(format!("  Batch sizes  The first batch had {} records ({rule}).", first.records));
            if first.outcome != BatchOutcome::Answered {
                let told = if self.was_cut(first) {
                    [
                        "That took longer than the limit, and a look-up told that the server",
                        "had none of them: they were sent again in parts.",
                    ]
                } else {
                    [
                        "That was too many for the limit, but the server applied them",
                        "behind the gateway's back. A look-up told so: none was sent again.",
                    ]
                };
                lines.extend(told.map(|line| format!("               {line}")));
            }
        }
        let fresh = |report: &&BatchReport| report.parent.is_none() && report.rule == SizeRule::Learned;
        let learned = || oldest_first().filter(fresh).map(|report| report.records);
        if let Some(most) = learned().max() {
            lines.push(format!("               From then on at most {most}: half after the 504, then"));
            lines.push("               what the measured time per record lets fit.".into());
        }
        lines
    }

    /// How a record was found to be at fault.
    fn isolation(&self, entry: &ManifestEntry) -> Vec<String> {
        let mut sizes = Vec::new();
        let mut next = self
            .batches
            .iter()
            .find(|report| report.records == 1 && report.outcome != BatchOutcome::Answered);
        while let Some(report) = next {
            sizes.push(report.records.to_string());
            next = report.parent.and_then(|id| self.report(id));
        }
        sizes.reverse();
        sizes.dedup();
        let reason = entry.last_error.as_ref().map_or("it failed", |error| error.message.as_str());
        vec![
            format!("  The culprit  Record {} ({}) makes the server hang.", entry.id, entry.record_type),
            format!("               Its batch was cut until it was alone ({} records).", sizes.join(" → ")),
            format!("               It {reason}."),
            "               It was set aside for review (QUARANTINED) and held nobody else up.".into(),
        ]
    }

    fn was_cut(&self, batch: &BatchReport) -> bool {
        self.batches.iter().any(|report| report.parent == Some(batch.id))
    }

    fn report(&self, id: BatchId) -> Option<&BatchReport> {
        self.batches.iter().find(|report| report.id == id)
    }
}
