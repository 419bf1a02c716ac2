//! What looks like a secret: patterns of texts, and long random words.

use regex_lite::{Captures, Regex};

use super::spans::MaskedSpans;

/// The groups of a match are masked; without a group, all of it.
const SECRET_PATTERNS: [&str; 9] = [
    // A key or certificate.
    r"(?s)-----BEGIN [^-]*-----.*?(?:-----END [^-]*-----|$)",
    // User and password of a URL.
    r#"[A-Za-z][A-Za-z0-9+.-]*://([^\s"'<>]*)@"#,
    // The values of a query.
    r#"[?&][^=&\s"'<>]+=([^&\s"'<>]*)"#,
    // Header fields.
    r"(?i)\b(?:(?:proxy-)?authorization|(?:set-)?cookie|x-api-key|api-key)\b[^\w\n]*[:=] *([^\n]*)",
    r"(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/=-]{6,})",
    // name=value, name: value and "name": "value", whose quotes may be escaped.
    concat!(
        r#"(?i)(?:password|passwd|passphrase|secret|token|api[_-]?key|credentials?|(?:client|access|private)[_-]?key)"#,
        r#"[\\"']*\s*[=:]\s*(?:\\*"((?:[^"\\]|\\.)*)|'([^']*)|([^\s"',;&)}\]]+))"#
    ),
    // A JSON Web Token.
    r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9._-]*",
    // A message of the server: the probe of doctor quotes it.
    r"(?s) and says: (.*?)(?:: records wait until [a-z ]*)?$",
    // What a panic says behind its location may be data.
    r"(?s)panicked at [^\n]*\n(.*)",
];
const LONG_WORD: &str = r"[A-Za-z0-9+/_-]{40,}={0,2}";
/// Shorter ids and digests are not secret.
const RANDOM_RUN_CHARS: usize = 40;
/// A part between slashes that mixes letters and digits, and is longer than the names of directories.
const RANDOM_PART_CHARS: usize = 16;

/// All patterns, compiled.
pub(crate) struct SecretPatterns {
    patterns: Vec<Regex>,
    long_word: Regex,
}

impl SecretPatterns {
    pub(crate) fn new() -> Option<Self> {
        let patterns = SECRET_PATTERNS.iter().map(|pattern| Regex::new(pattern).ok());
        Some(Self { patterns: patterns.collect::<Option<_>>()?, long_word: Regex::new(LONG_WORD).ok()? })
    }

    pub(crate) fn find(&self, text: &str, spans: &mut MaskedSpans) {
        for found in self.patterns.iter().flat_map(|pattern| pattern.captures_iter(text)) {
            add_groups(&found, spans);
        }
        let words = self.long_word.find_iter(text).filter(|word| is_random(word.as_str()));
        words.for_each(|word| spans.add(word.range()));
    }
}

fn add_groups(found: &Captures<'_>, spans: &mut MaskedSpans) {
    if found.len() == 1 {
        found.get(0).into_iter().for_each(|whole| spans.add(whole.range()));
    }
    for group in found.iter().skip(1).flatten() {
        spans.add(group.range());
    }
}

/// Names of metrics, paths and ids are long, too, but have one case or short parts.
fn is_random(word: &str) -> bool {
    let has_digit = |part: &str| part.contains(|letter: char| letter.is_ascii_digit());
    let is_mixed = |part: &str| {
        has_digit(part)
            && part.contains(|letter: char| letter.is_ascii_uppercase())
            && part.contains(|letter: char| letter.is_ascii_lowercase())
    };
    let mut runs = word.split(|letter: char| !letter.is_ascii_alphanumeric());
    runs.any(|run| run.len() >= RANDOM_RUN_CHARS && has_digit(run))
        || word.split('/').any(|part| part.len() >= RANDOM_PART_CHARS && is_mixed(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(text: &str) -> String {
        let mut spans = MaskedSpans::default();
        SecretPatterns::new().unwrap().find(text, &mut spans);
        spans.apply(text)
    }

    #[test]
    fn what_looks_like_a_secret_is_masked() {
        for (text, expected) in [
            ("https://me:sesame@host/a?b=sesame&c=sesame#d", "https://***@host/a?b=***&c=***"),
            ("proxy http://me:se/sa@me@host:8080 failed", "proxy http://***@host:8080 failed"),
            ("Authorization: Bearer sesame12", "Authorization: ***"),
            ("proxy-authorization=Basic c2VzYW1l", "proxy-authorization=***"),
            ("sent bearer sesame-12.x", "sent bearer ***"),
            ("password=sesame, token: sesame", "password=***, token: ***"),
            (r#"{"client_secret": "open \"sesame\" now"}"#, r#"{"client_secret": "***"}"#),
            (r#"{\"password\": \"open sesame\"}"#, r#"{\"password\": \"***"#),
            ("password='open sesame'", "password='***'"),
            ("eyJhbGciOi.eyJzdWIi.c2ln", "***"),
            ("-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n", "***\n"),
            (
                "it fails (HTTP 503) and says: sesame: records wait until it recovers",
                "it fails (HTTP 503) and says: ***: records wait until it recovers",
            ),
            ("no (HTTP 403) and says: open sesame", "no (HTTP 403) and says: ***"),
            ("a bug: panicked at src/a.rs:1:2:\nsesame\nsesame", "a bug: panicked at src/a.rs:1:2:\n***"),
        ] {
            assert_eq!(mask(text), expected);
        }
    }

    #[test]
    fn random_words_are_masked_and_names_paths_and_ids_are_not() {
        for random in [
            "3f2a9c0d4b5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f70",
            "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",
            "/83vEjRWeJCrze8SNFZ4/KvN7xI0VniQq83vEjRWeJA=",
            "q83vEjRWeJCrze8_SNFZ4kKvN7xI0VniQq8-3vEjRWeJ",
        ] {
            assert_eq!(mask(&format!("sent {random}.")), "sent ***.");
        }
        for name in [
            "fieldsync_last_success_timestamp_seconds 1795953738",
            "fieldsync_request_phase_duration_seconds_bucket{le=\"0.001\"} 0",
            "/etc/fieldsync/credentials/production/token",
            "/srv/Devices/2026/Vans/Berlin12/fieldsync/state/queue",
            "0191b3a0-0000-7000-8000-000000000000",
            "server.token_file: cannot read /etc/token",
        ] {
            assert_eq!(mask(name), name);
        }
    }
}
