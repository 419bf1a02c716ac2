//! Summarizes the demo: what happened, and why.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::server::{ServerBehavior, ServerCounts};
use crate::api::{BatchOutcome, BatchReport};
use crate::model::{BatchId, ManifestEntry, RecordId, SizeRule};

/// All facts at the end of the demo.
pub(super) struct DemoSummary {
    pub(super) enqueued: Vec<RecordId>,
    pub(super) quarantined: Vec<ManifestEntry>,
    /// The newest first.
    pub(super) batches: Vec<BatchReport>,
    pub(super) server: ServerCounts,
    pub(super) timing: ServerBehavior,
}

#[derive(Serialize)]
struct SummaryDocument<'a> {
    records: usize,
    synced: usize,
    quarantined: usize,
    lost: usize,
    duplicates: u64,
    requests: u64,
    answers: &'a BTreeMap<u16, u64>,
    seconds: f64,
}

impl DemoSummary {
    fn count_synced(&self) -> usize {
        self.enqueued.iter().filter(|id| self.server.applied.contains_key(id)).count()
    }

    /// Records that are neither at the server nor in quarantine.
    fn count_lost(&self) -> usize {
        let kept = |id: &RecordId| {
            self.server.applied.contains_key(id) || self.quarantined.iter().any(|entry| entry.id == *id)
        };
        self.enqueued.iter().filter(|id| !kept(id)).count()
    }

    fn count_duplicates(&self) -> u64 {
        self.server.applied.values().map(|times| times.saturating_sub(1)).sum()
    }

    fn count_requests(&self) -> u64 {
        self.server.responses.values().sum()
    }

    /// No record was lost or duplicated.
    pub(super) fn is_sound(&self) -> bool {
        self.count_lost() == 0 && self.count_duplicates() == 0
    }

    pub(super) fn to_json(&self, took: Duration) -> String {
        let line = SummaryDocument {
            records: self.enqueued.len(),
            synced: self.count_synced(),
            quarantined: self.quarantined.len(),
            lost: self.count_lost(),
            duplicates: self.count_duplicates(),
            requests: self.count_requests(),
            answers: &self.server.responses,
            seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
        };
        serde_json::to_string(&line).unwrap_or_default()
    }

    pub(super) fn describe(&self, took: Duration) -> Vec<String> {
        let mut lines = vec![String::new(), format!("What happened, in {:.1} s", took.as_secs_f64())];
        let timed_out = self.server.responses.get(&504).copied().unwrap_or_default();
        lines.push(format!(
            "  504s         {timed_out} of {} requests took longer than the gateway's limit of {} ms.",
            self.count_requests(),
            self.timing.limit.as_millis(),
        ));
        lines.extend(self.describe_sizes());
        lines.extend(self.quarantined.iter().flat_map(|entry| self.describe_isolation(entry)));
        lines.push(format!(
            "  The server   has {} of {} records: {} lost, {} duplicated, counted in its own ledger.",
            self.count_synced(),
            self.enqueued.len(),
            self.count_lost(),
            self.count_duplicates(),
        ));
        lines
    }

    /// Why the batch sizes changed.
    fn describe_sizes(&self) -> Vec<String> {
        let oldest_first = || self.batches.iter().rev();
        let mut lines = Vec::new();
        if let Some(first) = oldest_first().next() {
            let rule = match first.rule.known() {
                Some(SizeRule::LargeQueue) => "more than 100 records were waiting",
                Some(SizeRule::LargePayload) => "more than 1 MiB was waiting",
                _ => "the standard size",
            };
            lines.push(format!("  Batch sizes  The first batch had {} records ({rule}).", first.records));
            if first.outcome != BatchOutcome::Answered {
                let outcome = if self.was_split(first) {
                    [
                        "That took longer than the limit. A look-up showed that the server had",
                        "none of them: they were sent again in parts.",
                    ]
                } else {
                    [
                        "That took longer than the limit, but the server applied them after",
                        "the timeout. A look-up showed this: none was sent again.",
                    ]
                };
                lines.extend(outcome.map(|line| format!("               {line}")));
            }
        }
        let fresh = |report: &&BatchReport| report.parent.is_none() && report.rule == SizeRule::Learned;
        let learned = || oldest_first().filter(fresh).map(|report| report.records);
        if let Some(most) = learned().max() {
            lines.push(format!("               After that at most {most}: half after the 504, then as many"));
            lines.push("               as the measured time for each record allows.".into());
        }
        lines
    }

    /// How the faulty record was found.
    fn describe_isolation(&self, entry: &ManifestEntry) -> Vec<String> {
        let mut sizes = Vec::new();
        let mut next = self
            .batches
            .iter()
            .find(|report| report.records == 1 && report.outcome != BatchOutcome::Answered);
        while let Some(report) = next {
            sizes.push(report.records.to_string());
            next = report.parent.and_then(|id| self.find_batch(id));
        }
        sizes.reverse();
        sizes.dedup();
        let reason = entry.last_error.as_ref().map_or("it failed", |error| error.message.as_str());
        vec![
            format!("  Faulty       Record {} ({}) makes the server hang.", entry.id, entry.record_type),
            format!("               Its batch was split until it was alone ({} records).", sizes.join(" → ")),
            format!("               It {reason}."),
            "               It needs review by a person; all other records were sent.".into(),
        ]
    }

    fn was_split(&self, batch: &BatchReport) -> bool {
        self.batches.iter().any(|report| report.parent == Some(batch.id))
    }

    fn find_batch(&self, id: BatchId) -> Option<&BatchReport> {
        self.batches.iter().find(|report| report.id == id)
    }
}
