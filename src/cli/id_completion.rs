//! Completes ids in shells: of records and of batches that the daemon knows.
//!
//! A shell waits for this, so the daemon has little time, and every failure completes nothing.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use tokio::time::timeout;

use super::format::strip_controls;
use super::state_words::state_word;
use crate::api::{BatchList, RecordPage};
use crate::client::{Client, decode_json};
use crate::config::default_socket;

const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Variable of the socket. The option is not known while the command line is incomplete.
const SOCKET_VARIABLE: &str = "FIELDSYNC_SOCKET";

/// An id, and what a person knows it by.
type Candidate = (String, String);

/// Any record: those that are not synced first.
pub(super) fn records() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| complete_records(typed, &[UNSYNCED, "SYNCED", "DISCARDED"]))
}

/// Records that need review.
pub(super) fn records_to_review() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| complete_records(typed, &["QUARANTINED"]))
}

/// Records that wait.
pub(super) fn waiting_records() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| complete_records(typed, &["PENDING,FAILED"]))
}

/// Batches that were sent.
pub(super) fn batches() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        matching(
            typed,
            ask_daemon(async |client| {
                let list: BatchList = decode_json(&client.get("/v1/batches?limit=100").await.ok()?).ok()?;
                let mut batches: Vec<Candidate> = Vec::new();
                for batch in list.batches {
                    let id = batch.id.to_string();
                    if batches.iter().all(|(known, _)| *known != id) {
                        batches.push((id, format!("{} records, {}", batch.records, batch.outcome)));
                    }
                }
                Some(batches)
            }),
        )
    })
}

const UNSYNCED: &str = "PENDING,SYNCING,FAILED,QUARANTINED";

fn complete_records(typed: &OsStr, states: &[&str]) -> Vec<CompletionCandidate> {
    let records = ask_daemon(async |client| {
        let mut records = Vec::new();
        for states in states {
            let path = format!("/v1/records?order=newest&limit=100&state={}", states.replace(',', "%2C"));
            // A daemon before 0.3 does not know every state.
            let Ok(page) = client.get(&path).await.and_then(|page| decode_json::<RecordPage>(&page)) else {
                continue;
            };
            records.extend(page.records.into_iter().map(|record| {
                let name = strip_controls(&record.record_type).into_owned();
                (record.id.to_string(), format!("{name}, {}", state_word(record.state)))
            }));
        }
        Some(records)
    });
    matching(typed, records)
}

/// Ids that begin like this; or the only one that ends like this.
fn matching(typed: &OsStr, ids: Vec<Candidate>) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else {
        return Vec::new();
    };
    let (beginning, others): (Vec<_>, Vec<_>) = ids.into_iter().partition(|(id, _)| id.starts_with(typed));
    let mut found = beginning;
    if found.is_empty() {
        found = others.into_iter().filter(|(id, _)| id.ends_with(typed)).collect();
        if found.len() > 1 {
            return Vec::new();
        }
    }
    found.into_iter().map(|(id, help)| CompletionCandidate::new(id).help(Some(help.into()))).collect()
}

fn ask_daemon(ask: impl AsyncFnOnce(&Client) -> Option<Vec<Candidate>>) -> Vec<Candidate> {
    let socket = std::env::var_os(SOCKET_VARIABLE).map_or_else(default_socket, Into::into);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let client = Client::new(socket);
    runtime
        .block_on(async { timeout(RESPONSE_TIMEOUT, ask(&client)).await })
        .ok()
        .flatten()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(typed: &str, ids: &[&str]) -> Vec<String> {
        let ids = ids.iter().map(|id| ((*id).to_owned(), String::new())).collect();
        let found = matching(OsStr::new(typed), ids);
        found.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_beginning_finds_all_and_an_end_only_one() {
        let ids = ["01ab-77", "01cd-77", "02ef-88"];
        assert_eq!(found("", &ids), ids);
        assert_eq!(found("01", &ids), ids[..2]);
        assert_eq!(found("88", &ids), ["02ef-88"]);
        assert_eq!(found("77", &ids), Vec::<String>::new(), "a shell would replace it by what they share");
    }
}
