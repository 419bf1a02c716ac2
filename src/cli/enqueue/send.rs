//! Sends chunks, each until it is settled. Ids make repeating harmless, so that a daemon which
//! restarts in the middle costs patience and nothing else.

use std::time::Duration;

use bytes::Bytes;
use indicatif::ProgressBar;
use tokio::time::sleep;

use super::check::Ready;
use super::items::Mistake;
use crate::cli::context::say;
use crate::cli::failure::{Failure, exit_code, sentence};
use crate::cli::follow::is_absence;
use crate::cli::words::count;
use crate::clock::Clock;
use crate::exit;
use crate::ipc::api::Accepted;
use crate::ipc::client::{Client, ClientError, JSON, NDJSON, decode};
use crate::model::RecordId;

const CHUNK_RECORDS: usize = 500;
const CHUNK_BYTES: usize = 1 << 20;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where a record stands in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) source: usize,
    pub(super) line: u64,
}

/// Records that are stored together or not at all.
#[derive(Default)]
pub(super) struct Chunk {
    lines: Vec<u8>,
    ids: Vec<RecordId>,
    positions: Vec<Position>,
    made_here: u64,
    /// Where each record ends in `lines`, its separator left out.
    ends: Vec<usize>,
    /// A payload out of an indented array has line ends of its own, which must pass like all its bytes.
    multi_line: bool,
}

impl Chunk {
    /// One record always fits, however large: the daemon knows how large it may be.
    pub(super) fn fits(&self, record: &Ready) -> bool {
        self.is_empty()
            || self.ids.len() < CHUNK_RECORDS && self.lines.len() + record.json.len() < CHUNK_BYTES
    }

    pub(super) fn push(&mut self, record: &Ready, position: Position) {
        self.lines.extend_from_slice(&record.json);
        self.ends.push(self.lines.len());
        self.lines.push(b'\n');
        self.ids.push(record.id);
        self.positions.push(position);
        self.made_here += u64::from(record.made_here);
        self.multi_line |= record.json.contains(&b'\n') || record.json.contains(&b'\r');
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn body(&self) -> (&'static str, Bytes) {
        if !self.multi_line {
            return (NDJSON, Bytes::copy_from_slice(&self.lines));
        }
        let mut array = self.lines.clone();
        for end in &self.ends {
            array[*end] = b',';
        }
        array.insert(0, b'[');
        array.pop();
        array.push(b']');
        (JSON, array.into())
    }
}

pub(super) struct Sender<'a> {
    client: &'a Client,
    retry_for: Duration,
    names: &'a [String],
    bar: ProgressBar,
    clock: Clock,
    sum: Accepted,
    keeps_ids: bool,
    stored: u64,
    last_stored: Option<Position>,
}

impl<'a> Sender<'a> {
    pub(super) fn new(
        client: &'a Client,
        retry_for: Duration,
        names: &'a [String],
        bar: ProgressBar,
    ) -> Self {
        Self {
            client,
            retry_for,
            names,
            bar,
            clock: Clock::start(),
            sum: Accepted { accepted: 0, duplicates: 0, ids: Vec::new() },
            keeps_ids: false,
            stored: 0,
            last_stored: None,
        }
    }

    pub(super) fn keep_ids(&mut self) {
        self.keeps_ids = true;
    }

    pub(super) fn finish(self) -> Accepted {
        self.bar.finish_and_clear();
        self.sum
    }

