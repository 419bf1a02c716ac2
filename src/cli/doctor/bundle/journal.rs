//! The recent journal of the service, one entry on each line, newest first.
//!
//! Of an entry, only fields are kept that the daemon or systemd sets and that say nothing of a command line or an
//! environment. The daemon logs no payload; what a message quotes is masked nevertheless, because a bug may quote it.

use serde_json::{Map, Value, json};

use super::part::{BundlePart, PART_BYTES_MAX};
use super::redaction::text::TextRedactor;
use super::tool::run_tool;
use crate::cli::logs::{JOURNALCTL, UNIT, may_read_journal};
use crate::clock::rfc3339;
use crate::journal::MESSAGES;

const NAME: &str = "journal.ndjson";
const PURPOSE: &str = "the recent journal of the service, newest first";
const ENTRIES_MAX: &str = "--lines=5000";
/// Entries are larger before the unneeded fields are removed.
const OUTPUT_BYTES_MAX: usize = 2 * PART_BYTES_MAX;
const FIELD_PREFIX: &str = "FIELDSYNC_";
/// Of an id with its dashes.
const ID_CHARS_MAX: usize = 36;
const KEPT_FIELDS: [&str; 9] = [
    "PRIORITY",
    "SYSLOG_IDENTIFIER",
    "_PID",
    "_BOOT_ID",
    "UNIT_RESULT",
    "EXIT_CODE",
    "EXIT_STATUS",
    "JOB_TYPE",
    "JOB_RESULT",
];

pub(super) async fn collect_journal(texts: &TextRedactor) -> BundlePart {
    BundlePart::new(NAME, PURPOSE, read_journal(texts).await)
}

async fn read_journal(texts: &TextRedactor) -> Result<(String, Option<String>), String> {
    if !may_read_journal() {
        return Err("not permitted: run as root, or as a member of the group systemd-journal".to_owned());
    }
    let unit = format!("--unit={UNIT}");
    let arguments = [&unit, "--output=json", ENTRIES_MAX, "--reverse", "--no-pager", "--quiet"];
    let ran = run_tool(JOURNALCTL, &arguments, OUTPUT_BYTES_MAX).await?;
    let lines: String = ran.text.lines().filter_map(|line| redact_entry(line, texts)).collect();
    if lines.is_empty() {
        let reason = "the journal has no entry of the service; a daemon that was started by hand writes to its \
                      standard error";
        return Err(if ran.stderr.is_empty() { reason.to_owned() } else { texts.redact(&ran.stderr) });
    }
    let note = ran.is_cut.then(|| "older entries are left out".to_owned());
    Ok((lines, note))
}

/// `None` for a line that is not an entry: the last one may be cut.
fn redact_entry(line: &str, texts: &TextRedactor) -> Option<String> {
    let entry: Map<String, Value> = serde_json::from_str(line).ok()?;
    let mut kept = Map::new();
    let micros = entry.get("__REALTIME_TIMESTAMP")?.as_str()?.parse::<u64>().ok()?;
    kept.insert("time".to_owned(), rfc3339(micros / 1000).into());
    let message = entry.get("MESSAGE").and_then(Value::as_str);
    kept.insert("message".to_owned(), message.map_or(Value::Null, |text| texts.redact_message(text).into()));
    if let Some(id) = entry.get("MESSAGE_ID").and_then(Value::as_str) {
        let name = MESSAGES.iter().find(|(_, known)| *known == id).map(|(name, _)| *name);
        kept.insert("event".to_owned(), json!(name.unwrap_or(id)));
    }
    for (name, value) in &entry {
        let is_kept = name.starts_with(FIELD_PREFIX) || KEPT_FIELDS.contains(&name.as_str());
        if let Some(text) = value.as_str().filter(|_| is_kept) {
            let redacted = if is_number_or_id(text) { text.to_owned() } else { texts.redact_message(text) };
            kept.insert(name.clone(), redacted.into());
        }
    }
    Some(format!("{}\n", Value::from(kept)))
}

/// Ids connect the entry with the other files, so a key that looks like a part of one is not searched for.
fn is_number_or_id(text: &str) -> bool {
    text.len() <= ID_CHARS_MAX && text.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::bundle::redaction::known_secrets::KnownStrings;

    #[test]
    fn an_entry_keeps_its_event_and_fields_and_no_command_line() {
        let texts = TextRedactor::new(&KnownStrings::default()).unwrap();
        let line = json!({"__REALTIME_TIMESTAMP": "1700000000000000", "MESSAGE": "ready at \"sesame\"",
            "MESSAGE_ID": crate::journal::READY, "_CMDLINE": "--token sesame", "FIELDSYNC_BATCH_ID": "1"});
        let entry = redact_entry(&line.to_string(), &texts).unwrap();
        assert!(!entry.contains("sesame") && entry.ends_with("}\n"), "{entry}");
        for part in ["\"event\":\"READY\"", "\"FIELDSYNC_BATCH_ID\":\"1\"", "2023-11-14T22:13:20"] {
            assert!(entry.contains(part), "{part}: {entry}");
        }
        assert_eq!(redact_entry("{\"cut", &texts), None);
    }
}
