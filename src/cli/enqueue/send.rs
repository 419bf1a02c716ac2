//! Sends chunks, and repeats each until its outcome is known. Ids make repeating harmless, so that a restart of the daemon
//! only costs time.

use std::iter;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::sleep;

use super::chunk::{Position, RecordChunk};
use super::items::InputError;
use crate::api::Accepted;
use crate::cli::context::NoteWriter;
use crate::cli::failure::{CommandFailure, InputPlace, as_sentence, exit_code, is_outcome_unknown};
use crate::cli::follow::is_daemon_absent;
use crate::cli::format::count;
use crate::client::{Client, ClientError, decode_json};
use crate::clock::Clock;
use crate::exit;

/// Large enough for one commit of many records, and small enough for memory.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// The daemon's error code for a request that it does not read completely.
const REQUEST_TOO_LARGE_CODE: &str = "request_too_large";
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);

/// The outcome of a valid chunk.
pub(super) enum ChunkOutcome {
    /// The chunk is on disk.
    Stored,
    /// The daemon accepts less in one request: nothing was stored, and these two are to be sent instead.
    TooLarge([RecordChunk; 2]),
}

pub(super) struct ChunkSender<'a> {
    client: &'a Client,
    retry_for: Duration,
    names: &'a [String],
    notes: NoteWriter,
    bar: ProgressBar,
    clock: Clock,
    accepted: u64,
    duplicates: u64,
    stored: u64,
    last_stored: Option<Position>,
    /// The size that the daemon accepts, as far as it is known.
    max_bytes: usize,
}

