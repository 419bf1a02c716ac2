//! The records of a row: JSON objects of one size, with keys as the row has them.

use std::io::Write as _;
use std::num::ParseIntError;
use std::time::Duration;

use clap::ValueEnum;
use fieldsync::clock::Clock;

use crate::caller::Caller;

/// A request ends with the record that reaches this size. The limit of the API is larger.
const REQUEST_BYTES: usize = 4 << 20;

/// Which records have the same key.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keys {
    /// No record has a key.
    None,
    /// Each record has a key of its own.
    Each,
    /// All records have the same key.
    One,
}

/// Submits records of one size over one connection, in requests of some records.
pub(crate) struct Submitter {
    pub(crate) caller: Caller,
    pub(crate) payload_bytes: usize,
    pub(crate) keys: Keys,
    /// The number of the next record.
    pub(crate) next: u64,
}

/// What it took to submit records.
#[derive(Clone, Copy, Default)]
pub(crate) struct Submitted {
    pub(crate) time: Duration,
    /// Bytes of the bodies of responses.
    pub(crate) response_bytes: u64,
}

impl Submitter {
    /// Submits records.
    pub(crate) fn submit(&mut self, mut records: u64, request_records: u64) -> Submitted {
        let mut submitted = Submitted::default();
        let mut body = Vec::new();
        while records > 0 {
            body.clear();
            let mut left = request_records.min(records);
            while left > 0 && body.len() < REQUEST_BYTES {
                self.write_record(&mut body);
                left -= 1;
                records -= 1;
            }
            let clock = Clock::start();
            let response = self.caller.call("POST /v1/records", &body);
            submitted.time += clock.now();
            submitted.response_bytes += response.len() as u64;
        }
        submitted
    }

    /// Appends a line with a payload of exactly the size.
    fn write_record(&mut self, text: &mut Vec<u8>) {
        let number = self.next;
        self.next += 1;
        text.extend_from_slice(br#"{"type":"Visits","#);
        match self.keys {
            Keys::None => {}
            Keys::Each => write!(text, r#""key":"visit-{number}","#).expect("a text grows"),
            Keys::One => text.extend_from_slice(br#""key":"van-12","#),
        }
        text.extend_from_slice(br#""payload":"#);
        let end = text.len() + self.payload_bytes;
        write!(text, r#"{{"number":{number},"note":""#).expect("a text grows");
        text.resize(end - 2, b'.');
        text.extend_from_slice(b"\"}}\n");
    }
}

/// `250`, `100k` or `5M`.
pub(crate) fn parse_count(text: &str) -> Result<u64, ParseIntError> {
    let (digits, unit) = match text.strip_suffix(['k', 'M']) {
        Some(digits) if text.ends_with('k') => (digits, 1_000),
        Some(digits) => (digits, 1_000_000),
        None => (text, 1),
    };
    digits.parse::<u64>().map(|number| number * unit)
}
