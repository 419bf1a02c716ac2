//! Reformats JSON token by token: numbers keep their digits, and fields their order, which parsing would not preserve.
//!
//! Input must be valid JSON. In any other text only white space changes.

use std::io::{self, Write};
use std::mem;

pub(crate) use crate::hidden::escape_hidden;

/// On one line, without white space between tokens.
pub(crate) fn compact_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut strings = StringTracker::default();
    for character in json.chars() {
        if strings.is_inside_string(character) || !is_white_space(character) {
            out.push(character);
        }
    }
    out
}

/// Deeper levels stay on one line, because indentation would grow with the square of the depth.
const INDENTED_LEVELS_MAX: usize = 40;

/// Indented, with one field on each line and a final line end.
pub(crate) fn indent_json(json: &str) -> String {
    let tokens = compact_json(json);
    let mut out = String::with_capacity(tokens.len() * 2);
    let mut strings = StringTracker::default();
    let mut depth = 0_usize;
    let mut characters = tokens.chars().peekable();
    while let Some(character) = characters.next() {
        if strings.is_inside_string(character) {
            out.push(character);
            continue;
        }
        match character {
            '{' | '[' => {
                out.push(character);
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    break_line(&mut out, depth, depth);
                }
            }
            '}' | ']' => {
                let inner = depth;
                depth = depth.saturating_sub(1);
                break_line(&mut out, inner, depth);
                out.push(character);
            }
            ',' => {
                out.push(',');
                if depth > INDENTED_LEVELS_MAX {
                    out.push(' ');
                }
                break_line(&mut out, depth, depth);
            }
            ':' => out.push_str(": "),
            _ => out.push(character),
        }
    }
    out.push('\n');
    out
}

/// Escapes hidden characters in JSON that is written in arbitrary pieces.
pub(crate) struct EscapingWriter<W> {
    inner: W,
    /// The beginning of an incomplete character.
    incomplete: Vec<u8>,
}

impl<W: Write> EscapingWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, incomplete: Vec::new() }
    }

    /// Flushes, and returns the inner writer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for EscapingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let joined;
        let text = if self.incomplete.is_empty() {
            bytes
        } else {
            joined = [self.incomplete.as_slice(), bytes].concat();
            self.incomplete.clear();
            &joined
        };
        let mut chunks = text.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.inner.write_all(escape_hidden(chunk.valid()).as_bytes())?;
            let is_cut = chunks.peek().is_none()
                && str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
            if is_cut {
                self.incomplete.extend_from_slice(chunk.invalid());
            } else {
                self.inner.write_all(chunk.invalid())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.write_all(&mem::take(&mut self.incomplete))?;
        self.inner.flush()
    }
}

fn is_white_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

/// A line break with indentation, unless `depth` is too deep.
fn break_line(out: &mut String, depth: usize, indent: usize) {
    if depth <= INDENTED_LEVELS_MAX {
        out.push('\n');
        for _ in 0..indent {
            out.push_str("  ");
        }
    }
}

/// Tracks where strings begin and end.
#[derive(Default)]
struct StringTracker {
    open: bool,
    escaped: bool,
}

impl StringTracker {
    /// Whether the next character belongs to a string, including its quotes.
    fn is_inside_string(&mut self, character: char) -> bool {
        if !self.open {
            self.open = character == '"';
            return self.open;
        }
        if self.escaped {
            self.escaped = false;
        } else if character == '\\' {
            self.escaped = true;
        } else if character == '"' {
            self.open = false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"z": 1.10, "a":[ 1e400,{ } ,[]], "s":"{\"x\": [1, 2]}\\", "e": {"ü" : null}}"#;

    #[test]
    fn hidden_characters_are_escaped_and_mean_the_same_however_the_text_is_cut() {
        let text = "{\"s\":\"a\u{9b}2J\u{7f}ü\u{202e}\u{200b}\u{feff}\u{1f600}\"}\n";
        let escaped = escape_hidden(text);
        assert_eq!(escaped, "{\"s\":\"a\\u009b2J\\u007fü\\u202e\\u200b\\ufeff\u{1f600}\"}\n");
        let [one, other] =
            [text, &escaped].map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
        assert_eq!(one, other);
        for size in 1..text.len() {
            let mut writer = EscapingWriter::new(Vec::new());
            text.as_bytes().chunks(size).for_each(|piece| writer.write_all(piece).unwrap());
            assert_eq!(String::from_utf8(writer.finish().unwrap()).unwrap(), escaped, "{size}");
        }
        for broken in [&b"a\xc2"[..], b"\xe2\x80", b"a\xffb\xc2\x9b"] {
            let mut writer = EscapingWriter::new(Vec::new());
            writer.write_all(broken).unwrap();
            let expected = match broken.strip_suffix(b"\xc2\x9b") {
                Some(before) => [before, b"\\u009b"].concat(),
                None => broken.to_vec(),
            };
            assert_eq!(writer.finish().unwrap(), expected);
        }
    }

    #[test]
    fn a_payload_of_brackets_is_laid_out_in_linear_size() {
        let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(indent_json(&deep(2)), "[\n  [\n    1\n  ]\n]\n");
        let fits = indent_json(&deep(INDENTED_LEVELS_MAX));
        assert_eq!(fits.lines().count(), 2 * INDENTED_LEVELS_MAX + 1);
        let more = indent_json(&deep(INDENTED_LEVELS_MAX + 2));
        assert_eq!(more, fits.replace('1', "[[1]]"));
        assert_eq!(
            indent_json(&format!("{}1,{{\"a\":[]}}{}", "[".repeat(41), "]".repeat(41))),
            fits.replace('1', "[1, {\"a\": []}]")
        );
        // A megabyte of them, as a store of an older version may hold it.
        let megabyte = deep(500_000);
        let laid_out = indent_json(&megabyte);
        assert!(
            laid_out.len() < megabyte.len() + 4 * INDENTED_LEVELS_MAX * INDENTED_LEVELS_MAX,
            "{}",
            laid_out.len()
        );
        assert_eq!(compact_json(&laid_out), megabyte);
    }

    #[test]
    fn layout_changes_and_nothing_else_does() {
        let one_line = r#"{"z":1.10,"a":[1e400,{},[]],"s":"{\"x\": [1, 2]}\\","e":{"ü":null}}"#;
        let indented = "{\n  \"z\": 1.10,\n  \"a\": [\n    1e400,\n    {},\n    []\n  ],\n  \
                        \"s\": \"{\\\"x\\\": [1, 2]}\\\\\",\n  \"e\": {\n    \"ü\": null\n  }\n}\n";
        assert_eq!(compact_json(TEXT), one_line);
        assert_eq!(indent_json(TEXT), indented);
        assert_eq!(compact_json(indented), one_line);
    }
}
