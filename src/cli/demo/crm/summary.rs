//! Summarizes the demo with a CRM: what the CRM has, and what the device knows of it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Serialize;

use super::stand_in::{CrmReport, ModuleCounts};
use super::target::CrmKind;
use crate::cli::format::strip_controls;
use crate::cli::receipt::ReceiptMembers;
use crate::model::{ManifestEntry, RecordId};

/// All facts at the end.
pub(super) struct CrmDemoSummary {
    pub(super) kind: CrmKind,
    pub(super) enqueued: Vec<RecordId>,
    pub(super) quarantined: Vec<ManifestEntry>,
    /// Records with their receipts.
    pub(super) with_receipt: Vec<(RecordId, String)>,
    /// How often the CRM has each record.
    pub(super) stored: HashMap<RecordId, u64>,
    pub(super) report: CrmReport,
}

#[derive(Serialize)]
struct CrmSummaryDocument<'a> {
    crm: &'a str,
    records: usize,
    synced: usize,
    quarantined: usize,
    lost: usize,
    duplicates: u64,
    merges: u64,
    receipts: usize,
    requests: u64,
    answers: &'a BTreeMap<String, u64>,
    seconds: f64,
}

impl CrmDemoSummary {
    fn count_synced(&self) -> usize {
        self.enqueued.iter().filter(|id| self.stored.contains_key(id)).count()
    }

    /// Records that are neither in the CRM nor need review.
    fn count_lost(&self) -> usize {
        let kept = |id: &RecordId| {
            self.stored.contains_key(id) || self.quarantined.iter().any(|entry| entry.id == *id)
        };
        self.enqueued.iter().filter(|id| !kept(id)).count()
    }

    /// Duplicates are what the CRM counts, and what it lists twice.
    fn count_duplicates(&self) -> u64 {
        let listed: u64 = self.stored.values().map(|times| times.saturating_sub(1)).sum();
        listed.max(self.sum(|module| module.duplicates))
    }

    fn sum(&self, count: impl Fn(&ModuleCounts) -> u64) -> u64 {
        self.report.modules.values().map(count).sum()
    }

    fn count_requests(&self) -> u64 {
        self.report.responses.values().sum()
    }

    /// Each record is in the CRM once with a receipt, or needs review.
    pub(super) fn is_sound(&self) -> bool {
        self.count_lost() == 0
            && self.count_duplicates() == 0
            && self.sum(|module| module.merges) == 0
            && self.count_synced() == self.with_receipt.len()
    }

    pub(super) fn to_json(&self, took: Duration) -> String {
        let line = CrmSummaryDocument {
            crm: self.kind.name(),
            records: self.enqueued.len(),
            synced: self.count_synced(),
            quarantined: self.quarantined.len(),
            lost: self.count_lost(),
            duplicates: self.count_duplicates(),
            merges: self.sum(|module| module.merges),
            receipts: self.with_receipt.len(),
            requests: self.count_requests(),
            answers: &self.report.responses,
            seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
        };
        serde_json::to_string(&line).unwrap_or_default()
    }

    pub(super) fn describe(&self, took: Duration) -> Vec<String> {
        let crm = self.kind.title();
        let mut lines = vec![String::new(), format!("What happened, in {:.1} s", took.as_secs_f64())];
        if let Some(timed_out) = self.report.responses.get("504") {
            let calls = self.count_requests();
            lines.push(format!(
                "  504s         {timed_out} of {calls} calls took longer than {crm} allows. {crm} applied"
            ));
            lines.push("               them nevertheless. The gateway sent them again, as upserts.".into());
        }
        lines.extend(self.describe_receipts());
        lines.extend(self.quarantined.iter().flat_map(|entry| self.describe_refusal(entry)));
        lines.push(format!(
            "  {crm:<12} has {} of {} records: {} lost, {} duplicates, {} merged, {} out of order,",
            self.count_synced(),
            self.enqueued.len(),
            self.count_lost(),
            self.count_duplicates(),
            self.sum(|module| module.merges),
            self.sum(|module| module.order_violations),
        ));
        lines.push("               counted by its stand-in.".into());
        lines
    }

    fn describe_receipts(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "  Receipts     {} records have a receipt, which applications and people can see:",
            self.with_receipt.len()
        )];
        if let Some((id, receipt)) = self.with_receipt.last() {
            let members = serde_json::from_str::<ReceiptMembers>(receipt).unwrap_or_default();
            lines.push(format!("               record {id} became"));
            lines.push(format!("               {}.", members.0.join(", ")));
        }
        lines
    }

    fn describe_refusal(&self, entry: &ManifestEntry) -> Vec<String> {
        let crm = self.kind.title();
        let mut lines = vec![
            format!(
                "  Refused      Record {} ({}) needs review,",
                entry.id,
                strip_controls(&entry.record_type)
            ),
            format!("               with the words of {crm}:"),
        ];
        if let Some(error) = &entry.last_error {
            let code = error.code.as_deref().unwrap_or_default();
            let place = error.field.as_deref().map(|field| format!(" at {field}")).unwrap_or_default();
            lines.push(format!("               {}", strip_controls(&format!("{code}{place}:"))));
            lines.push(format!("               {}", strip_controls(&error.message)));
        }
        lines
    }
}
