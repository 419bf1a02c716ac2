//! Sends chunks, each until it is settled. Ids make repeating harmless, so that a daemon which
//! restarts in the middle costs patience and nothing else.

use std::time::Duration;

use bytes::Bytes;
use indicatif::ProgressBar;
use tokio::time::sleep;

use super::check::Ready;
use super::items::Mistake;
use crate::cli::context::Notes;
use crate::cli::failure::{Failure, Place, exit_code, sentence};
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

    pub(super) fn ids(&self) -> &[RecordId] {
        &self.ids
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
    notes: Notes,
    bar: ProgressBar,
    clock: Clock,
    accepted: u64,
    duplicates: u64,
    stored: u64,
    last_stored: Option<Position>,
}

impl<'a> Sender<'a> {
    pub(super) fn new(
        client: &'a Client,
        retry_for: Duration,
        names: &'a [String],
        notes: Notes,
        bar: ProgressBar,
    ) -> Self {
        Self {
            client,
            retry_for,
            names,
            notes,
            bar,
            clock: Clock::start(),
            accepted: 0,
            duplicates: 0,
            stored: 0,
            last_stored: None,
        }
    }

    /// How many were accepted, and how many known before.
    pub(super) fn finish(self) -> (u64, u64) {
        self.bar.finish_and_clear();
        (self.accepted, self.duplicates)
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

    /// A mistake that was not there when the input was checked.
    pub(super) fn refused(&self, mistake: &Mistake, source: usize) -> Failure {
        self.bar.finish_and_clear();
        let Mistake { line, what, .. } = mistake;
        let name = &self.names[source];
        let message = format!("{name}:{line}: {what}. {}", self.so_far());
        Failure::new(self.exit(mistake.exit()), message).at(Some(mistake.place(name)))
    }

    /// Ctrl-C while this chunk was on its way.
    pub(super) fn interrupted(&self, chunk: &Chunk, in_doubt: bool) -> Failure {
        self.bar.finish_and_clear();
        let sentences = ["interrupted.".to_owned(), self.so_far()].into_iter();
        let doubt = self.doubt(chunk).filter(|_| in_doubt);
        Failure::interrupted(sentences.chain(doubt).collect::<Vec<_>>().join(" "))
    }

    /// One code promises that nothing was stored.
    fn exit(&self, exit: u8) -> u8 {
        if exit == exit::REFUSED && self.stored > 0 { exit::FAILED } else { exit }
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
        self.accepted += answer.accepted + own;
        self.duplicates += answer.duplicates - own;
        self.stored += records;
        self.last_stored = chunk.positions.last().copied();
        self.bar.set_position(self.stored);
        Ok(())
    }

    fn say_gone(&self) {
        let stored = count(self.stored, "record");
        let text = format!("The daemon went away after {stored}; waiting for it to come back");
        self.bar.suspend(|| self.notes.say(&text));
    }

    fn give_up(&self, chunk: &Chunk, error: ClientError, in_doubt: bool) -> Failure {
        self.bar.finish_and_clear();
        let mut at = None;
        let (failure, what) = match error {
            ClientError::Refused { ref message, position, ref code, .. } => {
                at = self.place(chunk, position);
                let failure = Failure::new(self.exit(exit_code(&error)), "").coded(code.clone());
                let place = match (&at, chunk.positions.as_slice()) {
                    (Some(Place { file, line }), _) => format!("{file}:{line}: "),
                    (None, [first, .., last]) => format!("{}: ", self.range(*first, *last)),
                    (None, _) => String::new(),
                };
                (failure, format!("{place}{}", sentence(message)))
            }
            ClientError::NoDaemon { .. } | ClientError::Lost { .. } => {
                let patience = humantime::format_duration(self.retry_for);
                let message = format!("the daemon went away and did not come back within {patience}.");
                (Failure::new(exit::NO_DAEMON, ""), message)
            }
            ClientError::Protocol(_) => {
                let failure = Failure::from(error);
                let message = failure.message.clone();
                (failure, message)
            }
        };
        let mut sentences = vec![what];
        if self.stored > 0 || !in_doubt {
            sentences.push(self.so_far());
        }
        sentences.extend(self.doubt(chunk).filter(|_| in_doubt));
        if failure.exit == exit::NO_DAEMON {
            sentences.push("Start the daemon with: systemctl start fieldsync".to_owned());
        }
        Failure { message: sentences.join(" "), ..failure }.at(at)
    }

    /// What is not known of a chunk whose answer was lost.
    fn doubt(&self, chunk: &Chunk) -> Option<String> {
        let (first, last) = (chunk.positions.first()?, chunk.positions.last()?);
        Some(format!(
            "It is not known whether {} arrived: sent again by hand, records without an id of their own \
             would be doubled, and `fieldsync list` shows what there is.",
            self.range(*first, *last)
        ))
    }

    /// The record at fault, when there is but one or the daemon names it.
    fn place(&self, chunk: &Chunk, position: Option<u64>) -> Option<Place> {
        let named = position
            .and_then(|position| usize::try_from(position).ok()?.checked_sub(1))
            .and_then(|index| chunk.positions.get(index));
        let ((Some(at), _) | (None, [at])) = (named, chunk.positions.as_slice()) else {
            return None;
        };
        Some(Place { file: self.names[at.source].clone(), line: at.line })
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
