//! Follows the daemon's events across its restarts. A restart is reported and does not end the stream.

use std::ffi::c_int;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::sleep;

use super::failure::CommandFailure;
use crate::client::{Client, ClientError, Events, ServerSentEvent};
use crate::clock::Clock;

const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(100);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// What a follower receives.
#[derive(Debug)]
pub(crate) enum FollowEvent {
    Event(ServerSentEvent),
    /// The connection was lost. The next event is its return, or an error.
    Disconnected,
    /// The daemon is back. Its status follows, then the events since, or the number of those that are lost.
    Reconnected,
}

pub(crate) struct EventFollower<'a> {
    client: &'a Client,
    events: Option<Events>,
    /// The event to continue after.
    last_id: Option<String>,
    /// How long the daemon may be absent.
    absence_limit: Duration,
    clock: Clock,
}

impl<'a> EventFollower<'a> {
    /// A daemon that does not answer at first is an error; later it is [`FollowEvent`].
    pub(crate) async fn open(client: &'a Client, patience: Duration) -> Result<Self, ClientError> {
        let events = Some(client.events().await?);
        Ok(Self { client, events, last_id: None, absence_limit: patience, clock: Clock::start() })
    }

    pub(crate) async fn next(&mut self) -> Result<FollowEvent, ClientError> {
        let Some(events) = &mut self.events else {
            self.events = Some(self.reconnect().await?);
            return Ok(FollowEvent::Reconnected);
        };
        match events.next().await {
            Ok(Some(event)) => {
                self.last_id.clone_from(&event.id);
                Ok(FollowEvent::Event(event))
            }
            Ok(None) | Err(ClientError::Lost { .. }) => {
                self.events = None;
                Ok(FollowEvent::Disconnected)
            }
            Err(error) => Err(error),
        }
    }

    async fn reconnect(&self) -> Result<Events, ClientError> {
        let since = self.clock.now();
        let mut pause = RECONNECT_PAUSE_MIN;
        loop {
            // Also before the first attempt, for a daemon that ends every stream at once.
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
            match self.client.events_after(self.last_id.as_deref()).await {
                Ok(events) => return Ok(events),
                Err(error) if !is_daemon_absent(&error) => return Err(error),
                Err(error) if self.clock.now().saturating_sub(since) >= self.absence_limit => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
    }
}

/// Whether a restart can be the reason of the error, so that waiting may help.
pub(crate) fn is_daemon_absent(error: &ClientError) -> bool {
    match error {
        ClientError::NoDaemon { .. } | ClientError::Lost { .. } => true,
        ClientError::Refused { status, .. } => *status == 503,
        ClientError::Protocol(_) => false,
    }
}

/// Ctrl-C, for commands that then end in an orderly way.
pub(crate) struct Interrupt(UnixStream);

impl Interrupt {
    pub(crate) fn new() -> Result<Self, CommandFailure> {
        Self::of_signals(&[SIGINT])
    }

    /// Also waits for the signals that end a program, for one that must not leave a file behind.
    pub(crate) fn or_termination() -> Result<Self, CommandFailure> {
        Self::of_signals(&[SIGINT, SIGTERM, SIGHUP])
    }

    fn of_signals(signals: &[c_int]) -> Result<Self, CommandFailure> {
        let register = || -> io::Result<UnixStream> {
            let (read, write) = StdUnixStream::pair()?;
            read.set_nonblocking(true)?;
            for signal in signals {
                signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
            }
            UnixStream::from_std(read)
        };
        register().map(Self).map_err(|error| {
            CommandFailure::failed(format!("the system does not let Ctrl-C be handled: {error}."))
        })
    }

    /// Ignores earlier presses of Ctrl-C, which were meant for another program.
    pub(crate) fn discard_pending(&self) {
        let mut bytes = [0; 64];
        while self.0.try_read(&mut bytes).is_ok_and(|read| read > 0) {}
    }

    /// Returns at the first Ctrl-C.
    pub(crate) async fn wait(&mut self) {
        // After an error no signal would ever arrive. The caller ends then, too.
        self.0.read_u8().await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::scripted::{ScriptedDaemon, response_step, stream_step};

    #[tokio::test]
    async fn a_restart_is_reported_and_survived() {
        let first = stream_step(&["event: status\nid: life-7\ndata: 1\n\n"], false);
        let second = stream_step(&["event: status\ndata: 2\n\n"], true);
        let daemon = ScriptedDaemon::new(vec![first, response_step(503, ""), second]);
        let client = Client::new(daemon.socket());
        let patience = Duration::from_secs(30);
        let mut follower = EventFollower::open(&client, patience).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(match follower.next().await.unwrap() {
                FollowEvent::Event(event) => event.data,
                FollowEvent::Disconnected => "gone".to_owned(),
                FollowEvent::Reconnected => "back".to_owned(),
            });
        }
        assert_eq!(seen, ["1", "gone", "back", "2", "gone"]);
        follower.absence_limit = Duration::ZERO;
        let error = follower.next().await.unwrap_err();
        assert!(matches!(error, ClientError::NoDaemon { .. }), "{error}");
        let asked =
            daemon.into_calls().into_iter().map(|call| call.head.contains("\r\nlast-event-id: life-7\r\n"));
        assert_eq!(asked.collect::<Vec<_>>(), [false, true, true]);
    }
}
