//! Why a verb failed: an exit code, a code for programs, and a sentence that says what happened, what
//! it means for the data, and what to do next.

use std::borrow::Cow;
use std::io::{self, ErrorKind};

use serde::Serialize;

use super::words::plain;
use crate::client::ClientError;
use crate::exit;

/// As the shell names an end by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: u8,
    /// The daemon's, or one of those that `--help` lists.
    pub(crate) code: Cow<'static, str>,
    /// Empty when there is nothing to say.
    pub(crate) message: String,
    /// The line of the input that is at fault.
    pub(crate) place: Option<Place>,
}

/// Where in the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: u64,
}

impl Failure {
    pub(crate) fn new(exit: u8, message: impl Into<String>) -> Self {
        let code = match exit {
            exit::USAGE => "usage",
            exit::NO_DAEMON => "no_daemon",
            exit::NO_SUCH_RECORD => "no_such_record",
            exit::NOT_PERMITTED => "not_permitted",
            exit::NEEDS_REVIEW => "needs_review",
            exit::FULL => "queue_full",
            exit::REFUSED => "input_refused",
            INTERRUPTED => "interrupted",
            _ => "failed",
        };
        Self { exit, code: code.into(), message: message.into(), place: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(exit::FAILED, message)
    }

    /// Ctrl-C, with what is to be said of it.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self::new(INTERRUPTED, message)
    }

    pub(crate) fn coded(self, code: impl Into<Cow<'static, str>>) -> Self {
        Self { code: code.into(), ..self }
    }

    pub(crate) fn at(self, place: Option<Place>) -> Self {
        Self { place, ..self }
    }

    /// Standard output does not take the answer to what was `done`: to do it again may be to do it twice.
    pub(crate) fn unanswered(error: &io::Error, done: &str) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            return Self::quiet();
        }
        Self::failed(format!("cannot write to standard output: {error}. {done}")).coded("output_failed")
    }

    /// Standard output is gone: whoever read it has seen enough.
    fn quiet() -> Self {
        Self::new(exit::DONE, "")
    }

    /// As the API writes errors, on one line.
    pub(crate) fn json(&self) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            code: &'a str,
            message: &'a str,
            #[serde(flatten)]
            place: Option<&'a Place>,
        }
        let error = Error { code: &self.code, message: &self.message, place: self.place.as_ref() };
        serde_json::to_string(&Document { error }).unwrap_or_default()
    }
}

/// Errors of standard output; those of files are named where they happen.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let done = "What was asked of the daemon is done; only the answer could not be written. Make room where the \
                    output goes before you ask for more.";
        Self::unanswered(&error, done)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let failure = Self::new(exit_code(&error), explain(&error));
        match error {
            ClientError::Refused { code, .. } => failure.coded(code),
            ClientError::Lost { .. } => failure.coded("connection_lost"),
            ClientError::Protocol(_) => failure.coded("not_the_local_api"),
            ClientError::NoDaemon { .. } => failure,
        }
    }
}

pub(crate) fn exit_code(error: &ClientError) -> u8 {
    match error {
        ClientError::NoDaemon { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            exit::NOT_PERMITTED
        }
        ClientError::NoDaemon { .. } => exit::NO_DAEMON,
        ClientError::Refused { status, .. } => match status {
            400 | 409 | 413 | 422 => exit::REFUSED,
            403 => exit::NOT_PERMITTED,
            404 => exit::NO_SUCH_RECORD,
            507 => exit::FULL,
            _ => exit::FAILED,
        },
        ClientError::Lost { .. } | ClientError::Protocol(_) => exit::FAILED,
    }
}

/// Whether nobody can tell if the daemon did what it was asked.
pub(crate) fn leaves_doubt(error: &ClientError) -> bool {
    match error {
        ClientError::Lost { .. } | ClientError::Protocol(_) => true,
        // The queue or the disk is full, which the daemon says of what it did not do.
        ClientError::Refused { status: 507, .. } | ClientError::NoDaemon { .. } => false,
        ClientError::Refused { status, .. } => *status >= 500,
    }
}

fn explain(error: &ClientError) -> String {
    match error {
        ClientError::NoDaemon { socket, source } => no_daemon(&socket.display().to_string(), source),
        // The daemon's own messages say what they mean and what to do.
        ClientError::Refused { message, .. } => sentence(message),
        ClientError::Lost { source } if source.kind() == ErrorKind::TimedOut => format!(
            "the daemon did not answer in time ({source}). Whether it did what was asked is not known; records that \
             it confirmed before are safe on disk. See how it is: systemctl status fieldsync"
        ),
        ClientError::Lost { .. } => {
            "the daemon went away before its answer was complete. Whether it did what was \
             asked is not known; records that it confirmed before are safe on disk. Try again, or see why: \
             journalctl -u fieldsync"
                .to_owned()
        }
        ClientError::Protocol(what) => format!(
            "what answers at the socket does not speak fieldsync's local API ({}). Records that the daemon has are \
             untouched. Check --socket, and that daemon and command line are of one version.",
            plain(what)
        ),
    }
}

