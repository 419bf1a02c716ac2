//! Server-Sent Events out of a byte stream that is cut anywhere, even within a character or a line end.
//!
//! Bytes gather until a line is whole, lines until an empty one ends the event. Comments (which keep
//! a connection alive) and unknown fields are skipped; an event without data is none.

use std::collections::VecDeque;

/// The largest event that is put together.
const MAX_EVENT: usize = 4 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `message` when the daemon named none.
    pub name: String,
    /// The last id that was seen.
    pub id: Option<String>,
    /// Its lines, joined.
    pub data: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {MAX_EVENT} bytes")]
pub(super) struct TooLarge;

#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    /// The last byte was `\r`: a `\n` that follows belongs to it.
    after_return: bool,
    name: String,
    data: Option<String>,
    id: Option<String>,
}

impl Parser {
    pub(super) fn push(&mut self, bytes: &[u8], events: &mut VecDeque<Event>) -> Result<(), TooLarge> {
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => self.line.push(byte),
            }
        }
        let held = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if held > MAX_EVENT { Err(TooLarge) } else { Ok(()) }
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.end_event();
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "id" => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = self.data.take()?;
        Some(Event {
            name: if name.is_empty() { "message".to_owned() } else { name },
            id: self.id.clone(),
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{feff}: hello\nevent: status\nid: 7\ndata: {\"text\":\r\ndata: \"é\"}\r\n\r\n: still here\n\n\
                          retry: 10\nevent: nothing\n\nevent:progress\rdata:  two\r\rdata: plain\n\nevent: cut\ndata: never";

    fn read(pieces: &[&[u8]]) -> Vec<Event> {
        let mut parser = Parser::default();
        let mut events = VecDeque::new();
        for piece in pieces {
            parser.push(piece, &mut events).unwrap();
        }
        events.into()
    }

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), id: Some("7".to_owned()), data: data.to_owned() }
    }

    #[test]
    fn events_are_the_same_wherever_the_stream_is_cut() {
        let bytes = STREAM.as_bytes();
        let expected =
            vec![event("status", "{\"text\":\n\"é\"}"), event("progress", " two"), event("message", "plain")];
        assert_eq!(read(&[bytes]), expected);
        for cut in 0..bytes.len() {
            assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]), expected, "{cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), expected);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        let mut events = VecDeque::new();
        let piece = vec![b'x'; MAX_EVENT / 2];
        assert_eq!(parser.push(&piece, &mut events), Ok(()));
        assert_eq!(parser.push(&piece, &mut events), Ok(()));
        assert_eq!(parser.push(&piece, &mut events), Err(TooLarge));
    }
}
