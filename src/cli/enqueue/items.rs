//! Splits the input into records without parsing them: lines of NDJSON, or the elements of one JSON array. Only one of
//! them is in memory at a time.

use std::io::{self, BufRead, Read};

use crate::api::submission::BYTE_ORDER_MARK;
use crate::cli::failure::{CommandFailure, InputPlace};
use crate::cli::format::count_newlines;
use crate::exit;

/// The maximum length of a record if the daemon does not report its limit.
pub(super) const ITEM_BYTES_MAX: u64 = 64 << 20;

/// The text of one record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item<'a> {
    /// The line where it begins, from 1.
    pub(super) line: u64,
    /// Its number in an array, from 1.
    pub(super) element: Option<u64>,
    pub(super) text: &'a [u8],
}

/// A mistake in the input, with its line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InputError {
    pub(super) line: u64,
    pub(super) reason: String,
    /// The input could not be read.
    pub(super) is_unreadable: bool,
}

impl InputError {
    pub(super) fn new(line: u64, what: impl Into<String>) -> Self {
        Self { line, reason: what.into(), is_unreadable: false }
    }

    pub(super) fn exit_code(&self) -> u8 {
        if self.is_unreadable { exit::FAILED } else { exit::REFUSED }
    }

    pub(super) fn to_failure(&self, name: &str) -> CommandFailure {
        let message = format!("{name}:{}: {}. Nothing was stored.{}", self.line, self.reason, self.remedy());
        CommandFailure::new(self.exit_code(), message).with_place(Some(self.to_place(name)))
    }

    pub(super) fn to_place(&self, name: &str) -> InputPlace {
        InputPlace { file: name.to_owned(), line: self.line }
    }

    fn remedy(&self) -> &'static str {
        if self.is_unreadable { "" } else { " Correct the line, and enqueue the whole input again." }
    }
}

enum InputShape {
    /// Only white space was read so far.
    Unknown,
    Lines,
    /// Within an array; after a comma, a record must follow.
    Array {
        is_after_comma: bool,
    },
    /// Behind the end of the array.
    End,
}

pub(super) struct ItemReader<R> {
    input: R,
    /// The line of the next byte.
    line: u64,
    shape: InputShape,
    text: Vec<u8>,
    /// A longer record is refused without reading all of it.
    item_bytes_max: u64,
    /// The number of array elements so far. Lines are not counted.
    elements: u64,
}

impl<R: BufRead> ItemReader<R> {
    pub(super) fn new(input: R, longest: u64) -> Self {
        Self {
            input,
            line: 1,
            shape: InputShape::Unknown,
            text: Vec::new(),
            item_bytes_max: longest,
            elements: 0,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Item<'_>>, InputError> {
        if let InputShape::Unknown = self.shape {
            self.detect_shape()?;
        }
        let found = match self.shape {
            InputShape::Array { is_after_comma: due } => self.read_element(due)?,
            InputShape::Lines => self.read_line()?,
            InputShape::Unknown | InputShape::End => self.expect_end()?,
        };
        let element = Some(self.elements).filter(|number| *number > 0);
        Ok(found.map(|line| Item { line, element, text: self.text.trim_ascii() }))
    }

    /// Detects the shape from the first byte that is not white space.
    fn detect_shape(&mut self) -> Result<(), InputError> {
        let start = self.byte_order_mark_length()?;
        self.input.consume(start);
        self.shape = match self.skip_white_space()? {
            Some(b'[') => {
                self.input.consume(1);
                InputShape::Array { is_after_comma: false }
            }
            Some(_) => InputShape::Lines,
            None => InputShape::End,
        };
        Ok(())
    }

    /// The length of the byte order mark that some editors write.
    fn byte_order_mark_length(&mut self) -> Result<usize, InputError> {
        let line = self.line;
        let buffer = self.input.fill_buf().map_err(|error| read_error(line, &error))?;
        Ok(if buffer.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 })
    }

