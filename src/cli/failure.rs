//! Why a command failed: an exit code, a code for programs, and a message that says what happened, what it means for the
//! data, and what to do.

use std::borrow::Cow;
use std::io::{self, ErrorKind};

use serde::Serialize;

use super::format::strip_controls;
use crate::client::ClientError;
use crate::exit;

/// The exit code of a shell for a program that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandFailure {
    pub(crate) exit: u8,
    /// The daemon's code, or one of those that `--help` lists.
    pub(crate) code: Cow<'static, str>,
    /// Empty if nothing is to be printed.
    pub(crate) message: String,
    /// The line of the input with the mistake.
    pub(crate) place: Option<InputPlace>,
}

/// A position in the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct InputPlace {
    pub(crate) file: String,
    pub(crate) line: u64,
}

impl CommandFailure {
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

    /// Ctrl-C.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self::new(INTERRUPTED, message)
    }

    pub(crate) fn with_code(self, code: impl Into<Cow<'static, str>>) -> Self {
        Self { code: code.into(), ..self }
    }

    pub(crate) fn with_place(self, place: Option<InputPlace>) -> Self {
        Self { place, ..self }
    }

    /// The output could not be written, although the command was executed (`done`).
    pub(crate) fn output_failed(error: &io::Error, done: &str) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            return Self::silent();
        }
        Self::failed(format!("cannot write to standard output: {error}. {done}")).with_code("output_failed")
    }

    /// The reader of standard output closed it.
    fn silent() -> Self {
        Self::new(exit::DONE, "")
    }

    /// In the form of the API's errors, on one line.
    pub(crate) fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct ErrorDocument<'a> {
            error: ErrorFields<'a>,
        }
        #[derive(Serialize)]
        struct ErrorFields<'a> {
            code: &'a str,
            message: &'a str,
            #[serde(flatten)]
            place: Option<&'a InputPlace>,
        }
        let error = ErrorFields { code: &self.code, message: &self.message, place: self.place.as_ref() };
        serde_json::to_string(&ErrorDocument { error }).unwrap_or_default()
    }
}

/// For errors of standard output. Errors of files are converted where they occur.
impl From<io::Error> for CommandFailure {
    fn from(error: io::Error) -> Self {
        let done = "The daemon executed the command; only the output could not be written. Free space at the destination before you \
                    continue.";
        Self::output_failed(&error, done)
    }
}

impl From<ClientError> for CommandFailure {
    fn from(error: ClientError) -> Self {
        let failure = Self::new(exit_code(&error), explain_error(&error));
        match error {
            ClientError::Refused { code, .. } => failure.with_code(code),
            ClientError::Lost { .. } => failure.with_code("connection_lost"),
            ClientError::Protocol(_) => failure.with_code("not_the_local_api"),
            ClientError::NoDaemon { .. } => failure,
        }
    }
}

/// The daemon's code for a part of an id that several records have.
const AMBIGUOUS_ID: &str = "ambiguous_id";

