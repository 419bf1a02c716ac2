//! What every command gets: the client of the daemon, and where and how to write.

use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use console::{Color, Style};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::failure::CommandFailure;
use super::format::{strip_controls, wrap};
use super::json_text;
use crate::client::{Client, JSON, decode_json};

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the output")]
pub(crate) struct CommandContext<'a> {
    pub(crate) client: Client,
    /// The socket that an option or a variable names.
    pub(crate) named_socket: Option<PathBuf>,
    /// Print JSON instead of text.
    pub(crate) json: bool,
    /// Standard output is a terminal.
    pub(crate) is_terminal: bool,
    /// The width of that terminal.
    pub(crate) width: Option<usize>,
    pub(crate) has_colour: bool,
    /// A program that is started may show its output in a pager.
    pub(crate) has_pager: bool,
    pub(crate) out: &'a mut dyn Write,
}

impl CommandContext<'_> {
    pub(crate) fn print_line(&mut self, text: impl AsRef<str>) -> Result<(), CommandFailure> {
        writeln!(self.out, "{}", text.as_ref())?;
        Ok(())
    }

    /// One line, wrapped between words if the terminal is narrower.
    pub(crate) fn print_wrapped(&mut self, text: impl AsRef<str>) -> Result<(), CommandFailure> {
        let text = text.as_ref();
        let Some(width) = self.width else {
            return self.print_line(text);
        };
        text.split('\n')
            .flat_map(|line| wrap(line, width, hanging_indent(line, width)))
            .try_for_each(|line| self.print_line(line))
    }

    /// A text in a colour, if there are colours.
    pub(crate) fn paint(&self, text: &str, colour: Option<Color>) -> String {
        match colour.filter(|_| self.has_colour) {
            Some(colour) => Style::new().fg(colour).force_styling(true).apply_to(text).to_string(),
            None => text.to_owned(),
        }
    }

    /// One line, wrapped and in a colour.
    pub(crate) fn print_painted(&mut self, text: &str, colour: Option<Color>) -> Result<(), CommandFailure> {
        let lines = match self.width {
            Some(width) => wrap(text, width, hanging_indent(text, width)),
            None => vec![text.to_owned()],
        };
        lines.iter().try_for_each(|line| self.print_line(self.paint(line, colour)))
    }

    /// One line that is written at once: the reader of a pipe may wait for it.
    pub(crate) fn print_line_now(&mut self, text: impl AsRef<str>) -> Result<(), CommandFailure> {
        self.print_line(text)?;
        self.out.flush()?;
        Ok(())
    }

    /// The daemon's JSON on one line, including fields of newer daemons.
    pub(crate) fn print_json(&mut self, response: &[u8]) -> Result<(), CommandFailure> {
        let text = String::from_utf8_lossy(response);
        let text = json_text::compact_json(&text);
        self.print_line(if text.is_empty() { "{}" } else { &text })
    }

    /// A response as JSON, or as the text that `view` prints.
    pub(crate) fn print_response<T: DeserializeOwned>(
        &mut self,
        response: &[u8],
        view: impl FnOnce(&mut Self, T) -> Result<(), CommandFailure>,
    ) -> Result<(), CommandFailure> {
        if self.json {
            return self.print_json(response);
        }
        let response = decode_json(response)?;
        view(self, response)
    }

    pub(crate) async fn post_json(&self, path: &str, body: &impl Serialize) -> Result<Bytes, CommandFailure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| CommandFailure::failed(format!("the request cannot be encoded: {error}.")))?;
        Ok(self.client.post(path, JSON, body.into()).await?)
    }

    pub(crate) fn note_writer(&self) -> NoteWriter {
        NoteWriter { json: self.json }
    }

    /// A message on standard error that is not part of the output.
    pub(crate) fn print_note(&self, text: &str) {
        self.note_writer().print_note(text);
    }
}

/// Writes notes to standard error: text for people, or with `--json` a line `{"note": …}`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoteWriter {
    pub(crate) json: bool,
}

impl NoteWriter {
    pub(crate) fn print_note(self, text: &str) {
        if self.json { print_stderr_json(&json!({ "note": text }).to_string()) } else { print_stderr(text) }
    }
}

/// Lines on standard error. Errors are ignored, because standard error may be closed.
pub(crate) fn print_stderr(text: &str) {
    for line in text.split('\n') {
        writeln!(io::stderr(), "{}", strip_controls(line)).ok();
    }
}

/// A line of JSON on standard error.
pub(crate) fn print_stderr_json(json: &str) {
    print_stderr(&json_text::escape_hidden(json));
}

/// A line that is indented further is not an item of a list.
const LIST_INDENT_MAX: usize = 6;

/// Where the rest of a wrapped line begins: below the value if a name stands before it, else one step in.
fn hanging_indent(line: &str, width: usize) -> usize {
    let indent = line.len() - line.trim_start().len();
    let value = line[indent..].find("  ").map(|name| {
        let gap = &line[indent + name..];
        indent + name + (gap.len() - gap.trim_start().len())
    });
    match value {
        Some(value) if value <= width / 2 => value,
        // It continues a value of the line above.
        _ if indent > LIST_INDENT_MAX => indent,
        _ if indent > 0 => indent + 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuation_lines_are_indented_below_the_value() {
        assert_eq!(hanging_indent("Records       105 pending, 0 syncing", 40), 14);
        assert_eq!(hanging_indent("              2026-03-01T08:15:30.120Z (4 s ago)", 40), 14);
        assert_eq!(hanging_indent("  a long name of something far to the right  value", 40), 4);
        assert_eq!(hanging_indent("Waits for its turn.", 40), 0);
    }
}