impl<'a> ChunkSender<'a> {
    pub(super) fn new(
        client: &'a Client,
        retry_for: Duration,
        names: &'a [String],
        notes: NoteWriter,
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
            max_bytes: CHUNK_BYTES_MAX,
        }
    }

    /// The numbers of accepted records and of duplicates.
    pub(super) fn finish(self) -> (u64, u64) {
        self.bar.finish_and_clear();
        (self.accepted, self.duplicates)
    }

    /// The maximum size of the next chunk.
    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Returns when the chunk is on disk, or is too large for one request.
    pub(super) async fn send_chunk(&mut self, chunk: &RecordChunk) -> Result<ChunkOutcome, CommandFailure> {
        let (kind, body) = chunk.request_body();
        let mut outage: Option<Duration> = None;
        let mut pause = RETRY_PAUSE_MIN;
        // The daemon may have stored the chunk although its response was lost.
        let mut in_doubt = false;
        loop {
            let response = self.client.post("/v1/records", kind, body.clone()).await;
            let error = match response.and_then(|response| decode_json::<Accepted>(&response)) {
                Ok(accepted) => {
                    return self.record_stored(chunk, &accepted, in_doubt).map(|()| ChunkOutcome::Stored);
                }
                Err(error) => error,
            };
            let never_there = self.stored == 0 && outage.is_none();
            if never_there && matches!(error, ClientError::NoDaemon { .. }) {
                return Err(error.into());
            }
            in_doubt |= is_outcome_unknown(&error);
            if let Some(halves) = chunk.split_in_halves().filter(|_| is_request_too_large(&error)) {
                self.max_bytes = self.max_bytes.min(chunk.byte_count() / 2);
                return Ok(ChunkOutcome::TooLarge(halves));
            }
            if !is_daemon_absent(&error) {
                return Err(self.final_failure(chunk, error, in_doubt));
            }
            let now = self.clock.now();
            let since = *outage.get_or_insert_with(|| {
                self.note_absence(&error);
                now
            });
            let left = self.retry_for.saturating_sub(now.saturating_sub(since));
            if left.is_zero() {
                return Err(self.final_failure(chunk, error, in_doubt));
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    /// A mistake that was not in the input when it was checked.
    pub(super) fn input_failure(&self, mistake: &InputError, source: usize) -> CommandFailure {
        self.bar.finish_and_clear();
        let InputError { line, reason: what, .. } = mistake;
        let name = &self.names[source];
        let message = format!("{name}:{line}: {what}. {}", self.describe_stored());
        CommandFailure::new(self.adjust_exit_code(mistake.exit_code(), false), message)
            .with_place(Some(mistake.to_place(name)))
    }

    /// Ctrl-C during the request for this chunk.
    pub(super) fn interrupted_failure(&self, chunk: &RecordChunk, in_doubt: bool) -> CommandFailure {
        self.bar.finish_and_clear();
        let sentences = iter::once("interrupted.".to_owned()).chain(self.describe_known(chunk, in_doubt));
        CommandFailure::interrupted(sentences.collect::<Vec<_>>().join(" "))
    }

    /// `REFUSED` promises that nothing was stored.
    fn adjust_exit_code(&self, exit: u8, in_doubt: bool) -> u8 {
        if exit == exit::REFUSED && (self.stored > 0 || in_doubt) { exit::FAILED } else { exit }
    }

    fn record_stored(
        &mut self,
        chunk: &RecordChunk,
        response: &Accepted,
        in_doubt: bool,
    ) -> Result<(), CommandFailure> {
        let records = chunk.record_count();
        if response.accepted.checked_add(response.duplicates) != Some(records) {
            let what = format!(
                "{} and {} are confirmed of {records}",
                count(response.accepted, "record"),
                count(response.duplicates, "duplicate")
            );
            return Err(self.final_failure(chunk, ClientError::Protocol(what), true));
        }
        // Records that an earlier send of the same chunk stored are not duplicates of the input.
        let own = if in_doubt { response.duplicates.min(chunk.count_generated_ids()) } else { 0 };
        self.accepted += response.accepted + own;
        self.duplicates += response.duplicates - own;
        self.stored += records;
        self.last_stored = chunk.first_and_last().map(|(_, last)| last);
        self.bar.set_position(self.stored);
        Ok(())
    }

    fn note_absence(&self, error: &ClientError) {
        let stored = count(self.stored, "record");
        let text = match error {
            ClientError::Refused { message, .. } => {
                format!(
                    "After {stored}, the daemon does not accept more for now; trying again. Its message: {}",
                    as_sentence(message)
                )
            }
            _ => format!("The connection to the daemon was lost after {stored}; waiting for it to come back"),
        };
        self.bar.suspend(|| self.notes.print_note(&text));
    }

    fn final_failure(&self, chunk: &RecordChunk, error: ClientError, in_doubt: bool) -> CommandFailure {
        self.bar.finish_and_clear();
        let mut at = None;
        let (failure, what) = match error {
            ClientError::Refused { ref message, position, ref code, .. } => {
                let found = chunk.position_of(position);
                at = found.map(|at| InputPlace { file: self.names[at.source].clone(), line: at.line });
                let exit = self.adjust_exit_code(exit_code(&error), in_doubt);
                let place = match (found, chunk.first_and_last()) {
                    (Some(at), _) => format!("{}: ", self.describe_position(at)),
                    (None, Some((first, last))) => format!("{}: ", self.describe_range(first, last)),
                    (None, None) => String::new(),
                };
                let message = self.rephrase_nothing_stored(&as_sentence(message));
                (CommandFailure::new(exit, "").with_code(code.clone()), format!("{place}{message}"))
            }
            ClientError::NoDaemon { .. } | ClientError::Lost { .. } => {
                let limit = humantime::format_duration(self.retry_for);
                let message = format!(
                    "the connection to the daemon was lost, and it did not come back within {limit}."
                );
                (CommandFailure::new(exit::NO_DAEMON, ""), message)
            }
            ClientError::Protocol(_) => {
                let failure = CommandFailure::from(error);
                let message = failure.message.clone();
                (failure, message)
            }
        };
        let mut sentences = vec![what];
        sentences.extend(self.describe_known(chunk, in_doubt));
        if failure.exit == exit::NO_DAEMON {
            sentences.push("Start the daemon with: systemctl start fieldsync".to_owned());
        }
        CommandFailure { message: sentences.join(" "), ..failure }.with_place(at)
    }

    /// The daemon's message is about one request, but the user thinks of the whole input.
    fn rephrase_nothing_stored(&self, message: &str) -> String {
        if self.stored == 0 {
            return message.to_owned();
        }
        message.replace("nothing was stored", "none of these was stored")
    }

    /// What is stored, and what is not known.
    fn describe_known(&self, chunk: &RecordChunk, in_doubt: bool) -> impl Iterator<Item = String> {
        let safe = (self.stored > 0 || !in_doubt).then(|| self.describe_stored());
        safe.into_iter().chain(self.describe_doubt(chunk).filter(|_| in_doubt))
    }

    /// What is not known about a chunk whose response was lost.
    fn describe_doubt(&self, chunk: &RecordChunk) -> Option<String> {
        let (first, last) = chunk.first_and_last()?;
        Some(format!(
            "It is not known whether {} arrived: `fieldsync list` shows the stored records. If you enqueue them again, records \
             without an id of their own may be duplicated.",
            self.describe_range(first, last)
        ))
    }

    fn describe_position(&self, at: Position) -> String {
        let line = format!("{}:{}", self.names[at.source], at.line);
        at.element.map_or_else(|| line.clone(), |number| format!("{line} (record {number})"))
    }

    fn describe_range(&self, first: Position, last: Position) -> String {
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

    /// What is stored, and where to continue.
    fn describe_stored(&self) -> String {
        let Some(at) = self.last_stored else {
            return "Nothing was stored.".to_owned();
        };
        let (stored, name) = (count(self.stored, "record"), &self.names[at.source]);
        let are = if self.stored == 1 { "is" } else { "are" };
        match at.element {
            Some(number) => {
                let before = if at.source > 0 { "all inputs before that one, and " } else { "" };
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

fn is_request_too_large(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { status: 413, code, .. } if code == REQUEST_TOO_LARGE_CODE)
}
