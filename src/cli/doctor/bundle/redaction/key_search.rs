//! Finds keys of records in texts: whole words only, and none that are words of the program itself.
//!
//! Keys are customer numbers, years and common words, too. Replacing those would make texts unreadable, and a replaced
//! word that the reader knows would give its replacement away. Documents are therefore redacted by their structure, and
//! this search is for free texts, which rarely quote a key.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::field_names::DROPPED_FIELDS;
use super::spans::MaskedSpans;

/// Shorter keys stand in every text.
const KEY_BYTES_MIN: usize = 6;
/// Words that secrets are recognised by, and that texts have everywhere.
const FIXED_WORDS: [&str; 12] = [
    "fieldsync",
    "fieldsyncd",
    "systemd",
    "password",
    "passphrase",
    "secret",
    "authorization",
    "bearer",
    "cookie",
    "https",
    "server",
    "record",
];

/// Words of documents and metrics that say nothing of a record.
#[derive(Debug)]
pub(crate) struct ProgramWords(BTreeSet<String>);

impl Default for ProgramWords {
    fn default() -> Self {
        Self(FIXED_WORDS.map(str::to_owned).into())
    }
}

impl ProgramWords {
    pub(crate) fn add_text(&mut self, text: &str) {
        self.0.extend(split_words(text).map(str::to_lowercase));
    }

    /// The names of the fields at every depth.
    pub(crate) fn add_field_names(&mut self, document: &Value) {
        match document {
            Value::Object(fields) => {
                let fields = fields.iter().filter(|(name, _)| !DROPPED_FIELDS.contains(&name.as_str()));
                for (name, value) in fields {
                    self.add_text(name);
                    self.add_field_names(value);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.add_field_names(value)),
            _ => {}
        }
    }

    /// Whether a key has only such words and numbers.
    fn covers(&self, key: &str) -> bool {
        let is_number = |word: &str| word.chars().all(|letter| letter.is_ascii_digit());
        split_words(key).all(|word| is_number(word) || self.0.contains(&word.to_lowercase()))
    }
}

/// Keys by their first word.
#[derive(Default)]
pub(crate) struct KeySearch(BTreeMap<String, Vec<String>>);

impl KeySearch {
    pub(crate) fn new<'a>(keys: impl Iterator<Item = &'a str>, words: &ProgramWords) -> Self {
        let mut search = Self::default();
        for key in keys.filter(|key| key.len() >= KEY_BYTES_MIN && !words.covers(key)) {
            let key = key.trim_matches(|letter| !is_of_word(letter));
            if let Some(first) = split_words(key).next() {
                search.0.entry(first.to_owned()).or_default().push(key.to_owned());
            }
        }
        search
    }

    pub(crate) fn find(&self, text: &str, spans: &mut MaskedSpans) {
        let mut start = 0;
        for word in split_words(text) {
            let Some(offset) = text.get(start..).and_then(|rest| rest.find(word)) else { return };
            start += offset;
            let rest = text.get(start..).unwrap_or_default();
            let keys = self.0.get(word).into_iter().flatten();
            let found = keys.filter(|key| begins_with_words(rest, key)).map(String::len).max();
            spans.add(start..start + found.unwrap_or(0));
            start += word.len();
        }
    }
}

fn begins_with_words(text: &str, key: &str) -> bool {
    text.strip_prefix(key).is_some_and(|rest| !rest.starts_with(is_of_word))
}

fn split_words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter| !is_of_word(letter)).filter(|word| !word.is_empty())
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mask(keys: &[&str], text: &str) -> String {
        let mut words = ProgramWords::default();
        words.add_field_names(
            &json!({"queue_bytes": 1, "list": [{"quarantined": 2, "payload": {"Petersen": 1}}]}),
        );
        let mut spans = MaskedSpans::default();
        KeySearch::new(keys.iter().copied(), &words).find(text, &mut spans);
        spans.apply(text)
    }

    #[test]
    fn a_key_is_found_as_a_whole_word() {
        let keys = ["Acme & Co", "Acme & Co 7", "Petersen", "(Müller)"];
        let text = "Acme & Co 7: Acme & Co owes Petersen, not Petersens; Müller";
        assert_eq!(mask(&keys, text), "***: *** owes ***, not Petersens; ***");
    }

    #[test]
    fn numbers_short_keys_and_words_of_the_program_are_not_searched_for() {
        let keys =
            ["2026", "2026-11-29", "1000000", "abcde", "fieldsync", "Password", "queue 17", "QUARANTINED"];
        let text = "2026-11-29 1000000 abcde fieldsync Password=x queue 17 QUARANTINED";
        assert_eq!(mask(&keys, text), text);
    }
}
