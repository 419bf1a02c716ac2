//! The feed behind `GET /v1/events`: one ring buffer for all readers; each reader is a position in it.
//!
//! The ring is bounded in events and in bytes, so neither many nor slow readers cost memory. A reader that falls behind
//! the ring gets an event about the gap. A reader that reconnects with the id of the last event that it saw continues
//! after that event, as long as it is in the ring. Ids contain a number for the run of the daemon, because event
//! numbers of an earlier run mean nothing in this one.
//!
//! If not all readers may see an event completely, the ring holds two forms of it: one for admins and the submitter of
//! the record, and one for all others.
//!
//! Without readers, events are not recorded. After the last reader left, recording continues for one ring of events, so
//! that it can reconnect.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::watch;

use super::audience::Audience;
use crate::api::{Gap, GapReason};

/// Events in the ring: a reader that falls further behind misses some.
const RING_EVENTS_MAX: usize = 1024;
/// Bytes in the ring, as sent over the wire.
const RING_BYTES_MAX: usize = 512 << 10;
/// How long a reader waits before it reconnects (`retry` of server-sent events).
const RECONNECT_DELAY_MS: u32 = 1000;

/// The feed: actors publish to it, and readers subscribe to it.
#[derive(Clone, Debug)]
pub struct Feed {
    ring: Arc<Mutex<Ring>>,
    changes: watch::Sender<()>,
}

/// The latest events, encoded.
#[derive(Debug)]
struct Ring {
    /// A random number for this run of the daemon.
    run: u32,
    /// The number of the next event; the last of [`Self::events`] has the number before it.
    next: u64,
    events: VecDeque<StoredEvent>,
    /// The bytes of all events in both forms.
    bytes: usize,
    /// Events are not recorded: there is no reader, and the last one left too long ago.
    is_paused: bool,
    /// Events since the last reader left.
    unread_events: usize,
    /// Events before this number were not all counted.
    uncounted: u64,
}

/// An event in the ring.
#[derive(Debug)]
struct StoredEvent {
    whole: Bytes,
    redacted: Option<Redacted>,
}

/// The form of an event for readers that are neither admins nor the submitter of its record.
#[derive(Debug)]
struct Redacted {
    submitter: Option<u32>,
    frame: Bytes,
}

impl StoredEvent {
    fn len(&self) -> usize {
        self.whole.len() + self.redacted.as_ref().map_or(0, |redacted| redacted.frame.len())
    }

    fn for_reader(&self, audience: Audience) -> &Bytes {
        match &self.redacted {
            Some(redacted) if !audience.sees_all_of(redacted.submitter) => &redacted.frame,
            _ => &self.whole,
        }
    }
}

impl Default for Feed {
    fn default() -> Self {
        let ring = Ring {
            run: fastrand::u32(..),
            next: 1,
            events: VecDeque::new(),
            bytes: 0,
            is_paused: true,
            unread_events: 0,
            uncounted: 0,
        };
        Self { ring: Arc::new(Mutex::new(ring)), changes: watch::Sender::new(()) }
    }
}

impl Feed {
    /// Publishes an event that all readers see. This is cheap while there are no readers.
    pub fn publish(&self, event: &'static str, data: &impl Serialize) {
        self.publish_event(event, data, None);
    }

    /// As [`Self::publish`], with a redacted form for readers that are neither admins nor this submitter.
    pub fn publish_redacted<T: Serialize + PartialEq>(
        &self,
        event: &'static str,
        data: &T,
        submitter: Option<u32>,
        redacted: &T,
    ) {
        self.publish_event(event, data, (data != redacted).then_some((submitter, redacted)));
    }

    fn publish_event<T: Serialize>(
        &self,
        event: &'static str,
        data: &T,
        redacted: Option<(Option<u32>, &T)>,
    ) {
        let mut ring = self.lock_ring();
        if self.changes.receiver_count() == 0 && !ring.should_record() {
            return;
        }
        let written = serde_json::to_string(data).and_then(|data| {
            let written = redacted.map(|(submitter, data)| Ok((submitter, serde_json::to_string(data)?)));
            Ok((data, written.transpose()?))
        });
        match written {
            Ok((data, redacted)) => ring.push_event(event, &data, redacted),
            Err(error) => tracing::error!(%error, event, "an event cannot be written as JSON"),
        }
        drop(ring);
        self.changes.send_replace(());
    }

