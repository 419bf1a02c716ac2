//! The manifest without payloads: the records that a person asks about first, then the newest of the others.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

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
/// For all pages together.
const PAGES_TIMEOUT: Duration = Duration::from_secs(15);
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
        let fetch_page = async |path: String| fetch_json(client, &path).await;
        Self::collect_pages(fetch_page, PAGES_TIMEOUT, known, hasher).await
    }

    /// Keeps the pages that arrive before the deadline.
    async fn collect_pages(
        mut fetch_page: impl AsyncFnMut(String) -> Result<Value, String>,
        limit: Duration,
        known: &mut KnownStrings,
        hasher: &KeyHasher,
    ) -> Self {
        let mut manifest = Self { lines: String::new(), count: 0, problem: None };
        let fetching = async {
            for (states, entries_max) in SELECTIONS {
                manifest.fetch_selection(&mut fetch_page, states, entries_max, known, hasher).await?;
            }
            Ok(())
        };
        let late = || format!("not all pages arrived within {} s", limit.as_secs());
        manifest.problem = timeout(limit, fetching).await.unwrap_or_else(|_| Err(late())).err();
        manifest
    }

    pub(super) fn without_daemon(reason: &str) -> Self {
        Self { lines: String::new(), count: 0, problem: Some(reason.to_owned()) }
    }

    async fn fetch_selection(
        &mut self,
        fetch_page: &mut impl AsyncFnMut(String) -> Result<Value, String>,
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
            let mut page = fetch_page(with_query("/v1/records", &query)).await?;
            for entry in page["records"].as_array_mut().into_iter().flatten() {
                let Value::Object(entry) = entry else { continue };
                add_strings_of_record(entry, known);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::doctor::bundle::part::PartContent;

    #[tokio::test]
    async fn pages_that_arrive_before_the_deadline_are_kept() {
        let mut pages = vec![json!({"records": [{"id": "1", "state": "FAILED"}], "next": "1"})];
        let page = async |_path| match pages.pop() {
            Some(page) => Ok(page),
            None => std::future::pending().await,
        };
        let (mut known, hasher) = (KnownStrings::default(), KeyHasher::new().unwrap());
        let limit = Duration::from_millis(1);
        let manifest = ManifestLines::collect_pages(page, limit, &mut known, &hasher).await;
        let part = manifest.into_part(None);
        let PartContent::Collected { text, note } = part.content else { panic!("{part:?}") };
        assert_eq!(text.lines().count(), 1);
        assert_eq!(note.as_deref(), Some("not all pages arrived within 0 s"));
    }
}