pub(crate) fn exit_code(error: &ClientError) -> u8 {
    match error {
        ClientError::NoDaemon { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            exit::NOT_PERMITTED
        }
        ClientError::NoDaemon { .. } => exit::NO_DAEMON,
        ClientError::Refused { code, .. } if code == AMBIGUOUS_ID => exit::FAILED,
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

/// Whether the daemon may have executed the request nevertheless.
pub(crate) fn is_outcome_unknown(error: &ClientError) -> bool {
    match error {
        ClientError::Lost { .. } | ClientError::Protocol(_) => true,
        // The queue or the disk is full: the daemon did not execute the request.
        ClientError::Refused { status: 507, .. } | ClientError::NoDaemon { .. } => false,
        ClientError::Refused { status, .. } => *status >= 500,
    }
}

fn explain_error(error: &ClientError) -> String {
    match error {
        ClientError::NoDaemon { socket, source } => explain_no_daemon(&socket.display().to_string(), source),
        // The daemon's messages already say what they mean and what to do.
        ClientError::Refused { message, .. } => as_sentence(message),
        ClientError::Lost { source } if source.kind() == ErrorKind::TimedOut => format!(
            "the daemon did not respond in time ({source}). It is not known whether it executed the command; records that \
             it confirmed before are safe on disk. Check it with: systemctl status fieldsync"
        ),
        ClientError::Lost { .. } => {
            "the connection to the daemon was lost before its response was complete. It is not known whether it executed the \
             command; records that it confirmed before are safe on disk. Try again, or find the reason with: \
             journalctl -u fieldsync"
                .to_owned()
        }
        ClientError::Protocol(what) => format!(
            "the program at the socket does not speak fieldsync's local API ({}). Records of the daemon are untouched. Check \
             --socket, and that the daemon and this program have the same version.",
            strip_controls(what)
        ),
    }
}

fn explain_no_daemon(socket: &str, source: &io::Error) -> String {
    match source.kind() {
        ErrorKind::PermissionDenied => format!(
            "you may not open the daemon's socket {socket} (permission denied). Nothing was sent. Use sudo, or ask \
             for membership in the group of the socket: ls -l {socket}"
        ),
        kind => {
            let why = match kind {
                ErrorKind::NotFound => "no such socket".to_owned(),
                ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                _ => source.to_string(),
            };
            format!(
                "no daemon responds at {socket} ({why}). Records that were enqueued before are safe on disk. Start \
                 it with: systemctl start fieldsync (or name its socket with --socket)"
            )
        }
    }
}

/// The daemon's message, with a full stop at the end.
pub(crate) fn as_sentence(message: &str) -> String {
    let message = strip_controls(message.trim());
    if message.ends_with(['.', '!', '?']) { message.into_owned() } else { format!("{message}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_error(status: u16) -> ClientError {
        ClientError::Refused {
            status,
            code: "some_code".to_owned(),
            message: "the record has no type".to_owned(),
            position: None,
        }
    }

    fn no_daemon_error(kind: ErrorKind) -> ClientError {
        ClientError::NoDaemon { socket: "/run/fieldsync/fieldsync.sock".into(), source: kind.into() }
    }

    fn lost_error(kind: ErrorKind) -> ClientError {
        ClientError::Lost { source: kind.into() }
    }

    #[test]
    fn every_refusal_has_its_exit_code() {
        let codes = [400, 401, 403, 404, 409, 413, 422, 500, 503, 507].map(|s| exit_code(&refused_error(s)));
        assert_eq!(codes, [8, 1, 5, 4, 8, 8, 8, 1, 1, 7]);
        assert_eq!(exit_code(&no_daemon_error(ErrorKind::NotFound)), 3);
        assert_eq!(exit_code(&no_daemon_error(ErrorKind::PermissionDenied)), 5);
        assert_eq!(exit_code(&lost_error(ErrorKind::TimedOut)), 1);
    }

    #[test]
    fn a_failure_says_what_it_means_and_what_to_do() {
        for (error, [happened, means, next]) in [
            (
                no_daemon_error(ErrorKind::ConnectionRefused),
                [
                    "no daemon responds at /run/fieldsync/fieldsync.sock (connection refused). ",
                    " Records that were enqueued before are safe on disk. ",
                    " Start it with: systemctl start fieldsync (or name its socket with --socket)",
                ],
            ),
            (
                no_daemon_error(ErrorKind::PermissionDenied),
                [
                    "you may not open the daemon's socket",
                    " Nothing was sent. ",
                    "Use sudo, or ask for membership",
                ],
            ),
            (
                lost_error(ErrorKind::TimedOut),
                [
                    "the daemon did not respond in time",
                    "records that it confirmed before are safe on disk",
                    "systemctl status fieldsync",
                ],
            ),
            (
                lost_error(ErrorKind::UnexpectedEof),
                [
                    "the connection to the daemon was lost before its response was complete",
                    "records that it confirmed before are safe on disk",
                    "journalctl -u fieldsync",
                ],
            ),
            (
                ClientError::Protocol("expected value".to_owned()),
                ["does not speak fieldsync's local API (expected value)", "are untouched", "Check --socket"],
            ),
        ] {
            let message = CommandFailure::from(error).message;
            let places = [happened, means, next].map(|part| message.find(part));
            assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} {message}");
        }
    }

    #[test]
    fn a_closed_pipe_is_silent_and_a_full_disk_is_reported() {
        assert_eq!(CommandFailure::from(io::Error::from(ErrorKind::BrokenPipe)), CommandFailure::new(0, ""));
        assert_eq!(CommandFailure::from(io::Error::from(ErrorKind::StorageFull)).exit, 1);
    }

    #[test]
    fn the_daemons_message_is_a_sentence_and_its_code_is_kept() {
        let failure = CommandFailure::from(refused_error(400));
        assert_eq!(failure.message, "the record has no type.");
        assert_eq!(
            failure.to_json(),
            r#"{"error":{"code":"some_code","message":"the record has no type."}}"#
        );
        let place = InputPlace { file: "a.ndjson".to_owned(), line: 7 };
        let json = CommandFailure::new(exit::REFUSED, "no.").with_place(Some(place)).to_json();
        assert_eq!(json, r#"{"error":{"code":"input_refused","message":"no.","file":"a.ndjson","line":7}}"#);
    }
}