fn no_daemon(socket: &str, source: &io::Error) -> String {
    match source.kind() {
        ErrorKind::PermissionDenied => format!(
            "you may not open the daemon's socket {socket} (permission denied). Nothing was sent. Use sudo, or ask \
             for membership in the socket's group: ls -l {socket}"
        ),
        kind => {
            let why = match kind {
                ErrorKind::NotFound => "no such socket".to_owned(),
                ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                _ => source.to_string(),
            };
            format!(
                "no daemon answers at {socket} ({why}). Records that were enqueued before are safe on disk. Start \
                 it with: systemctl start fieldsync (or say with --socket where it listens)"
            )
        }
    }
}

/// The daemon's message, ended as a sentence is.
pub(crate) fn sentence(message: &str) -> String {
    let message = plain(message.trim());
    if message.ends_with(['.', '!', '?']) { message.into_owned() } else { format!("{message}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> ClientError {
        ClientError::Refused {
            status,
            code: "some_code".to_owned(),
            message: "the record has no type".to_owned(),
            position: None,
        }
    }

    fn no_daemon(kind: ErrorKind) -> ClientError {
        ClientError::NoDaemon { socket: "/run/fieldsync/fieldsync.sock".into(), source: kind.into() }
    }

    fn lost(kind: ErrorKind) -> ClientError {
        ClientError::Lost { source: kind.into() }
    }

    #[test]
    fn every_refusal_has_its_exit_code() {
        let codes = [400, 401, 403, 404, 409, 413, 422, 500, 503, 507].map(|s| exit_code(&refused(s)));
        assert_eq!(codes, [8, 1, 5, 4, 8, 8, 8, 1, 1, 7]);
        assert_eq!(exit_code(&no_daemon(ErrorKind::NotFound)), 3);
        assert_eq!(exit_code(&no_daemon(ErrorKind::PermissionDenied)), 5);
        assert_eq!(exit_code(&lost(ErrorKind::TimedOut)), 1);
    }

    #[test]
    fn a_failure_is_said_with_what_it_means_and_what_to_do() {
        for (error, [happened, means, next]) in [
            (
                no_daemon(ErrorKind::ConnectionRefused),
                [
                    "no daemon answers at /run/fieldsync/fieldsync.sock (connection refused). ",
                    " Records that were enqueued before are safe on disk. ",
                    " Start it with: systemctl start fieldsync (or say with --socket where it listens)",
                ],
            ),
            (
                no_daemon(ErrorKind::PermissionDenied),
                [
                    "you may not open the daemon's socket",
                    " Nothing was sent. ",
                    "Use sudo, or ask for membership",
                ],
            ),
            (
                lost(ErrorKind::TimedOut),
                [
                    "the daemon did not answer in time",
                    "records that it confirmed before are safe on disk",
                    "systemctl status fieldsync",
                ],
            ),
            (
                lost(ErrorKind::UnexpectedEof),
                [
                    "the daemon went away before its answer was complete",
                    "records that it confirmed before are safe on disk",
                    "journalctl -u fieldsync",
                ],
            ),
            (
                ClientError::Protocol("expected value".to_owned()),
                ["does not speak fieldsync's local API (expected value)", "are untouched", "Check --socket"],
            ),
        ] {
            let message = Failure::from(error).message;
            let places = [happened, means, next].map(|part| message.find(part));
            assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} {message}");
        }
    }

    #[test]
    fn a_closed_pipe_ends_quietly_and_a_full_disk_does_not() {
        assert_eq!(Failure::from(io::Error::from(ErrorKind::BrokenPipe)), Failure::new(0, ""));
        assert_eq!(Failure::from(io::Error::from(ErrorKind::StorageFull)).exit, 1);
    }

    #[test]
    fn the_daemons_message_is_a_sentence_and_its_code_is_kept() {
        let failure = Failure::from(refused(400));
        assert_eq!(failure.message, "the record has no type.");
        assert_eq!(failure.json(), r#"{"error":{"code":"some_code","message":"the record has no type."}}"#);
        let place = Place { file: "a.ndjson".to_owned(), line: 7 };
        let json = Failure::new(exit::REFUSED, "no.").at(Some(place)).json();
        assert_eq!(json, r#"{"error":{"code":"input_refused","message":"no.","file":"a.ndjson","line":7}}"#);
    }
}
