//! The feed that `GET /v1/events` streams: one ring for all readers, each of whom is a place in it.
//!
//! Bounded in events and in bytes, so that neither many readers nor slow ones cost memory; and honest: a
//! reader that the ring has overtaken is told of the gap. A reader that comes back with the id of the last
//! event that it saw goes on behind that one while it is kept. Ids name the life of the daemon, because a
//! number of an earlier life says nothing about this one.
//!
//! Where readers do not all see the same, both forms of an event are in the ring: what admins and the submitter of a
//! record see, and what others see.
//!
//! Nothing is written while nobody reads. The place of the last reader that left is kept for one ring of
//! events; after that nothing is noted until somebody comes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::watch;

use super::audience::Audience;
use crate::api::{Gap, GapReason};

/// Events that a reader may be behind before it misses some.
const KEPT_EVENTS: usize = 1024;
/// And their bytes, as they go over the wire.
const KEPT_BYTES: usize = 512 << 10;
/// After how long a reader whose connection broke may come back.
const COME_BACK_MS: u32 = 1000;

/// Where announcements are made and heard.
#[derive(Clone, Debug)]
pub struct Feed {
    ring: Arc<Mutex<Ring>>,
    news: watch::Sender<()>,
}

/// The latest events, ready to be written.
#[derive(Debug)]
struct Ring {
    /// Of this life of the daemon.
    life: u32,
    /// The number that the next event gets; the last of [`Self::events`] has the one before.
    next: u64,
    events: VecDeque<Kept>,
    /// Of both forms of all of them.
    bytes: usize,
    /// Nothing is noted: nobody reads, and whoever did has been away for too long.
    silent: bool,
    /// Events since the last reader left.
    unheard: usize,
    /// How many events there were before this number is not known.
    uncounted: u64,
}

/// An event in the ring.
#[derive(Debug)]
struct Kept {
    whole: Bytes,
    redacted: Option<Redacted>,
}

/// An event without what is for admins, and for the submitter of the record that it is about.
#[derive(Debug)]
struct Redacted {
    submitter: Option<u32>,
    frame: Bytes,
}

impl Kept {
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
            life: fastrand::u32(..),
            next: 1,
            events: VecDeque::new(),
            bytes: 0,
            silent: true,
            unheard: 0,
            uncounted: 0,
        };
        Self { ring: Arc::new(Mutex::new(ring)), news: watch::Sender::new(()) }
    }
}

impl Feed {
    /// Announces what all readers see. Costs next to nothing while nobody listens.
    pub fn announce(&self, event: &'static str, data: &impl Serialize) {
        self.publish_event(event, data, None);
    }

    /// As [`Self::announce`], with what readers see who are neither admins nor this submitter.
    pub fn announce_by_reader<T: Serialize + PartialEq>(
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
        if self.news.receiver_count() == 0 && !ring.is_kept_for_somebody() {
            return;
        }
        let written = serde_json::to_string(data).and_then(|data| {
            let written = redacted.map(|(submitter, data)| Ok((submitter, serde_json::to_string(data)?)));
            Ok((data, written.transpose()?))
        });
        match written {
            Ok((data, redacted)) => ring.push(event, &data, redacted),
            Err(error) => tracing::error!(%error, event, "an event cannot be written as JSON"),
        }
        drop(ring);
        self.news.send_replace(());
    }

    /// Listens from now on, or from behind the event that was seen last.
    pub fn listen(&self, audience: Audience, last_seen: Option<&str>) -> Reader {
        let mut ring = self.lock_ring();
        (ring.silent, ring.unheard) = (false, 0);
        let mut reader = Reader {
            feed: self.clone(),
            audience,
            news: self.news.subscribe(),
            next: ring.next,
            seen: None,
            gap: None,
        };
        let Some(last_seen) = last_seen else {
            return reader;
        };
        reader.seen = Id::parse(last_seen);
        match reader.seen {
            Some(Id { life, number }) if life == ring.life && number < ring.next => {
                reader.next = number + 1;
                reader.gap = Some(GapReason::NotKept);
            }
            Some(Id { life, .. }) if life != ring.life => {
                reader.begin_anew(&ring, GapReason::DaemonRestarted);
            }
            _ => reader.begin_anew(&ring, GapReason::UnknownId),
        }
        reader
    }