    /// Subscribes to future events, or to all events after the one that the reader saw last.
    pub fn subscribe(&self, audience: Audience, last_seen: Option<&str>) -> Reader {
        let mut ring = self.lock_ring();
        (ring.is_paused, ring.unread_events) = (false, 0);
        let mut reader = Reader {
            feed: self.clone(),
            audience,
            changes: self.changes.subscribe(),
            next: ring.next,
            seen: None,
            gap: None,
        };
        let Some(last_seen) = last_seen else {
            return reader;
        };
        reader.seen = EventId::parse(last_seen);
        match reader.seen {
            Some(EventId { run, number }) if run == ring.run && number < ring.next => {
                reader.next = number + 1;
                reader.gap = Some(GapReason::NotKept);
            }
            Some(EventId { run, .. }) if run != ring.run => {
                reader.restart_from_oldest(&ring, GapReason::DaemonRestarted);
            }
            _ => reader.restart_from_oldest(&ring, GapReason::UnknownId),
        }
        reader
    }

    fn lock_ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Whether the last reader left so recently that it may reconnect and expect the next event.
    fn should_record(&mut self) -> bool {
        if self.is_paused {
            return false;
        }
        self.unread_events += 1;
        if self.unread_events > RING_EVENTS_MAX {
            (self.events, self.bytes, self.is_paused) = (VecDeque::new(), 0, true);
            self.next += 1;
            self.uncounted = self.next;
        }
        !self.is_paused
    }

    fn push_event(&mut self, event: &str, data: &str, redacted: Option<(Option<u32>, String)>) {
        let id = EventId { run: self.run, number: self.next };
        let redacted =
            redacted.map(|(submitter, data)| Redacted { submitter, frame: encode_event(id, event, &data) });
        let kept = StoredEvent { whole: encode_event(id, event, data), redacted };
        self.next += 1;
        self.bytes += kept.len();
        self.events.push_back(kept);
        while self.events.len() > RING_EVENTS_MAX || (self.bytes > RING_BYTES_MAX && self.events.len() > 1) {
            let oldest = self.events.pop_front();
            self.bytes -= oldest.map_or(0, |event| event.len());
        }
    }

    fn oldest_number(&self) -> u64 {
        self.next - self.events.len() as u64
    }
}

/// A subscriber of the feed.
#[derive(Debug)]
pub struct Reader {
    feed: Feed,
    audience: Audience,
    changes: watch::Receiver<()>,
    /// The number of its next event.
    next: u64,
    /// The id of the last event that it saw, as it reported.
    seen: Option<EventId>,
    /// Why it missed events before its first one, if it did.
    gap: Option<GapReason>,
}

impl Reader {
    /// The first event. It has the id of the last event that the reader saw, so that a reader that reconnects with it
    /// gets all later events.
    pub fn first_event(&self, status: &impl Serialize) -> Bytes {
        let run = self.feed.lock_ring().run;
        let id = self.seen.unwrap_or(EventId { run, number: self.next.saturating_sub(1) });
        let status = serde_json::to_string(status).unwrap_or_default();
        let retry = format!("retry: {RECONNECT_DELAY_MS}\n");
        [retry.as_bytes(), &encode_event(id, "status", &status)].concat().into()
    }

    /// Waits for the next event, or for an event that says that some were missed.
    pub async fn next_event(&mut self) -> Bytes {
        loop {
            self.changes.borrow_and_update();
            if let Some(frame) = self.take_pending() {
                return frame;
            }
            // The reader holds a sender itself, so the channel cannot close.
            drop(self.changes.changed().await);
        }
    }

    fn take_pending(&mut self) -> Option<Bytes> {
        let feed = self.feed.clone();
        let ring = feed.lock_ring();
        let oldest = ring.oldest_number();
        let reason = self.gap.take();
        if self.next < oldest || matches!(reason, Some(GapReason::DaemonRestarted | GapReason::UnknownId)) {
            let reason = reason.unwrap_or(GapReason::SlowReader);
            let is_counted = matches!(reason, GapReason::NotKept | GapReason::SlowReader);
            let missed = (is_counted && self.next >= ring.uncounted).then(|| oldest - self.next);
            self.next = oldest;
            let gap = serde_json::to_string(&Gap { missed, reason }).unwrap_or_default();
            return Some(encode_event(EventId { run: ring.run, number: oldest - 1 }, "gap", &gap));
        }
        let at = usize::try_from(self.next - oldest).unwrap_or(usize::MAX);
        let event = ring.events.get(at)?.for_reader(self.audience).clone();
        self.next += 1;
        Some(event)
    }

    fn restart_from_oldest(&mut self, ring: &Ring, reason: GapReason) {
        self.next = ring.oldest_number();
        self.gap = Some(reason);
    }
}

/// The id of an event, for example `3f2a91bc-17`: the run of the daemon and the number of the event in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EventId {
    run: u32,
    number: u64,
}

impl EventId {
    fn parse(text: &str) -> Option<Self> {
        let (run, number) = text.trim().split_once('-')?;
        Some(Self { run: u32::from_str_radix(run, 16).ok()?, number: number.parse().ok()? })
    }
}

fn encode_event(EventId { run, number }: EventId, event: &str, data: &str) -> Bytes {
    format!("id: {run:08x}-{number}\nevent: {event}\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests;
