//! The manifest without payloads: the records that a person asks about first, then the newest of the others.

use serde_json::Value;

use super::daemon_documents::{add_strings_of_record, fetch_json};
use super::part::BundlePart;
use super::redaction::document::redact_manifest_entry;
use super::redaction::key_hash::KeyHasher;
use super::redaction::known_secrets::KnownStrings;
use crate::client::{Client, with_query};

const NAME: &str = "manifest.ndjson";
const PURPOSE: &str =
    "records without payloads, one on each line; keys are hashes that are equal for equal keys";
/// What is fetched, and how many of each at most: failures explain more than successes.
const SELECTIONS: [(&str, usize); 3] =
    [("QUARANTINED,FAILED,SYNCING", 5000), ("PENDING", 3000), ("SYNCED", 2000)];
const PAGE_ENTRIES: usize = 1000;
/// All states of a record, as the status counts them.
const COUNTED_STATES: [&str; 5] = ["pending", "syncing", "failed", "synced", "quarantined"];

/// The lines of the manifest, redacted.
pub(super) struct ManifestLines {
    lines: String,
    count: u64,
    problem: Option<String>,
}

impl ManifestLines {
    /// Fetches it page by page. The keys and messages in it become known strings.
    pub(super) async fn fetch(client: &Client, known: &mut KnownStrings, hasher: &KeyHasher) -> Self {
        let mut manifest = Self { lines: String::new(), count: 0, problem: None };
        for (states, entries_max) in SELECTIONS {
            if let Err(problem) = manifest.fetch_selection(client, states, entries_max, known, hasher).await {
                manifest.problem = Some(problem);
                break;
            }
        }
        manifest
    }

    pub(super) fn without_daemon(reason: &str) -> Self {
        Self { lines: String::new(), count: 0, problem: Some(reason.to_owned()) }
    }

    async fn fetch_selection(
        &mut self,
        client: &Client,
        states: &str,
        entries_max: usize,
        known: &mut KnownStrings,
        hasher: &KeyHasher,
    ) -> Result<(), String> {
        let limit = PAGE_ENTRIES.to_string();
        let mut after: Option<String> = None;
        for _ in 0..entries_max.div_ceil(PAGE_ENTRIES) {
            let mut query = vec![("order", "newest"), ("all", "true"), ("state", states), ("limit", &limit)];
            query.extend(after.as_deref().map(|after| ("after", after)));
            let mut page = fetch_json(client, &with_query("/v1/records", &query)).await?;
            for entry in page["records"].as_array_mut().into_iter().flatten() {
                let Value::Object(entry) = entry else { continue };
                add_strings_of_record(entry, known, hasher);
                redact_manifest_entry(entry, hasher);
                self.lines.push_str(&serde_json::to_string(entry).unwrap_or_default());
                self.lines.push('\n');
                self.count += 1;
            }
            match page["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => break,
            }
        }
        Ok(())
    }

    /// `counts` are those of the status.
    pub(super) fn into_part(self, counts: Option<&Value>) -> BundlePart {
        let Self { lines, count, problem } = self;
        match problem {
            Some(problem) if count == 0 => BundlePart::left_out(NAME, PURPOSE, problem),
            problem => {
                let all = counts.map_or(0, |counts| {
                    COUNTED_STATES.iter().filter_map(|state| counts[*state].as_u64()).sum::<u64>()
                });
                let left_out = all.saturating_sub(count);
                let note = (left_out > 0).then(|| {
                    format!("{count} of {all} records, first those that failed or are sent; {left_out} are left out")
                });
                BundlePart::new(NAME, PURPOSE, Ok((lines, problem.or(note))))
            }
        }
    }
}
