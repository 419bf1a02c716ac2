//! Follows the daemon's events across its restarts: a restart is news to tell, not an end.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use signal_hook::consts::SIGINT;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::sleep;

use super::failure::Failure;
use crate::client::{Client, ClientError, Event, Events};
use crate::clock::Clock;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a follower learns.
#[derive(Debug)]
pub(crate) enum News {
    Event(Event),
    /// The daemon went away; the next news is its return, if it does.
    Gone,
    /// The daemon is back; its status comes next, and what it reported meanwhile or how much of that is lost.
    Back,
}

pub(crate) struct Follower<'a> {
    client: &'a Client,
    events: Option<Events>,
    /// Where to go on after an absence.
    last_id: Option<String>,
    /// How long an absence may last.
    patience: Duration,
    clock: Clock,
}

impl<'a> Follower<'a> {
    /// A daemon that does not answer at first is an error; later it is [`News`].
    pub(crate) async fn open(client: &'a Client, patience: Duration) -> Result<Self, ClientError> {
        let events = Some(client.events().await?);
        Ok(Self { client, events, last_id: None, patience, clock: Clock::start() })
    }

    pub(crate) async fn next(&mut self) -> Result<News, ClientError> {
        let Some(events) = &mut self.events else {
            self.events = Some(self.reconnect().await?);
            return Ok(News::Back);
        };
        match events.next().await {
            Ok(Some(event)) => {
                self.last_id.clone_from(&event.id);
                Ok(News::Event(event))
            }
            Ok(None) | Err(ClientError::Lost { .. }) => {
                self.events = None;
                Ok(News::Gone)
            }
            Err(error) => Err(error),
        }
    }

    async fn reconnect(&self) -> Result<Events, ClientError> {
        let since = self.clock.now();
        let mut pause = FIRST_PAUSE;
        loop {
            // Also before the first attempt: a daemon that ends every stream at once is not asked in a tight loop.
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match self.client.events_after(self.last_id.as_deref()).await {
                Ok(events) => return Ok(events),
                Err(error) if !is_absence(&error) => return Err(error),
                Err(error) if self.clock.now().saturating_sub(since) >= self.patience => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
    }
}

/// Whether a restart explains the error, so that waiting may help.
pub(crate) fn is_absence(error: &ClientError) -> bool {
    match error {
        ClientError::NoDaemon { .. } | ClientError::Lost { .. } => true,
        ClientError::Refused { status, .. } => *status == 503,
        ClientError::Protocol(_) => false,
    }
}

/// Ctrl-C, for verbs that it ends well.
pub(crate) struct Interrupt(UnixStream);

impl Interrupt {
    pub(crate) fn new() -> Result<Self, Failure> {
        let register = || -> io::Result<UnixStream> {
            let (read, write) = StdUnixStream::pair()?;
            read.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(SIGINT, write)?;
            UnixStream::from_std(read)
        };
        register()
            .map(Self)
            .map_err(|error| Failure::failed(format!("the system does not let Ctrl-C be handled: {error}.")))
    }

    /// Ctrl-C up to now was meant for another program.
    pub(crate) fn forget(&self) {
        let mut told = [0; 64];
        while self.0.try_read(&mut told).is_ok_and(|read| read > 0) {}
    }

    /// Returns at the first Ctrl-C.
    pub(crate) async fn wait(&mut self) {
        // An error can only mean that no signal will ever be told: then the caller ends as well.
        self.0.read_u8().await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::scripted::{Scripted, answer_step, stream_step};

    #[tokio::test]
    async fn a_restart_is_told_and_survived() {
        let first = stream_step(&["event: status\nid: life-7\ndata: 1\n\n"], false);
        let second = stream_step(&["event: status\ndata: 2\n\n"], true);
        let daemon = Scripted::new(vec![first, answer_step(503, ""), second]);
        let client = Client::new(daemon.socket());
        let patience = Duration::from_secs(30);
        let mut follower = Follower::open(&client, patience).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(match follower.next().await.unwrap() {
                News::Event(event) => event.data,
                News::Gone => "gone".to_owned(),
                News::Back => "back".to_owned(),
            });
        }
        assert_eq!(seen, ["1", "gone", "back", "2", "gone"]);
        follower.patience = Duration::ZERO;
        let error = follower.next().await.unwrap_err();
        assert!(matches!(error, ClientError::NoDaemon { .. }), "{error}");
        let asked =
            daemon.into_calls().into_iter().map(|call| call.head.contains("\r\nlast-event-id: life-7\r\n"));
        assert_eq!(asked.collect::<Vec<_>>(), [false, true, true]);
    }
}
