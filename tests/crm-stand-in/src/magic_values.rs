//! Magic values: a record that carries the field `Stand_In` is refused with the code that the field names.
//!
//! `CODE`, `CODE*N` (only the first N tries of the record), `CODE:ARGUMENT,ARGUMENT` (the inner codes of
//! `MULTIPLE_OR_MULTI_ERRORS`, the field of `DUPLICATE_DATA` and so on). The field is not stored.

use std::collections::HashMap;

/// The field that carries the magic value.
pub(crate) const MAGIC_FIELD: &str = "Stand_In";

/// Codes that a real CRM takes back after a while.
const TRANSIENT_CODES: [&str; 6] = [
    "RECORD_LOCKED",
    "NOT_APPROVED",
    "NOT_REVIEWED",
    "RECORD_IN_BLUEPRINT",
    "DEPENDENT_SERVICE_ERROR",
    "UNABLE_TO_LOCK_ROW",
];

/// A code that a record is to be refused with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MagicCode {
    pub(crate) code: String,
    pub(crate) arguments: Vec<String>,
}

impl MagicCode {
    pub(crate) fn new(code: &str) -> Self {
        Self { code: code.to_owned(), arguments: Vec::new() }
    }

    /// The first argument, or what is usual.
    pub(crate) fn argument_or<'code>(&'code self, usual: &'code str) -> &'code str {
        self.arguments.first().map_or(usual, String::as_str)
    }

    /// The code, and for how many tries it holds; `None` for ever.
    fn parse(text: &str, transient_tries: u32) -> (Self, Option<u32>) {
        let (code, arguments) = text.split_once(':').unwrap_or((text, ""));
        let (code, tries) = code.split_once('*').map_or((code, None), |(code, tries)| (code, Some(tries)));
        let usual = TRANSIENT_CODES.contains(&code).then_some(transient_tries);
        let tries = tries.and_then(|tries| tries.parse().ok()).or(usual);
        let arguments =
            arguments.split(',').filter(|argument| !argument.is_empty()).map(str::to_owned).collect();
        (Self { code: code.to_owned(), arguments }, tries)
    }
}

/// How often records were tried, and which of them are locked.
#[derive(Debug, Default)]
pub(crate) struct RecordTries {
    refused: HashMap<(String, String), u32>,
    locked: HashMap<(String, String), u32>,
}

impl RecordTries {
    /// The code of a record with a magic value, as long as it holds.
    pub(crate) fn draw_magic(
        &mut self,
        module: &str,
        identity: &str,
        text: &str,
        transient_tries: u32,
    ) -> Option<MagicCode> {
        let (code, tries_max) = MagicCode::parse(text, transient_tries);
        let refused = self.refused.entry((module.to_owned(), identity.to_owned())).or_default();
        if tries_max.is_some_and(|max| *refused >= max) {
            return None;
        }
        *refused += 1;
        Some(code)
    }

    /// Whether a record is locked. `draw` is asked once a record: whether it is to be locked at all.
    pub(crate) fn is_locked(
        &mut self,
        module: &str,
        identity: &str,
        tries: u32,
        draw: impl FnOnce() -> bool,
    ) -> bool {
        let left = self
            .locked
            .entry((module.to_owned(), identity.to_owned()))
            .or_insert_with(|| if draw() { tries } else { 0 });
        let is_locked = *left > 0;
        *left = left.saturating_sub(1);
        is_locked
    }
}
