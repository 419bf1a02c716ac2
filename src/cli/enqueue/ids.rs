//! The answer of `enqueue --json`: one document on one line, with the ids as they are accepted, so that
//! it needs no memory and whoever reads along knows what is safe. It ends properly where the input does not.

use std::io::{self, Write};

use serde::Serialize;

use crate::model::RecordId;

pub(super) struct Ids<'a> {
    out: &'a mut dyn Write,
    /// What has gone wrong, which is no reason to store less.
    error: Option<io::Error>,
    written: u64,
}

impl<'a> Ids<'a> {
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
        self.write(&text);
    }

    /// The counts. Where nothing was accepted, there is no document, unless it `must` be.
    pub(super) fn end(mut self, accepted: u64, duplicates: u64, must: bool) -> io::Result<()> {
        #[derive(Serialize)]
        struct Counts {
            accepted: u64,
            duplicates: u64,
        }
        if self.written == 0 {
            if !must {
                return Ok(());
            }
            self.write("{\"ids\":[");
        }
        let counts = serde_json::to_string(&Counts { accepted, duplicates })?;
        // Of this object, all but the brace: it goes on with the other's fields.
        self.write(&format!("],{}\n", &counts[1..]));
        self.error.map_or(Ok(()), Err)
    }

    fn write(&mut self, text: &str) {
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
    fn it_is_one_document_on_one_line() {
        let ids = [(); 3].map(|()| RecordId::new());
        let mut text = Vec::new();
        let mut out = Ids::new(&mut text);
        out.push(ids[..2].iter().copied());
        out.push(ids[2..].iter().copied());
        out.end(2, 1, true).unwrap();
        let text = String::from_utf8(text).unwrap();
        let answer: Accepted = serde_json::from_str(&text).unwrap();
        assert_eq!(answer, Accepted { accepted: 2, duplicates: 1, ids: ids.to_vec() });
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn nothing_is_said_of_nothing_unless_it_was_all() {
        let mut text = Vec::new();
        Ids::new(&mut text).end(0, 0, false).unwrap();
        assert_eq!(text, b"");
        Ids::new(&mut text).end(0, 0, true).unwrap();
        assert_eq!(text, b"{\"ids\":[],\"accepted\":0,\"duplicates\":0}\n");
    }
}
