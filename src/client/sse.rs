//! Parses Server-Sent Events from arbitrary pieces of a byte stream.
//!
//! Bytes are collected until a line is complete, and lines until an empty one ends the event. Comments, which keep the
//! connection alive, and unknown fields are skipped. An event without data is ignored.

use std::collections::VecDeque;

/// The largest event.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerSentEvent {
    /// `message` if the daemon sent no name.
    pub name: String,
    /// The last id of the stream.
    pub id: Option<String>,
    /// Its data lines, joined.
    pub data: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {EVENT_BYTES_MAX} bytes")]
pub(super) struct EventTooLarge;

#[derive(Debug, Default)]
pub(super) struct EventParser {
    line: Vec<u8>,
    /// The last byte was `\r`: a following `\n` belongs to the same line end.
    after_return: bool,
    name: String,
    data: Option<String>,
    id: Option<String>,
}

impl EventParser {
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        events: &mut VecDeque<ServerSentEvent>,
    ) -> Result<(), EventTooLarge> {
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => self.line.push(byte),
            }
        }
        let buffered = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if buffered > EVENT_BYTES_MAX { Err(EventTooLarge) } else { Ok(()) }
    }

    fn end_line(&mut self) -> Option<ServerSentEvent> {
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

    fn end_event(&mut self) -> Option<ServerSentEvent> {
        let name = std::mem::take(&mut self.name);
        let data = self.data.take()?;
        Some(ServerSentEvent {
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

    fn parse_pieces(pieces: &[&[u8]]) -> Vec<ServerSentEvent> {
        let mut parser = EventParser::default();
        let mut events = VecDeque::new();
        for piece in pieces {
            parser.push(piece, &mut events).unwrap();
        }
        events.into()
    }

    fn event_of(name: &str, data: &str) -> ServerSentEvent {
        ServerSentEvent { name: name.to_owned(), id: Some("7".to_owned()), data: data.to_owned() }
    }

    #[test]
    fn events_are_the_same_wherever_the_stream_is_cut() {
        let bytes = STREAM.as_bytes();
        let expected = vec![
            event_of("status", "{\"text\":\n\"é\"}"),
            event_of("progress", " two"),
            event_of("message", "plain"),
        ];
        assert_eq!(parse_pieces(&[bytes]), expected);
        for cut in 0..bytes.len() {
            assert_eq!(parse_pieces(&[&bytes[..cut], &bytes[cut..]]), expected, "{cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(parse_pieces(&single), expected);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = EventParser::default();
        let mut events = VecDeque::new();
        let piece = vec![b'x'; EVENT_BYTES_MAX / 2];
        assert_eq!(parser.push(&piece, &mut events), Ok(()));
        assert_eq!(parser.push(&piece, &mut events), Ok(()));
        assert_eq!(parser.push(&piece, &mut events), Err(EventTooLarge));
    }
}