    fn lock_ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Whether a reader that left may still find the next event here when it comes back.
    fn is_kept_for_somebody(&mut self) -> bool {
        if self.silent {
            return false;
        }
        self.unheard += 1;
        if self.unheard > KEPT_EVENTS {
            (self.events, self.bytes, self.silent) = (VecDeque::new(), 0, true);
            self.next += 1;
            self.uncounted = self.next;
        }
        !self.silent
    }

    fn push(&mut self, event: &str, data: &str, redacted: Option<(Option<u32>, String)>) {
        let id = Id { life: self.life, number: self.next };
        let redacted =
            redacted.map(|(submitter, data)| Redacted { submitter, frame: encode_frame(id, event, &data) });
        let kept = Kept { whole: encode_frame(id, event, data), redacted };
        self.next += 1;
        self.bytes += kept.len();
        self.events.push_back(kept);
        while self.events.len() > KEPT_EVENTS || (self.bytes > KEPT_BYTES && self.events.len() > 1) {
            let oldest = self.events.pop_front();
            self.bytes -= oldest.map_or(0, |event| event.len());
        }
    }

    fn oldest_number(&self) -> u64 {
        self.next - self.events.len() as u64
    }
}

/// One who listens.
#[derive(Debug)]
pub struct Reader {
    feed: Feed,
    audience: Audience,
    news: watch::Receiver<()>,
    /// The number of the event that it gets next.
    next: u64,
    /// What it saw last, as it says.
    seen: Option<Id>,
    /// Why it misses something, if it does, before it has got its first event.
    gap: Option<GapReason>,
}

impl Reader {
    /// The first event. Its id is that of the last event that was seen: whoever comes back with it has
    /// missed what follows.
    pub fn opening_frame(&self, status: &impl Serialize) -> Bytes {
        let life = self.feed.lock_ring().life;
        let id = self.seen.unwrap_or(Id { life, number: self.next.saturating_sub(1) });
        let status = serde_json::to_string(status).unwrap_or_default();
        let retry = format!("retry: {COME_BACK_MS}\n");
        [retry.as_bytes(), &encode_frame(id, "status", &status)].concat().into()
    }

    /// Waits for the next event, or for the news that some were missed.
    pub async fn next(&mut self) -> Bytes {
        loop {
            self.news.borrow_and_update();
            if let Some(frame) = self.take_pending() {
                return frame;
            }
            // The sender lives as long as the reader, which holds one.
            drop(self.news.changed().await);
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
            return Some(encode_frame(Id { life: ring.life, number: oldest - 1 }, "gap", &gap));
        }
        let at = usize::try_from(self.next - oldest).unwrap_or(usize::MAX);
        let event = ring.events.get(at)?.for_reader(self.audience).clone();
        self.next += 1;
        Some(event)
    }

    fn begin_anew(&mut self, ring: &Ring, reason: GapReason) {
        self.next = ring.oldest_number();
        self.gap = Some(reason);
    }
}

/// Names an event: `3f2a91bc-17`, the life of the daemon and the number of the event in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    life: u32,
    number: u64,
}

impl Id {
    fn parse(text: &str) -> Option<Self> {
        let (life, number) = text.trim().split_once('-')?;
        Some(Self { life: u32::from_str_radix(life, 16).ok()?, number: number.parse().ok()? })
    }
}

fn encode_frame(Id { life, number }: Id, event: &str, data: &str) -> Bytes {
    format!("id: {life:08x}-{number}\nevent: {event}\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests;
