//! Why a verb failed, as an exit code and as a sentence: what happened, what it means for the data, what to do next.

use std::io::{self, ErrorKind};

use super::words::plain;
use crate::exit;
use crate::ipc::client::ClientError;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: u8,
    /// Empty when there is nothing to say.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: u8, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { exit, message }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(exit::FAILED, message)
    }

    /// Standard output is gone: whoever read it has seen enough.
    fn quiet() -> Self {
        Self::new(exit::DONE, "")
    }
}

/// Errors of standard output; those of files are named where they happen.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            Self::quiet()
        } else {
            Self::failed(format!("cannot write to standard output: {error}."))
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = explain(&error);
        Self::new(exit_code(&error), message)
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

fn explain(error: &ClientError) -> String {
    match error {
        ClientError::NoDaemon { socket, source } => no_daemon(&socket.display().to_string(), source),
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
            "what answers at the socket does not speak fieldsync's local API ({}). Check --socket, and that daemon \
             and command line are of one version.",
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
                 it with: systemctl start fieldsync"
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

    #[test]
    fn every_refusal_has_its_exit_code() {
        let codes = [400, 401, 403, 404, 409, 413, 422, 500, 503, 507].map(|s| exit_code(&refused(s)));
        assert_eq!(codes, [8, 1, 5, 4, 8, 8, 8, 1, 1, 7]);
        assert_eq!(exit_code(&no_daemon(ErrorKind::NotFound)), 3);
        assert_eq!(exit_code(&no_daemon(ErrorKind::PermissionDenied)), 5);
        let source = ErrorKind::TimedOut.into();
        assert_eq!(exit_code(&ClientError::Lost { source }), 1);
    }

    #[test]
    fn a_missing_daemon_is_said_with_what_it_means_and_what_to_do() {
        assert_eq!(
            Failure::from(no_daemon(ErrorKind::ConnectionRefused)).message,
            "no daemon answers at /run/fieldsync/fieldsync.sock (connection refused). Records that were enqueued \
             before are safe on disk. Start it with: systemctl start fieldsync"
        );
    }

    #[test]
    fn a_closed_pipe_ends_quietly_and_a_full_disk_does_not() {
        assert_eq!(Failure::from(io::Error::from(ErrorKind::BrokenPipe)), Failure::new(0, ""));
        assert_eq!(Failure::from(io::Error::from(ErrorKind::StorageFull)).exit, 1);
    }

    #[test]
    fn the_daemons_message_is_a_sentence() {
        assert_eq!(Failure::from(refused(400)).message, "the record has no type.");
    }
}
