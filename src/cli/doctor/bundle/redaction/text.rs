//! Redacts texts: known strings first, then whatever looks like a secret.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, MatchKind};
use regex_lite::{Captures, Regex};

use crate::config::MASK;

/// Shorter strings are not searched for: they stand in every text.
const KNOWN_BYTES_MIN: usize = 4;
/// Bounds the memory of the search.
const KNOWN_STRINGS_MAX: usize = 50_000;

/// What looks like a secret, and what replaces it.
const SECRET_PATTERNS: [(&str, &str); 9] = [
    // A key or certificate.
    (r"(?s)-----BEGIN [^-]*-----.*?(-----END [^-]*-----|$)", "***"),
    // User and password of a URL.
    (r#"([A-Za-z][A-Za-z0-9+.-]*://)[^\s"'<>]*@"#, "${1}***@"),
    // The values of a query.
    (r#"([?&][^=&\s"'<>]+=)[^&\s"'<>]*"#, "${1}***"),
    // Header fields.
    (
        r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|api-key)\b([^\w\n]*[:=])[^\n]*",
        "${1}${2} ***",
    ),
    (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", "${1} ***"),
    // name=value, name: value and "name": "value".
    (
        r#"(?i)((?:password|passwd|passphrase|secret|token|api[_-]?key|credentials?|(?:client|access|private)[_-]?key)["']?\s*[=:]\s*["']?)[^\s"',;&)}\]]+"#,
        "${1}***",
    ),
    // A JSON Web Token.
    (r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9._-]*", "***"),
    // A message of the server: the probe of doctor quotes it.
    (r"(?s)( and says: ).*?(: records wait until [a-z ]*)?$", "${1}***${2}"),
    // Random text without a space, such as a token. Ids of records and batches are shorter.
    (r"[A-Za-z0-9+/_]{40,}={0,2}", "***"),
];
/// Where texts of the daemon name a code of the server, which is free text, too.
const CODE_PATTERNS: [&str; 2] = [
    r"(?s)(the server responded with HTTP [0-9]{3} )(.*)(: [a-z0-9 ]*)$",
    r"(?s)(needs review \([a-z_]+, )(.*)(\); for details: )",
];
/// Quoted text in messages: a bug may quote what it handled.
const QUOTED: &str = r#""[^"]*"|`[^`]*`|“[^”]*”|„[^“”]*[“”]"#;
const CODE_CHARS_MAX: usize = 64;

/// Redacts the texts of one bundle.
pub(crate) struct TextRedactor {
    known: Option<AhoCorasick>,
    replacements: Vec<String>,
    patterns: Vec<(Regex, &'static str)>,
    codes: Vec<Regex>,
    quoted: Option<Regex>,
}

impl TextRedactor {
    /// `known` maps each string to its replacement. `None` if the search cannot be built.
    pub(crate) fn new(known: &BTreeMap<String, String>) -> Option<Self> {
        let searched = || {
            let long_enough = known.iter().filter(|(text, _)| text.len() >= KNOWN_BYTES_MIN);
            long_enough.take(KNOWN_STRINGS_MAX)
        };
        // The longest: a message that quotes a key is replaced as a whole.
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(searched().map(|(text, _)| text))
            .ok()?;
        let patterns = SECRET_PATTERNS.iter().map(|(pattern, with)| Some((Regex::new(pattern).ok()?, *with)));
        let codes = CODE_PATTERNS.iter().map(|pattern| Regex::new(pattern).ok());
        Some(Self {
            known: Some(search).filter(|search| search.patterns_len() > 0),
            replacements: searched().map(|(_, replacement)| replacement.clone()).collect(),
            patterns: patterns.collect::<Option<_>>()?,
            codes: codes.collect::<Option<_>>()?,
            quoted: Some(Regex::new(QUOTED).ok()?),
        })
    }

    /// A text of the daemon or of the system.
    pub(crate) fn redact(&self, text: &str) -> String {
        let mut text = match &self.known {
            Some(search) => search.replace_all(text, &self.replacements),
            None => text.to_owned(),
        };
        for code in &self.codes {
            text = code
                .replace(&text, |found: &Captures<'_>| {
                    format!("{}{}{}", &found[1], redact_code(&found[2]), &found[3])
                })
                .into_owned();
        }
        for (pattern, with) in &self.patterns {
            if let Cow::Owned(replaced) = pattern.replace_all(&text, *with) {
                text = replaced;
            }
        }
        text
    }

    /// A message of the journal: what it quotes is masked, too, except for paths.
    pub(crate) fn redact_message(&self, text: &str) -> String {
        let text = self.redact(text);
        let Some(quoted) = &self.quoted else { return text };
        let mask = |found: &Captures<'_>| match &found[0] {
            path if path.trim_matches(['"', '`']).starts_with('/') => path.to_owned(),
            _ => format!("\"{MASK}\""),
        };
        quoted.replace_all(&text, mask).into_owned()
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

    fn redactor(known: &[(&str, &str)]) -> TextRedactor {
        let known = known.iter().map(|(text, with)| ((*text).to_owned(), (*with).to_owned()));
        TextRedactor::new(&known.collect()).unwrap()
    }

    #[test]
    fn what_looks_like_a_secret_is_masked() {
        let redactor = redactor(&[]);
        for (text, expected) in [
            ("https://me:sesame@host/a?b=sesame&c=sesame#d", "https://***@host/a?b=***&c=***"),
            ("proxy http://me:se/sa@me@host:8080 failed", "proxy http://***@host:8080 failed"),
            ("Authorization: Bearer sesame12", "Authorization: ***"),
            ("proxy-authorization=Basic c2VzYW1l", "proxy-authorization= ***"),
            ("sent bearer sesame-12.x", "sent bearer ***"),
            ("password=sesame, token: sesame", "password=***, token: ***"),
            (r#"{"client_secret": "sesame"}"#, r#"{"client_secret": "***"}"#),
            ("server.token_file: cannot read /etc/token", "server.token_file: cannot read /etc/token"),
            ("eyJhbGciOi.eyJzdWIi.c2ln", "***"),
            ("-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n", "***\n"),
            ("0191b3a0-0000-7000-8000-000000000000", "0191b3a0-0000-7000-8000-000000000000"),
            (
                "it fails (HTTP 503) and says: sesame: records wait until it recovers",
                "it fails (HTTP 503) and says: ***: records wait until it recovers",
            ),
            ("no (HTTP 403) and says: open sesame", "no (HTTP 403) and says: ***"),
        ] {
            assert_eq!(redactor.redact(text), expected);
        }
    }

    #[test]
    fn known_strings_are_replaced_by_the_longest_that_fits() {
        let redactor = redactor(&[("Acme", "key-1"), ("Acme owes 7", "***"), ("ab", "never")]);
        assert_eq!(redactor.redact("Acme: Acme owes 7; ab"), "key-1: ***; ab");
    }

    #[test]
    fn a_code_of_the_server_stays_if_it_is_one_word() {
        let redactor = redactor(&[]);
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
        let redactor = redactor(&[]);
        let message = "panicked: \"Acme\" is not `a date` in \"/etc/fieldsync\"";
        assert_eq!(
            redactor.redact_message(message),
            "panicked: \"***\" is not \"***\" in \"/etc/fieldsync\""
        );
    }
}
