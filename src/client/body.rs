//! The body of a response: read completely within a limit, piece by piece, or as events.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::sse::{EventParser, ServerSentEvent};
use super::{ClientError, connection_error, timeout_error};

/// The body of a response.
#[derive(Debug)]
pub struct ClientBody(Incoming);

impl ClientBody {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self(incoming)
    }

    /// The next piece, `None` at the end. If the connection ends before that, it is [`ClientError::Lost`].
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.0.frame().await {
            // Frames without data are trailers.
            if let Ok(data) = frame.map_err(connection_error)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    pub(super) async fn read_whole(mut self, limit: usize, within: Duration) -> Result<Bytes, ClientError> {
        let reading = async {
            let mut whole = BytesMut::new();
            while let Some(piece) = self.next_piece().await? {
                if whole.len() + piece.len() > limit {
                    let what = format!("it is larger than {limit} bytes");
                    return Err(ClientError::Protocol(what));
                }
                whole.extend_from_slice(&piece);
            }
            Ok(whole.freeze())
        };
        timeout(within, reading).await.map_err(|_| timeout_error())?
    }
}

/// Events as they arrive.
#[derive(Debug)]
pub struct Events {
    body: ClientBody,
    parser: EventParser,
    ready: VecDeque<ServerSentEvent>,
}

impl Events {
    pub(super) fn new(body: ClientBody) -> Self {
        Self { body, parser: EventParser::default(), ready: VecDeque::new() }
    }

    /// The next event, `None` when the daemon ended the stream.
    pub async fn next(&mut self) -> Result<Option<ServerSentEvent>, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(piece) = self.body.next_piece().await? else {
                return Ok(None);
            };
            self.parser
                .push(&piece, &mut self.ready)
                .map_err(|error| ClientError::Protocol(error.to_string()))?;
        }
    }
}
