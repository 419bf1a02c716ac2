//! Cuts input into records without looking into them: lines of NDJSON, or the elements of one JSON
//! array. Only one of them is in memory at a time.

use std::io::{self, BufRead, Read};

use crate::api::submission::BYTE_ORDER_MARK;
use crate::cli::failure::{Failure, Place};
use crate::cli::words::newlines;
use crate::exit;

/// The longest record that is read where the daemon does not say how long a payload may be.
pub(super) const MAX_ITEM: u64 = 64 << 20;

/// The text of one record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item<'a> {
    /// Where it begins, from 1.
    pub(super) line: u64,
    /// Its number in an array, from 1.
    pub(super) element: Option<u64>,
    pub(super) text: &'a [u8],
}

/// What is wrong with the input, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) line: u64,
    pub(super) what: String,
    /// Not the input's fault, but the reading's.
    pub(super) unreadable: bool,
}

impl Mistake {
    pub(super) fn new(line: u64, what: impl Into<String>) -> Self {
        Self { line, what: what.into(), unreadable: false }
    }

    pub(super) fn exit(&self) -> u8 {
        if self.unreadable { exit::FAILED } else { exit::REFUSED }
    }

    pub(super) fn nothing_stored(&self, name: &str) -> Failure {
        let message = format!("{name}:{}: {}. Nothing was stored.{}", self.line, self.what, self.remedy());
        Failure::new(self.exit(), message).at(Some(self.place(name)))
    }

    pub(super) fn place(&self, name: &str) -> Place {
        Place { file: name.to_owned(), line: self.line }
    }

    fn remedy(&self) -> &'static str {
        if self.unreadable { "" } else { " Correct the line, and enqueue all of it again." }
    }
}

enum Shape {
    /// Nothing but white space was seen.
    Open,
    Lines,
    /// In an array; whether a comma makes a record due.
    Array {
        due: bool,
    },
    /// Behind the array.
    Closed,
}

pub(super) struct Items<R> {
    input: R,
    /// Of the next byte.
    line: u64,
    shape: Shape,
    text: Vec<u8>,
    /// What is longer is not read to its end: it would fill the memory to be refused.
    longest: u64,
    /// How many elements of an array were found; lines are not counted.
    elements: u64,
}

impl<R: BufRead> Items<R> {
    pub(super) fn new(input: R, longest: u64) -> Self {
        Self { input, line: 1, shape: Shape::Open, text: Vec::new(), longest, elements: 0 }
    }

