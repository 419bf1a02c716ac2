//! Redacts texts: known secrets, messages of the server, keys of records, and whatever looks like a secret.

use aho_corasick::AhoCorasick;
use regex_lite::{Captures, Regex};

use super::key_search::KeySearch;
use super::known_secrets::KnownStrings;
use super::patterns::SecretPatterns;
use super::quoted::find_quoted;
use super::spans::MaskedSpans;
use crate::config::MASK;

/// Where texts of the daemon name a code of the server, which is free text, too.
const CODE_PATTERNS: [&str; 2] = [
    r"(?s)the server responded with HTTP [0-9]{3} (.*): [a-z0-9 ]*$",
    r"(?s)needs review \([a-z_]+, (.*)\); for details: ",
];
const CODE_CHARS_MAX: usize = 64;
/// What is text in metrics: the values of labels.
const LABEL_VALUE: &str = r#""(?:[^"\\\n]|\\.)*""#;

/// Redacts the texts of one bundle.
pub(crate) struct TextRedactor {
    strings: AhoCorasick,
    keys: KeySearch,
    patterns: SecretPatterns,
    codes: Vec<Regex>,
    label_value: Regex,
}

impl TextRedactor {
    /// `None` if the search cannot be built.
    pub(crate) fn new(known: &KnownStrings) -> Option<Self> {
        let codes = CODE_PATTERNS.iter().map(|pattern| Regex::new(pattern).ok());
        Some(Self {
            strings: AhoCorasick::new(known.masked_strings()).ok()?,
            keys: known.search_keys(),
            patterns: SecretPatterns::new()?,
            codes: codes.collect::<Option<_>>()?,
            label_value: Regex::new(LABEL_VALUE).ok()?,
        })
    }

    /// A free text of the daemon or of the system.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.find_all(text).apply(text)
    }

    /// A text that names no record, such as a time or an id. Keys are not searched for in it.
    pub(crate) fn redact_secrets(&self, text: &str) -> String {
        self.find_secrets(text).apply(text)
    }

    /// A message of the journal: what it quotes is masked, too, except for paths.
    pub(crate) fn redact_message(&self, text: &str) -> String {
        let mut spans = self.find_all(text);
        if let Some(quoted) = find_quoted(text) {
            spans.add(quoted);
        }
        spans.apply(text)
    }

    /// Metrics: their names and numbers stay as they are.
    pub(crate) fn redact_metrics(&self, text: &str) -> String {
        let redact = |found: &Captures<'_>| self.redact_secrets(&found[0]);
        self.label_value.replace_all(text, redact).into_owned()
    }

    fn find_all(&self, text: &str) -> MaskedSpans {
        let mut spans = self.find_secrets(text);
        self.keys.find(text, &mut spans);
        spans
    }

    fn find_secrets(&self, text: &str) -> MaskedSpans {
        let mut spans = MaskedSpans::default();
        // One secret may begin within another.
        self.strings.find_overlapping_iter(text).for_each(|found| spans.add(found.range()));
        for code in self.codes.iter().filter_map(|pattern| pattern.captures(text)?.get(1)) {
            if redact_code(code.as_str()) != code.as_str() {
                spans.add(code.range());
            }
        }
        self.patterns.find(text, &mut spans);
        spans
    }
}

/// A code of the server, if it is one word. It may be any text.
pub(crate) fn redact_code(code: &str) -> &str {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    if code.len() <= CODE_CHARS_MAX && code.chars().all(is_word) { code } else { MASK }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secrets: &[&str], keys: &[&str]) -> TextRedactor {
        let mut known = KnownStrings::default();
        for secret in secrets {
            known.add_secret(secret);
        }
        for key in keys {
            known.add_key(key);
        }
        TextRedactor::new(&known).unwrap()
    }

    #[test]
    fn secrets_that_overlap_and_messages_that_quote_a_key_are_masked_as_a_whole() {
        let redactor = redactor(&["Acme LLC owes 7", "owes 7 sesame", "ab"], &["Acme LLC"]);
        assert_eq!(redactor.redact("Acme LLC: Acme LLC owes 7 sesame; ab"), "***: ***; ab");
    }

    #[test]
    fn a_key_does_not_disable_a_pattern_or_hide_a_secret() {
        let keys = ["password", "Bearer", "Authorization", "https://", "said password=sesame", "proxy open"];
        let redactor = redactor(&["open sesame"], &keys);
        for text in [
            "proxy said password=sesame and done",
            "sent Bearer sesame-1",
            "Authorization: x sesame",
            "at https://me:sesame@host",
            "the proxy open sesame",
        ] {
            let redacted = redactor.redact(text);
            assert!(!redacted.contains("sesame"), "{redacted}");
        }
    }

    #[test]
    fn keys_that_are_numbers_or_words_of_the_program_leave_texts_readable() {
        let redactor = redactor(&[], &["2026", "1000", "fieldsync"]);
        let text = "since 2026-11-29T12:01:47.580Z 1000 records wait: fieldsync quarantine list";
        assert_eq!(redactor.redact(text), text);
    }

    #[test]
    fn only_values_of_labels_are_redacted_in_metrics() {
        let redactor = redactor(&["sesame"], &["Petersen"]);
        let metrics = "# HELP fieldsync_last_success_timestamp_seconds Time of sesame.\n\
            fieldsync_last_success_timestamp_seconds 1795953738\n\
            fieldsync_store_commit_duration_seconds_bucket{type=\"Petersen\",le=\"0.001\"} 0\n";
        assert_eq!(redactor.redact_metrics(metrics), metrics);
        assert_eq!(redactor.redact_metrics("a{b=\"x \\\"sesame\"} 1"), "a{b=\"x \\\"***\"} 1");
    }

    #[test]
    fn a_code_of_the_server_stays_if_it_is_one_word() {
        let redactor = redactor(&[], &[]);
        for (text, expected) in [
            (
                "the server responded with HTTP 422 BAD_DATE: cut into 2 parts",
                "the server responded with HTTP 422 BAD_DATE: cut into 2 parts",
            ),
            (
                "the server responded with HTTP 422 Acme: owes 7: cut into 2 parts",
                "the server responded with HTTP 422 ***: cut into 2 parts",
            ),
            (
                "record 1 needs review (rejected, Acme owes); for details: fieldsync show 1",
                "record 1 needs review (rejected, ***); for details: fieldsync show 1",
            ),
        ] {
            assert_eq!(redactor.redact(text), expected);
        }
    }

    #[test]
    fn quoted_text_of_the_journal_is_masked_and_paths_are_not() {
        let redactor = redactor(&[], &[]);
        let message = "panicked: \"Acme\" is not `a date` in \"/etc/fieldsync\"";
        assert_eq!(redactor.redact_message(message), "panicked: \"***` in \"/etc/fieldsync\"");
    }
}
