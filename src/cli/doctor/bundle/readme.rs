//! The page that explains the bundle to the person who opens it, and the list of what could not be collected.

use std::fmt::Write as _;

use super::part::{BundlePart, PartContent};

const REDACTION: &str = "\
Left out on purpose: payloads and receipts of records, messages of the server
(they may quote records; class, HTTP status and code are kept), contents of
secret files, environments and command lines. Keys of records are replaced by
hashes: equal keys have equal hashes within this bundle, and no others. Texts
have *** instead, except for keys that are numbers or words of the program.
Secrets and whatever looks like one are replaced by ***, too. Record types,
record ids, the name of the device, addresses of servers and paths are kept.
Look through the files before you pass them on.
";

pub(super) struct BundleFacts<'a> {
    pub(super) device: &'a str,
    pub(super) time: &'a str,
    pub(super) user: &'a str,
}

/// `README.txt`
pub(super) fn describe_bundle(facts: &BundleFacts<'_>, parts: &[BundlePart]) -> String {
    let BundleFacts { device, time, user } = facts;
    let mut text = format!(
        "Support bundle of fieldsync {}\n\nDevice:     {device}\nCollected:  {time}, by the user {user}\n\n{REDACTION}\nFiles\n\n",
        env!("CARGO_PKG_VERSION")
    );
    let width = parts.iter().map(|part| part.name.len()).max().unwrap_or(0);
    for part in parts {
        let note = match &part.content {
            PartContent::Collected { note: None, .. } => String::new(),
            PartContent::Collected { note: Some(note), .. } => format!(" ({note})"),
            PartContent::LeftOut { reason } => format!("\n  {:width$}  LEFT OUT: {reason}", ""),
        };
        // Writing to memory does not fail.
        writeln!(text, "  {:width$}  {}{note}", part.name, part.purpose).ok();
    }
    writeln!(text, "  {:width$}  what could not be collected", super::ERRORS_NAME).ok();
    text
}

/// `errors.txt`
pub(super) fn list_errors(parts: &[BundlePart]) -> String {
    let problems = parts.iter().filter_map(|part| match &part.content {
        PartContent::LeftOut { reason } => Some(format!("{}: {reason}\n", part.name)),
        PartContent::Collected { note, .. } => note.as_ref().map(|note| format!("{}: {note}\n", part.name)),
    });
    let text: String = problems.collect();
    if text.is_empty() { "Everything was collected.\n".to_owned() } else { text }
}