    /// Returns when the chunk is on disk.
    pub(super) async fn send(&mut self, chunk: &Chunk) -> Result<(), Failure> {
        let (kind, body) = chunk.body();
        let mut outage: Option<Duration> = None;
        let mut pause = FIRST_PAUSE;
        // The daemon may have stored the chunk without a chance to say so.
        let mut in_doubt = false;
        loop {
            let answer = self.client.post("/v1/records", kind, body.clone()).await;
            let error = match answer.and_then(|answer| decode::<Accepted>(&answer)) {
                Ok(accepted) => return self.settle(chunk, &accepted, in_doubt),
                Err(error) => error,
            };
            let never_there = self.stored == 0 && outage.is_none();
            if never_there && matches!(error, ClientError::NoDaemon { .. }) {
                return Err(error.into());
            }
            if !is_absence(&error) {
                return Err(self.give_up(chunk, error, in_doubt));
            }
            in_doubt |= matches!(error, ClientError::Lost { .. });
            let now = self.clock.now();
            let since = *outage.get_or_insert_with(|| {
                self.say_gone();
                now
            });
            let left = self.retry_for.saturating_sub(now.saturating_sub(since));
            if left.is_zero() {
                return Err(self.give_up(chunk, error, in_doubt));
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A mistake that was found on the way, where the input could not be checked before.
    pub(super) fn refused(&self, mistake: &Mistake, source: usize) -> Failure {
        self.bar.finish_and_clear();
        let Mistake { line, what, .. } = mistake;
        let message = format!("{}:{line}: {what}. {}", self.names[source], self.so_far());
        Failure::new(mistake.exit(), message)
    }

    fn settle(&mut self, chunk: &Chunk, answer: &Accepted, in_doubt: bool) -> Result<(), Failure> {
        let records = chunk.ids.len() as u64;
        if answer.accepted.checked_add(answer.duplicates) != Some(records) {
            let what = format!(
                "{} and {} are confirmed of {records}",
                count(answer.accepted, "record"),
                count(answer.duplicates, "duplicate")
            );
            return Err(self.give_up(chunk, ClientError::Protocol(what), true));
        }
        // What an earlier send of this very chunk stored is no duplicate of the user's making.
        let own = if in_doubt { answer.duplicates.min(chunk.made_here) } else { 0 };
        self.sum.accepted += answer.accepted + own;
        self.sum.duplicates += answer.duplicates - own;
        if self.keeps_ids {
            self.sum.ids.extend_from_slice(&chunk.ids);
        }
        self.stored += records;
        self.last_stored = chunk.positions.last().copied();
        self.bar.set_position(self.stored);
        Ok(())
    }

    fn say_gone(&self) {
        let stored = count(self.stored, "record");
        let text = format!("The daemon went away after {stored}; waiting for it to come back");
        self.bar.suspend(|| say(&text));
    }

    fn give_up(&self, chunk: &Chunk, error: ClientError, in_doubt: bool) -> Failure {
        self.bar.finish_and_clear();
        let (exit, what) = match error {
            ClientError::Refused { ref message, position, .. } => {
                (exit_code(&error), format!("{}{}", self.place(chunk, position), sentence(message)))
            }
            ClientError::NoDaemon { .. } | ClientError::Lost { .. } => {
                let patience = humantime::format_duration(self.retry_for);
                let message = format!("the daemon went away and did not come back within {patience}.");
                (exit::NO_DAEMON, message)
            }
            ClientError::Protocol(_) => (exit_code(&error), Failure::from(error).message),
        };
        let mut sentences = vec![what];
        if self.stored > 0 || !in_doubt {
            sentences.push(self.so_far());
        }
        if let (true, [first, .., last] | [first @ last]) = (in_doubt, chunk.positions.as_slice()) {
            sentences.push(format!(
                "It is not known whether {} arrived: sent again by hand, records without an id of their own \
                 would be doubled, and `fieldsync list` shows what there is.",
                self.range(*first, *last)
            ));
        }
        if exit == exit::NO_DAEMON {
            sentences.push("Start the daemon with: systemctl start fieldsync".to_owned());
        }
        Failure::new(exit, sentences.join(" "))
    }

    /// The record at fault, or all of them when the daemon names none.
    fn place(&self, chunk: &Chunk, position: Option<u64>) -> String {
        let at = position
            .and_then(|position| usize::try_from(position).ok()?.checked_sub(1))
            .and_then(|index| chunk.positions.get(index));
        match (at, chunk.positions.as_slice()) {
            (Some(at), _) | (None, [at]) => format!("{}:{}: ", self.names[at.source], at.line),
            (None, [first, .., last]) => format!("{}: ", self.range(*first, *last)),
            (None, []) => String::new(),
        }
    }

    fn range(&self, first: Position, last: Position) -> String {
        let (from, to) = (&self.names[first.source], &self.names[last.source]);
        if first.source != last.source {
            format!("{from} from line {} to {to} line {}", first.line, last.line)
        } else if first.line == last.line {
            format!("{from} line {}", first.line)
        } else {
            format!("{from} lines {} to {}", first.line, last.line)
        }
    }

    /// What is safe, and where to go on.
    fn so_far(&self) -> String {
        let Some(at) = self.last_stored else {
            return "Nothing was stored.".to_owned();
        };
        format!(
            "{} up to {} line {} are safely stored; continue from line {}.",
            count(self.stored, "record"),
            self.names[at.source],
            at.line,
            at.line + 1
        )
    }
}
