//! What every verb is given: the daemon to ask, where to write, and how.

use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::failure::Failure;
use super::json_text;
use super::words::{fold, plain};
use crate::client::{Client, JSON, decode_json};

pub(crate) struct Context<'a> {
    pub(crate) client: Client,
    /// Where an option or a variable says that the daemon is.
    pub(crate) named_socket: Option<PathBuf>,
    /// JSON instead of text.
    pub(crate) json: bool,
    /// Somebody watches standard output.
    pub(crate) terminal: bool,
    /// Of that terminal.
    pub(crate) width: Option<usize>,
    pub(crate) colour: bool,
    pub(crate) out: &'a mut dyn Write,
}

impl Context<'_> {
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        writeln!(self.out, "{}", text.as_ref())?;
        Ok(())
    }

    /// One line, folded between words where the terminal is narrower.
    pub(crate) fn text(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        let text = text.as_ref();
        let Some(width) = self.width else {
            return self.line(text);
        };
        text.split('\n')
            .flat_map(|line| fold(line, width, hang(line, width)))
            .try_for_each(|line| self.line(line))
    }

    /// One line that somebody may be waiting for at the other end of a pipe.
    pub(crate) fn line_now(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.line(text)?;
        self.out.flush()?;
        Ok(())
    }

    /// The daemon's own JSON on one line, with whatever a newer daemon says more than is known here.
    pub(crate) fn answer_line(&mut self, answer: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(answer);
        let text = json_text::compact(&text);
        self.line(if text.is_empty() { "{}" } else { &text })
    }

    /// An answer with one shape in both forms: JSON as it came, or what `view` makes of it.
    pub(crate) fn present<T: DeserializeOwned>(
        &mut self,
        answer: &[u8],
        view: impl FnOnce(&mut Self, T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.json {
            return self.answer_line(answer);
        }
        let answer = decode_json(answer)?;
        view(self, answer)
    }

    pub(crate) async fn post_json(&self, path: &str, body: &impl Serialize) -> Result<Bytes, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::failed(format!("the request cannot be written: {error}.")))?;
        Ok(self.client.post(path, JSON, body.into()).await?)
    }

    pub(crate) fn notes(&self) -> Notes {
        Notes { json: self.json }
    }

    /// Tells, on standard error, what is no answer.
    pub(crate) fn note(&self, text: &str) {
        self.notes().say(text);
    }
}

/// The way to standard error: text for people, `{"note": …}` on one line where programs read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notes {
    pub(crate) json: bool,
}

impl Notes {
    pub(crate) fn say(self, text: &str) {
        if self.json { say_json(&json!({ "note": text }).to_string()) } else { say(text) }
    }
}

/// Lines on standard error. Nobody may be there to read them, which is no reason to stop.
pub(crate) fn say(text: &str) {
    for line in text.split('\n') {
        writeln!(io::stderr(), "{}", plain(line)).ok();
    }
}

/// A line of JSON on standard error.
pub(crate) fn say_json(json: &str) {
    say(&json_text::escape_hidden(json));
}

/// Indented further, a line is no item of a list.
const DEEPEST_LIST: usize = 6;

/// Where the rest of a folded line begins: under its value when it has a name before it, else a step in.
fn hang(line: &str, width: usize) -> usize {
    let indent = line.len() - line.trim_start().len();
    let value = line[indent..].find("  ").map(|name| {
        let gap = &line[indent + name..];
        indent + name + (gap.len() - gap.trim_start().len())
    });
    match value {
        Some(value) if value <= width / 2 => value,
        // It goes on from a value above it.
        _ if indent > DEEPEST_LIST => indent,
        _ if indent > 0 => indent + 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_line_stands_under_its_value() {
        assert_eq!(hang("Records       105 pending, 0 syncing", 40), 14);
        assert_eq!(hang("              2026-03-01T08:15:30.120Z (4 s ago)", 40), 14);
        assert_eq!(hang("  a long name of something far to the right  value", 40), 4);
        assert_eq!(hang("Waits for its turn.", 40), 0);
    }
}