    pub(super) fn next(&mut self) -> Result<Option<Item<'_>>, Mistake> {
        if let Shape::Open = self.shape {
            self.open()?;
        }
        let found = match self.shape {
            Shape::Array { due } => self.element(due)?,
            Shape::Lines => self.full_line()?,
            Shape::Open | Shape::Closed => self.nothing_more()?,
        };
        let element = Some(self.elements).filter(|number| *number > 0);
        Ok(found.map(|line| Item { line, element, text: self.text.trim_ascii() }))
    }

    /// Tells the shape by the first byte that counts.
    fn open(&mut self) -> Result<(), Mistake> {
        let start = self.peek_mark()?;
        self.input.consume(start);
        self.shape = match self.skip_space()? {
            Some(b'[') => {
                self.input.consume(1);
                Shape::Array { due: false }
            }
            Some(_) => Shape::Lines,
            None => Shape::Closed,
        };
        Ok(())
    }

    /// Length of the mark that some editors put at the beginning.
    fn peek_mark(&mut self) -> Result<usize, Mistake> {
        let line = self.line;
        let buffer = self.input.fill_buf().map_err(|error| unreadable(line, &error))?;
        Ok(if buffer.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 })
    }

    fn full_line(&mut self) -> Result<Option<u64>, Mistake> {
        loop {
            let line = self.line;
            self.text.clear();
            let read = (&mut self.input)
                .take(self.longest.saturating_add(1))
                .read_until(b'\n', &mut self.text)
                .map_err(|error| unreadable(line, &error))?;
            if read == 0 {
                return Ok(None);
            }
            if self.text.len() as u64 > self.longest {
                return Err(too_long(line, self.longest));
            }
            self.line += 1;
            if !self.text.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    fn element(&mut self, due: bool) -> Result<Option<u64>, Mistake> {
        let first = self.skip_space()?;
        let line = self.line;
        match first {
            Some(b']') if !due => {
                self.input.consume(1);
                self.shape = Shape::Closed;
                return self.nothing_more();
            }
            Some(b',' | b']') => {
                return Err(Mistake::new(line, "a record is missing next to a comma"));
            }
            Some(_) => {}
            None => return Err(Mistake::new(line, "the array has no end")),
        }
        self.text.clear();
        let mut nesting = Nesting::default();
        loop {
            let at = self.line;
            let buffer = self.input.fill_buf().map_err(|error| unreadable(at, &error))?;
            if buffer.is_empty() {
                return Err(Mistake::new(line, "this record or the array has no end"));
            }
            let end = buffer.iter().position(|byte| nesting.ends_before(*byte));
            let taken = &buffer[..end.unwrap_or(buffer.len())];
            self.line += newlines(taken);
            self.text.extend_from_slice(taken);
            let (length, separator) = (taken.len(), end.map(|end| buffer[end]));
            self.input.consume(length + usize::from(end.is_some()));
            if self.text.len() as u64 > self.longest {
                return Err(too_long(line, self.longest));
            }
            match separator {
                Some(b',') => self.shape = Shape::Array { due: true },
                Some(_) => self.shape = Shape::Closed,
                None => continue,
            }
            self.elements += 1;
            return Ok(Some(line));
        }
    }

    fn nothing_more(&mut self) -> Result<Option<u64>, Mistake> {
        match self.skip_space()? {
            None => Ok(None),
            Some(_) => Err(Mistake::new(self.line, "something follows the end of the array")),
        }
    }

    /// The next byte that is no white space; it stays where it is.
    fn skip_space(&mut self) -> Result<Option<u8>, Mistake> {
        loop {
            let line = self.line;
            let buffer = self.input.fill_buf().map_err(|error| unreadable(line, &error))?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let space = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.line += newlines(&buffer[..space]);
            let found = buffer.get(space).copied();
            self.input.consume(space);
            if found.is_some() {
                return Ok(found);
            }
        }
    }
}

/// Where an element of an array ends, told without parsing it.
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

fn too_long(line: u64, longest: u64) -> Mistake {
    Mistake::new(
        line,
        format!("the record has more than {longest} bytes, and queue.max_record_bytes allows less"),
    )
}

fn unreadable(line: u64, error: &io::Error) -> Mistake {
    Mistake { line, what: format!("cannot be read ({error})"), unreadable: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Result<Vec<(u64, String)>, Mistake>;

    fn read(input: impl BufRead) -> Found {
        let mut items = Items::new(input, 40);
        let mut found = Vec::new();
        while let Some(item) = items.next()? {
            found.push((item.line, String::from_utf8_lossy(item.text).into_owned()));
        }
        Ok(found)
    }

    /// However the input arrives, it is cut in the same way.
    fn items(text: &str) -> Found {
        let whole = read(text.as_bytes());
        for capacity in 4..9 {
            assert_eq!(read(io::BufReader::with_capacity(capacity, text.as_bytes())), whole);
        }
        whole
    }

    #[expect(clippy::unnecessary_wraps, reason = "compared with what is found")]
    fn found(items: &[(u64, &str)]) -> Found {
        Ok(items.iter().map(|(line, text)| (*line, (*text).to_owned())).collect())
    }

    #[test]
    fn lines_are_records_and_empty_ones_are_not() {
        let text = "\u{feff}\n {\"a\":1}\r\n\n{\"b\":\n2}";
        assert_eq!(items(text), found(&[(2, "{\"a\":1}"), (4, "{\"b\":"), (5, "2}")]));
        assert_eq!(items(""), found(&[]));
        assert_eq!(items(" \n\n"), found(&[]));
    }

    #[test]
    fn elements_of_an_array_are_records_wherever_their_lines_end() {
        let text = "\n[ {\"a\": [1,\n{}], \"s\": \"],\\\"}\"}\n,\n\n{\"b\":2} ]\n\n";
        let first = "{\"a\": [1,\n{}], \"s\": \"],\\\"}\"}";
        assert_eq!(items(text), found(&[(2, first), (6, "{\"b\":2}")]));
        assert_eq!(items("[\n]"), found(&[]));
        assert_eq!(items("[1, two]"), found(&[(1, "1"), (1, "two")]));
    }

    #[test]
    fn what_is_too_long_is_not_read_to_its_end() {
        for text in ["x".repeat(41), format!("[1,\n{}]", "x".repeat(41))] {
            let mistake = read(text.as_bytes()).unwrap_err();
            assert!(mistake.what.contains("more than 40 bytes, and queue.max_record_bytes"), "{mistake:?}");
            let mut endless = io::Cursor::new(text.into_bytes()).chain(io::repeat(b'x'));
            assert!(read(io::BufReader::new(&mut endless)).is_err());
        }
    }

    #[test]
    fn elements_of_an_array_are_numbered_and_lines_are_not() {
        for (text, numbers) in [("1\n2", [None, None]), ("[1,\n2]", [Some(1), Some(2)])] {
            let mut items = Items::new(text.as_bytes(), 40);
            assert_eq!([(); 2].map(|()| items.next().unwrap().unwrap().element), numbers);
        }
    }

    #[test]
    fn a_broken_array_is_told_with_its_line() {
        let line = |text| items(text).unwrap_err().line;
        assert_eq!(line("[\n{},\n]"), 3);
        assert_eq!(line("[\n,{}]"), 2);
        assert_eq!(line("[{}\n"), 1);
        assert_eq!(line("[{},\n\n{\n"), 3);
        assert_eq!(line("[{}]\n{}"), 2);
    }
}