    fn read_line(&mut self) -> Result<Option<u64>, InputError> {
        loop {
            let line = self.line;
            self.text.clear();
            let read = (&mut self.input)
                .take(self.item_bytes_max.saturating_add(1))
                .read_until(b'\n', &mut self.text)
                .map_err(|error| read_error(line, &error))?;
            if read == 0 {
                return Ok(None);
            }
            if self.text.len() as u64 > self.item_bytes_max {
                return Err(too_long_error(line, self.item_bytes_max));
            }
            self.line += 1;
            if !self.text.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    fn read_element(&mut self, due: bool) -> Result<Option<u64>, InputError> {
        let first = self.skip_white_space()?;
        let line = self.line;
        match first {
            Some(b']') if !due => {
                self.input.consume(1);
                self.shape = InputShape::End;
                return self.expect_end();
            }
            Some(b',' | b']') => {
                return Err(InputError::new(line, "a record is missing before or after a comma"));
            }
            Some(_) => {}
            None => return Err(InputError::new(line, "the array is not closed")),
        }
        self.text.clear();
        let mut nesting = Nesting::default();
        loop {
            let at = self.line;
            let buffer = self.input.fill_buf().map_err(|error| read_error(at, &error))?;
            if buffer.is_empty() {
                return Err(InputError::new(line, "this record or the array is not closed"));
            }
            let end = buffer.iter().position(|byte| nesting.ends_before(*byte));
            let taken = &buffer[..end.unwrap_or(buffer.len())];
            self.line += count_newlines(taken);
            self.text.extend_from_slice(taken);
            let (length, separator) = (taken.len(), end.map(|end| buffer[end]));
            self.input.consume(length + usize::from(end.is_some()));
            if self.text.len() as u64 > self.item_bytes_max {
                return Err(too_long_error(line, self.item_bytes_max));
            }
            match separator {
                Some(b',') => self.shape = InputShape::Array { is_after_comma: true },
                Some(_) => self.shape = InputShape::End,
                None => continue,
            }
            self.elements += 1;
            return Ok(Some(line));
        }
    }

    fn expect_end(&mut self) -> Result<Option<u64>, InputError> {
        match self.skip_white_space()? {
            None => Ok(None),
            Some(_) => Err(InputError::new(self.line, "there is more text after the end of the array")),
        }
    }

    /// The next byte that is not white space. It is not consumed.
    fn skip_white_space(&mut self) -> Result<Option<u8>, InputError> {
        loop {
            let line = self.line;
            let buffer = self.input.fill_buf().map_err(|error| read_error(line, &error))?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let space = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.line += count_newlines(&buffer[..space]);
            let found = buffer.get(space).copied();
            self.input.consume(space);
            if found.is_some() {
                return Ok(found);
            }
        }
    }
}

/// Finds the end of an array element without parsing it.
#[derive(Default)]
struct Nesting {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Nesting {
    fn ends_before(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b',' | b']' if self.depth == 0 => return true,
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }
}

fn too_long_error(line: u64, longest: u64) -> InputError {
    InputError::new(
        line,
        format!("the record has more than {longest} bytes, and queue.max_record_bytes allows less"),
    )
}

fn read_error(line: u64, error: &io::Error) -> InputError {
    InputError { line, reason: format!("cannot be read ({error})"), is_unreadable: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    type ReadItems = Result<Vec<(u64, String)>, InputError>;

    fn read_items(input: impl BufRead) -> ReadItems {
        let mut items = ItemReader::new(input, 40);
        let mut found = Vec::new();
        while let Some(item) = items.next()? {
            found.push((item.line, String::from_utf8_lossy(item.text).into_owned()));
        }
        Ok(found)
    }

    /// The result does not depend on how the input arrives.
    fn read_with_all_capacities(text: &str) -> ReadItems {
        let whole = read_items(text.as_bytes());
        for capacity in 4..9 {
            assert_eq!(read_items(io::BufReader::with_capacity(capacity, text.as_bytes())), whole);
        }
        whole
    }

    #[expect(clippy::unnecessary_wraps, reason = "compared with what is found")]
    fn expected_items(items: &[(u64, &str)]) -> ReadItems {
        Ok(items.iter().map(|(line, text)| (*line, (*text).to_owned())).collect())
    }

    #[test]
    fn every_line_that_is_not_empty_is_a_record() {
        let text = "\u{feff}\n {\"a\":1}\r\n\n{\"b\":\n2}";
        assert_eq!(
            read_with_all_capacities(text),
            expected_items(&[(2, "{\"a\":1}"), (4, "{\"b\":"), (5, "2}")])
        );
        assert_eq!(read_with_all_capacities(""), expected_items(&[]));
        assert_eq!(read_with_all_capacities(" \n\n"), expected_items(&[]));
    }

    #[test]
    fn every_element_of_an_array_is_a_record() {
        let text = "\n[ {\"a\": [1,\n{}], \"s\": \"],\\\"}\"}\n,\n\n{\"b\":2} ]\n\n";
        let first = "{\"a\": [1,\n{}], \"s\": \"],\\\"}\"}";
        assert_eq!(read_with_all_capacities(text), expected_items(&[(2, first), (6, "{\"b\":2}")]));
        assert_eq!(read_with_all_capacities("[\n]"), expected_items(&[]));
        assert_eq!(read_with_all_capacities("[1, two]"), expected_items(&[(1, "1"), (1, "two")]));
    }

    #[test]
    fn a_record_that_is_too_long_is_not_read_to_its_end() {
        for text in ["x".repeat(41), format!("[1,\n{}]", "x".repeat(41))] {
            let mistake = read_items(text.as_bytes()).unwrap_err();
            assert!(mistake.reason.contains("more than 40 bytes, and queue.max_record_bytes"), "{mistake:?}");
            let mut endless = io::Cursor::new(text.into_bytes()).chain(io::repeat(b'x'));
            assert!(read_items(io::BufReader::new(&mut endless)).is_err());
        }
    }

    #[test]
    fn only_elements_of_an_array_are_numbered() {
        for (text, numbers) in [("1\n2", [None, None]), ("[1,\n2]", [Some(1), Some(2)])] {
            let mut items = ItemReader::new(text.as_bytes(), 40);
            assert_eq!([(); 2].map(|()| items.next().unwrap().unwrap().element), numbers);
        }
    }

    #[test]
    fn a_broken_array_is_reported_with_its_line() {
        let line = |text| read_with_all_capacities(text).unwrap_err().line;
        assert_eq!(line("[\n{},\n]"), 3);
        assert_eq!(line("[\n,{}]"), 2);
        assert_eq!(line("[{}\n"), 1);
        assert_eq!(line("[{},\n\n{\n"), 3);
        assert_eq!(line("[{}]\n{}"), 2);
    }
}
