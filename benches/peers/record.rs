//! The records that all contestants send: JSON objects of 1 KiB, each with a number in its id.

use std::num::ParseIntError;

use memchr::memmem::Finder;

/// The usual size of a CRM record.
pub(crate) const RECORD_BYTES: usize = 1024;
/// The constant part of each id, so that ids ascend with the numbers of the records.
const ID_PREFIX: &str = "01960000-0000-7000-8000-";
const ID_NUMBER_DIGITS: usize = 12;
/// What precedes the id in the object.
const ID_FIELD: &str = r#"{"visit":""#;

pub(crate) fn id_of(number: usize) -> String {
    format!("{ID_PREFIX}{number:0ID_NUMBER_DIGITS$x}")
}

/// Appends the object, without white space.
pub(crate) fn write_record(number: usize, text: &mut Vec<u8>) {
    let end = text.len() + RECORD_BYTES - 2;
    text.extend_from_slice(format!(r#"{ID_FIELD}{}","note":""#, id_of(number)).as_bytes());
    text.resize(end, b'.');
    text.extend_from_slice(br#""}"#);
}

/// Finds the numbers of the records in a body, in whichever format the client sends them.
pub(crate) struct RecordFinder(Finder<'static>);

impl RecordFinder {
    pub(crate) fn new() -> Self {
        Self(Finder::new(ID_FIELD))
    }

    pub(crate) fn find_numbers(&self, body: &[u8]) -> Vec<usize> {
        self.0.find_iter(body).filter_map(|at| number_at(body, at + ID_FIELD.len())).collect()
    }
}

fn number_at(body: &[u8], id_start: usize) -> Option<usize> {
    let digits_start = id_start + ID_PREFIX.len();
    let digits = body.get(digits_start..digits_start + ID_NUMBER_DIGITS)?;
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// `250`, `100k` or `5M`.
pub(crate) fn parse_count(text: &str) -> Result<usize, ParseIntError> {
    let (digits, unit) = match text.strip_suffix(['k', 'M']) {
        Some(digits) if text.ends_with('k') => (digits, 1_000),
        Some(digits) => (digits, 1_000_000),
        None => (text, 1),
    };
    digits.parse::<usize>().map(|number| number * unit)
}
