//! How long each phase of a request may take, and the messages when one takes too long.

use std::fmt;
use std::time::Duration;

use crate::clock::millis;
use crate::config;
use crate::model::ConnectFailure;
use crate::protocol::exchange::Delivery;

/// An outcome query and a report of the status get a fast response, or none.
const SHORT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Extra time for the gateway's own time-out response to arrive.
const RESPONSE_SLACK: Duration = Duration::from_secs(2);

/// The limit of each phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLimits {
    /// Name resolution, TCP, proxy and TLS together.
    pub(super) connect: Duration,
    /// Without progress while the body is sent.
    pub(super) stall: Duration,
    /// For sending the body.
    pub(super) send: Duration,
    /// From there to the head of the response.
    pub(super) response: Duration,
    /// From the head of the response to its end.
    pub(super) read: Duration,
}

impl RequestLimits {
    pub(super) fn for_batch(config: &config::Server, response_deadline: Option<Duration>) -> Self {
        let response = config.request_timeout.0 + RESPONSE_SLACK;
        Self {
            connect: config.connect_timeout.0,
            stall: config.stall_timeout.0,
            send: config.send_timeout.0,
            response: response_deadline.map_or(response, |deadline| deadline.min(response)),
            read: config.answer_timeout.0,
        }
    }

    pub(super) fn for_short_request(config: &config::Server) -> Self {
        Self {
            response: config.request_timeout.0.min(SHORT_RESPONSE_TIMEOUT),
            ..Self::for_batch(config, None)
        }
    }
}

/// The limit that was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExceededLimit {
    /// No connection was opened.
    Connect(Duration),
    /// The connection accepted no bytes.
    Stall(Duration),
    /// The body was not sent completely.
    Send(Duration),
    /// No head of a response arrived.
    Response(Duration),
    /// The response did not end.
    Read(Duration),
}

impl ExceededLimit {
    /// How much of the request was sent at most. Only a server that has the whole batch can time out on it.
    pub(super) fn delivery(self) -> Delivery {
        match self {
            Self::Connect(_) => Delivery::NotSent,
            Self::Stall(_) | Self::Send(_) => Delivery::Partial,
            Self::Read(_) => Delivery::Sent,
            Self::Response(_) => Delivery::TimedOut,
        }
    }

    /// Why no connection was opened, if this is the limit of the attempt to connect.
    pub(super) fn connect_failure(self) -> Option<ConnectFailure> {
        matches!(self, Self::Connect(_)).then_some(ConnectFailure::NoResponse)
    }
}

impl fmt::Display for ExceededLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |limit: Duration| humantime::format_duration(Duration::from_millis(millis(limit)));
        match *self {
            Self::Connect(limit) => write!(f, "no connection within {}", text(limit)),
            Self::Stall(limit) => {
                write!(f, "the connection accepted no data for {} while sending", text(limit))
            }
            Self::Send(limit) => write!(f, "the batch was not sent within {}", text(limit)),
            Self::Response(limit) => write!(f, "no response within {}", text(limit)),
            Self::Read(limit) => write!(f, "the response did not end within {}", text(limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_response_deadline_shortens_the_wait_and_never_lengthens_it() {
        let config = config::Server::default();
        let response = |deadline| RequestLimits::for_batch(&config, deadline).response;
        assert_eq!(response(None), ms(62_000));
        assert_eq!(response(Some(ms(700))), ms(700));
        assert_eq!(response(Some(ms(700_000))), ms(62_000));
        assert_eq!(RequestLimits::for_short_request(&config).response, ms(10_000));
    }

    #[test]
    fn the_message_names_the_exceeded_limit() {
        for (exceeded, text) in [
            (ExceededLimit::Connect(ms(10_000)), "no connection within 10s"),
            (ExceededLimit::Stall(ms(20_000)), "the connection accepted no data for 20s while sending"),
            (ExceededLimit::Send(ms(180_000)), "the batch was not sent within 3m"),
            (ExceededLimit::Response(ms(1_500)), "no response within 1s 500ms"),
            (ExceededLimit::Read(ms(30_000)), "the response did not end within 30s"),
        ] {
            assert_eq!(exceeded.to_string(), text);
        }
    }
}
