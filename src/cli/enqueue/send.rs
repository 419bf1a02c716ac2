//! Sends chunks, each until it is settled. Ids make repeating harmless, so that a daemon which
//! restarts in the middle costs patience and nothing else.

use std::iter;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::sleep;

use super::chunk::{Chunk, Position};
use super::items::Mistake;
use crate::api::Accepted;
use crate::cli::context::Notes;
use crate::cli::failure::{Failure, Place, exit_code, leaves_doubt, sentence};
use crate::cli::follow::is_absence;
use crate::cli::words::count;
use crate::client::{Client, ClientError, decode_json};
use crate::clock::Clock;
use crate::exit;

/// Enough to make one commit of many records, and little to keep in memory.
const CHUNK_BYTES: usize = 1 << 20;
/// What the daemon says of a request that it does not read to its end.
const REQUEST_TOO_LARGE: &str = "request_too_large";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What became of a chunk that nothing is wrong with.
pub(super) enum Delivery {
    /// It is on disk.
    Stored,
    /// The daemon takes less at a time: nothing of it is stored, and these are to be sent in its place.
    TooLarge([Chunk; 2]),
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
    /// As far as it is known what the daemon takes.
    max_bytes: usize,
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
            max_bytes: CHUNK_BYTES,
        }
    }

    /// How many were accepted, and how many known before.
    pub(super) fn finish(self) -> (u64, u64) {
        self.bar.finish_and_clear();
        (self.accepted, self.duplicates)
    }

    /// How large the next chunk may be.
    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Returns when the chunk is on disk, or cannot be for its size alone.
    pub(super) async fn send(&mut self, chunk: &Chunk) -> Result<Delivery, Failure> {
        let (kind, body) = chunk.body();
        let mut outage: Option<Duration> = None;
        let mut pause = FIRST_PAUSE;
        // The daemon may have stored the chunk without a chance to say so.
        let mut in_doubt = false;
        loop {
            let answer = self.client.post("/v1/records", kind, body.clone()).await;
            let error = match answer.and_then(|answer| decode_json::<Accepted>(&answer)) {
                Ok(accepted) => return self.settle(chunk, &accepted, in_doubt).map(|()| Delivery::Stored),
                Err(error) => error,
            };
            let never_there = self.stored == 0 && outage.is_none();
            if never_there && matches!(error, ClientError::NoDaemon { .. }) {
                return Err(error.into());
            }
            in_doubt |= leaves_doubt(&error);
            if let Some(halves) = chunk.halves().filter(|_| is_too_large(&error)) {
                self.max_bytes = self.max_bytes.min(chunk.bytes() / 2);
                return Ok(Delivery::TooLarge(halves));
            }
            if !is_absence(&error) {
                return Err(self.give_up(chunk, error, in_doubt));
            }
            let now = self.clock.now();
            let since = *outage.get_or_insert_with(|| {
                self.say_gone(&error);
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
        Failure::new(self.exit(mistake.exit(), false), message).at(Some(mistake.place(name)))
    }

    /// Ctrl-C while this chunk was on its way.
    pub(super) fn interrupted(&self, chunk: &Chunk, in_doubt: bool) -> Failure {
        self.bar.finish_and_clear();
        let sentences = iter::once("interrupted.".to_owned()).chain(self.known(chunk, in_doubt));
        Failure::interrupted(sentences.collect::<Vec<_>>().join(" "))
    }

    /// One code promises that nothing was stored.
    fn exit(&self, exit: u8, in_doubt: bool) -> u8 {
        if exit == exit::REFUSED && (self.stored > 0 || in_doubt) { exit::FAILED } else { exit }
    }

    fn settle(&mut self, chunk: &Chunk, answer: &Accepted, in_doubt: bool) -> Result<(), Failure> {
        let records = chunk.records();
        if answer.accepted.checked_add(answer.duplicates) != Some(records) {
            let what = format!(
                "{} and {} are confirmed of {records}",
                count(answer.accepted, "record"),
                count(answer.duplicates, "duplicate")
            );
            return Err(self.give_up(chunk, ClientError::Protocol(what), true));
        }
        // What an earlier send of this very chunk stored is no duplicate of the user's making.
        let own = if in_doubt { answer.duplicates.min(chunk.made_here()) } else { 0 };
        self.accepted += answer.accepted + own;
        self.duplicates += answer.duplicates - own;
        self.stored += records;
        self.last_stored = chunk.ends().map(|(_, last)| last);
        self.bar.set_position(self.stored);
        Ok(())
    }

    fn say_gone(&self, error: &ClientError) {
        let stored = count(self.stored, "record");
        let text = match error {
            ClientError::Refused { message, .. } => {
                format!(
                    "After {stored}, the daemon takes no more for now; trying again. It says: {}",
                    sentence(message)
                )
            }
            _ => format!("The daemon went away after {stored}; waiting for it to come back"),
        };
        self.bar.suspend(|| self.notes.say(&text));
    }

    fn give_up(&self, chunk: &Chunk, error: ClientError, in_doubt: bool) -> Failure {
        self.bar.finish_and_clear();
        let mut at = None;
        let (failure, what) = match error {
            ClientError::Refused { ref message, position, ref code, .. } => {
                let found = chunk.position(position);
                at = found.map(|at| Place { file: self.names[at.source].clone(), line: at.line });
                let exit = self.exit(exit_code(&error), in_doubt);
                let place = match (found, chunk.ends()) {
                    (Some(at), _) => format!("{}: ", self.spot(at)),
                    (None, Some((first, last))) => format!("{}: ", self.range(first, last)),
                    (None, None) => String::new(),
                };
                let message = self.of_these(&sentence(message));
                (Failure::new(exit, "").coded(code.clone()), format!("{place}{message}"))
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
        sentences.extend(self.known(chunk, in_doubt));
        if failure.exit == exit::NO_DAEMON {
            sentences.push("Start the daemon with: systemctl start fieldsync".to_owned());
        }
        Failure { message: sentences.join(" "), ..failure }.at(at)
    }

    /// The daemon speaks of one request, where the person who reads it thinks of all the input.
    fn of_these(&self, message: &str) -> String {
        if self.stored == 0 {
            return message.to_owned();
        }
        message.replace("nothing was stored", "none of these was stored")
    }

    /// What is safe, and what is not known.
    fn known(&self, chunk: &Chunk, in_doubt: bool) -> impl Iterator<Item = String> {
        let safe = (self.stored > 0 || !in_doubt).then(|| self.so_far());
        safe.into_iter().chain(self.doubt(chunk).filter(|_| in_doubt))
    }

    /// What is not known of a chunk whose answer was lost.
    fn doubt(&self, chunk: &Chunk) -> Option<String> {
        let (first, last) = chunk.ends()?;
        Some(format!(
            "It is not known whether {} arrived: sent again by hand, records without an id of their own \
             would be doubled, and `fieldsync list` shows what there is.",
            self.range(first, last)
        ))
    }

    fn spot(&self, at: Position) -> String {
        let line = format!("{}:{}", self.names[at.source], at.line);
        at.element.map_or_else(|| line.clone(), |number| format!("{line} (record {number})"))
    }

    fn range(&self, first: Position, last: Position) -> String {
        let (from, to) = (&self.names[first.source], &self.names[last.source]);
        let [begin, end] = [first, last].map(|at| match at.element {
            Some(number) => ("record", number),
            None => ("line", at.line),
        });
        if first.source != last.source {
            format!("{from} from {} {} to {to} {} {}", begin.0, begin.1, end.0, end.1)
        } else if begin == end {
            format!("{from} {} {}", begin.0, begin.1)
        } else {
            format!("{from} {}s {} to {}", begin.0, begin.1, end.1)
        }
    }

    /// What is safe, and where to go on.
    fn so_far(&self) -> String {
        let Some(at) = self.last_stored else {
            return "Nothing was stored.".to_owned();
        };
        let (stored, name) = (count(self.stored, "record"), &self.names[at.source]);
        let are = if self.stored == 1 { "is" } else { "are" };
        match at.element {
            Some(number) => {
                let before = if at.source > 0 { "all before that input, and " } else { "" };
                format!(
                    "{stored} {are} safely stored: {before}the first {number} of {name}; leave those out when you \
                     enqueue the rest."
                )
            }
            None => format!(
                "{stored} up to {name} line {} {are} safely stored; continue from line {}.",
                at.line,
                at.line + 1
            ),
        }
    }
}

fn is_too_large(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { status: 413, code, .. } if code == REQUEST_TOO_LARGE)
}
