//! The ids of accepted records in the output of `enqueue`: for people the first ones, and with `--json` one document on one line. Ids are written as soon as they are accepted, which needs no
//! memory and tells the reader which records are stored. The document is complete even if the input fails.

use std::io::{self, Write};

use serde::Serialize;

use crate::model::RecordId;

/// Where accepted ids go.
pub(super) enum IdsOutput<'a> {
    Document(IdsDocument<'a>),
    Text(FirstIds),
}

impl IdsOutput<'_> {
    pub(super) fn push(&mut self, ids: impl Iterator<Item = RecordId>) {
        match self {
            Self::Document(document) => document.push(ids),
            Self::Text(first) => first.push(ids),
        }
    }
}

/// Ids that are printed for people.
const IDS_PRINTED_MAX: usize = 10;

/// The first ids, and the number of the others.
#[derive(Debug, Default)]
pub(super) struct FirstIds {
    first: Vec<RecordId>,
    others: u64,
}

impl FirstIds {
    fn push(&mut self, ids: impl Iterator<Item = RecordId>) {
        for id in ids {
            if self.first.len() < IDS_PRINTED_MAX {
                self.first.push(id);
            } else {
                self.others += 1;
            }
        }
    }

    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        self.first.iter().try_for_each(|id| writeln!(out, "{id}"))?;
        if self.others > 0 {
            writeln!(out, "and {} more", self.others)?;
        }
        Ok(())
    }
}

pub(super) struct IdsDocument<'a> {
    out: &'a mut dyn Write,
    /// The first error of the output. Records are stored nevertheless.
    error: Option<io::Error>,
    written: u64,
}

impl<'a> IdsDocument<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, error: None, written: 0 }
    }

    pub(super) fn push(&mut self, ids: impl Iterator<Item = RecordId>) {
        let mut text = String::new();
        for id in ids {
            text.push_str(if self.written == 0 { "{\"ids\":[\"" } else { ",\"" });
            text.push_str(&id.to_string());
            text.push('"');
            self.written += 1;
        }
        self.write_text(&text);
    }

    /// Writes the counts. If nothing was accepted, there is a document only if `must`.
    pub(super) fn finish(mut self, accepted: u64, duplicates: u64, must: bool) -> io::Result<()> {
        #[derive(Serialize)]
        struct EnqueueCounts {
            accepted: u64,
            duplicates: u64,
        }
        if self.written == 0 {
            if !must {
                return Ok(());
            }
            self.write_text("{\"ids\":[");
        }
        let counts = serde_json::to_string(&EnqueueCounts { accepted, duplicates })?;
        // Without the opening brace: its fields continue the document.
        self.write_text(&format!("],{}\n", &counts[1..]));
        self.error.map_or(Ok(()), Err)
    }

    fn write_text(&mut self, text: &str) {
        if self.error.is_none() {
            let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
            self.error = written.err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Accepted;

    #[test]
    fn the_output_is_one_document_on_one_line() {
        let ids = [(); 3].map(|()| RecordId::new());
        let mut text = Vec::new();
        let mut out = IdsDocument::new(&mut text);
        out.push(ids[..2].iter().copied());
        out.push(ids[2..].iter().copied());
        out.finish(2, 1, true).unwrap();
        let text = String::from_utf8(text).unwrap();
        let response: Accepted = serde_json::from_str(&text).unwrap();
        assert_eq!(response, Accepted { accepted: 2, duplicates: 1, ids: ids.to_vec() });
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn an_empty_document_is_written_only_for_an_empty_input() {
        let mut text = Vec::new();
        IdsDocument::new(&mut text).finish(0, 0, false).unwrap();
        assert_eq!(text, b"");
        IdsDocument::new(&mut text).finish(0, 0, true).unwrap();
        assert_eq!(text, b"{\"ids\":[],\"accepted\":0,\"duplicates\":0}\n");
    }
}
