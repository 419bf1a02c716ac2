//! How long each stretch of a request may take, and in which words it is said that one took too long.

use std::fmt;
use std::time::Duration;

use crate::clock::millis;
use crate::config;
use crate::protocol::exchange::Delivery;

/// A look-up is answered soon, or by nobody.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(10);
/// What the gateway's own answer needs to get here after its limit has passed.
const ANSWER_SLACK: Duration = Duration::from_secs(2);

/// How long each stretch may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Name, TCP, proxy and TLS together.
    pub(super) connect: Duration,
    /// While the body goes out: without any progress.
    pub(super) stall: Duration,
    /// For the body to go out.
    pub(super) send: Duration,
    /// From there to the answer's head.
    pub(super) answer: Duration,
    /// From the answer's head to its end.
    pub(super) read: Duration,
}

impl Limits {
    /// For a batch.
    pub(super) fn of_batch(config: &config::Server, patience: Option<Duration>) -> Self {
        let answer = config.request_timeout.0 + ANSWER_SLACK;
        Self {
            connect: config.connect_timeout.0,
            stall: config.stall_timeout.0,
            send: config.send_timeout.0,
            answer: patience.map_or(answer, |patience| patience.min(answer)),
            read: config.answer_timeout.0,
        }
    }

    /// For a look-up.
    pub(super) fn of_look_up(config: &config::Server) -> Self {
        Self { answer: config.request_timeout.0.min(LOOK_UP_LIMIT), ..Self::of_batch(config, None) }
    }
}

/// The limit that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// No connection was made.
    Connect(Duration),
    /// The connection took nothing.
    Stall(Duration),
    /// The body is not out.
    Send(Duration),
    /// No head of an answer came.
    Answer(Duration),
    /// The answer did not end.
    Read(Duration),
}

impl Passed {
    /// How far the request came at most. Only a server that has the whole batch can be too slow for it.
    pub(super) fn reached(self) -> Delivery {
        match self {
            Self::Connect(_) => Delivery::NotSent,
            Self::Stall(_) | Self::Send(_) => Delivery::Partial,
            Self::Read(_) => Delivery::Sent,
            Self::Answer(_) => Delivery::TimedOut,
        }
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |limit: Duration| humantime::format_duration(Duration::from_millis(millis(limit)));
        match *self {
            Self::Connect(limit) => write!(f, "no connection within {}", words(limit)),
            Self::Stall(limit) => write!(f, "the connection took no byte for {} while sending", words(limit)),
            Self::Send(limit) => write!(f, "the batch was not sent within {}", words(limit)),
            Self::Answer(limit) => write!(f, "no answer within {}", words(limit)),
            Self::Read(limit) => write!(f, "the answer did not end within {}", words(limit)),
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
    fn patience_shortens_the_wait_for_an_answer_and_never_lengthens_it() {
        let config = config::Server::default();
        let answer = |patience| Limits::of_batch(&config, patience).answer;
        assert_eq!(answer(None), ms(62_000));
        assert_eq!(answer(Some(ms(700))), ms(700));
        assert_eq!(answer(Some(ms(700_000))), ms(62_000));
        assert_eq!(Limits::of_look_up(&config).answer, ms(10_000));
    }

    #[test]
    fn a_limit_that_passed_says_which_it_was() {
        for (passed, text) in [
            (Passed::Connect(ms(10_000)), "no connection within 10s"),
            (Passed::Stall(ms(20_000)), "the connection took no byte for 20s while sending"),
            (Passed::Send(ms(180_000)), "the batch was not sent within 3m"),
            (Passed::Answer(ms(1_500)), "no answer within 1s 500ms"),
            (Passed::Read(ms(30_000)), "the answer did not end within 30s"),
        ] {
            assert_eq!(passed.to_string(), text);
        }
    }
}
