//! Why a database operation failed, and whether a retry can help.

use std::error::Error;
use std::io;

use tokio_postgres::Error as DatabaseError;
use tokio_postgres::error::SqlState;

use super::schema::SCHEMA;
use crate::causes::with_causes;
use crate::ledger::LedgerError;

/// Why a database operation failed.
#[derive(Debug)]
pub(super) enum OperationError {
    Database(DatabaseError),
    Encoding(serde_json::Error),
    /// Another gateway was faster: a retry will see what it did.
    Conflict,
    /// The server accepts no writes: another server may, or this one later.
    ReadOnly,
    /// A server does not respond.
    NoResponse,
    /// The tables have another layout now.
    SchemaChanged(i64),
}

impl From<DatabaseError> for OperationError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<serde_json::Error> for OperationError {
    fn from(error: serde_json::Error) -> Self {
        Self::Encoding(error)
    }
}

/// What may help after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryAdvice {
    /// Repeat the operation.
    Retry,
    /// Repeat the operation in a new session.
    Reconnect,
    /// Repeat the operation later.
    Later,
    /// No repetition helps.
    Never,
}

impl OperationError {
    pub(super) fn retry_advice(&self) -> RetryAdvice {
        match self {
            Self::Conflict => RetryAdvice::Retry,
            Self::ReadOnly => RetryAdvice::Reconnect,
            Self::NoResponse | Self::SchemaChanged(_) => RetryAdvice::Later,
            Self::Encoding(_) => RetryAdvice::Never,
            Self::Database(error) => match error.code() {
                Some(state) => advice_for_state(state),
                None if error.is_closed() || is_io(error) => RetryAdvice::Reconnect,
                None => RetryAdvice::Never,
            },
        }
    }

    /// For an operation that did not start: without a session, the state of the ledger is unknown.
    pub(super) fn into_unreachable(self) -> LedgerError {
        match self.into_ledger_error() {
            LedgerError::Storage(cause) => LedgerError::Unreachable(cause),
            error => error,
        }
    }

    pub(super) fn into_ledger_error(self) -> LedgerError {
        let advice = self.retry_advice();
        let cause: Box<dyn Error + Send + Sync> = match self {
            Self::Encoding(error) => return error.into(),
            Self::Database(error) => RedactedDbError::new(&error).into(),
            Self::Conflict => "other gateways were faster every time".into(),
            Self::ReadOnly => "the database is read-only".into(),
            Self::NoResponse => "the database does not respond".into(),
            Self::SchemaChanged(found) => {
                format!("the tables now have schema {found}; this program knows schema {SCHEMA}").into()
            }
        };
        if advice == RetryAdvice::Never {
            LedgerError::Storage(cause)
        } else {
            LedgerError::Unreachable(cause)
        }
    }
}

fn advice_for_state(state: &SqlState) -> RetryAdvice {
    match state.code() {
        // Serialization failure, deadlock.
        "40001" | "40P01" => RetryAdvice::Retry,
        // The server is stopping or starting, or became read-only.
        "57P01" | "57P02" | "57P03" | "57P05" | "25006" => RetryAdvice::Reconnect,
        // A time-out: of the statement, of a lock, or between statements.
        "57014" | "55P03" | "25P03" => RetryAdvice::Later,
        code if code.starts_with("08") => RetryAdvice::Reconnect,
        // No disk space, memory or connections left.
        code if code.starts_with("53") => RetryAdvice::Later,
        // Tables, permissions or disks that an administrator has to repair. No record is faulty.
        code if ["42", "3F", "58", "XX"].iter().any(|class| code.starts_with(class)) => RetryAdvice::Later,
        _ => RetryAdvice::Never,
    }
}

/// A database error without the server's details, which may quote rows.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct RedactedDbError {
    text: String,
    /// Neither time nor a restart helps: for example wrong credentials, missing permissions, an unknown database.
    pub(super) is_permanent: bool,
}

impl RedactedDbError {
    fn new(error: &DatabaseError) -> Self {
        match error.as_db_error() {
            Some(error) => Self {
                text: format!("{} (SQLSTATE {})", error.message(), error.code().code()),
                is_permanent: ["28", "3D", "42"].iter().any(|class| error.code().code().starts_with(class)),
            },
            None => Self { text: with_causes(error), is_permanent: !error.is_closed() && !is_io(error) },
        }
    }
}

fn is_io(error: &DatabaseError) -> bool {
    error.source().is_some_and(<dyn Error>::is::<io::Error>)
}

#[cfg(test)]
mod tests {
    use tokio_postgres::error::SqlState;

    use super::{OperationError, RetryAdvice, advice_for_state};
    use crate::ledger::LedgerError;

    #[test]
    fn the_retry_advice_follows_from_the_sqlstate() {
        let cases = [
            (SqlState::T_R_DEADLOCK_DETECTED, RetryAdvice::Retry),
            (SqlState::T_R_SERIALIZATION_FAILURE, RetryAdvice::Retry),
            (SqlState::ADMIN_SHUTDOWN, RetryAdvice::Reconnect),
            (SqlState::READ_ONLY_SQL_TRANSACTION, RetryAdvice::Reconnect),
            (SqlState::CONNECTION_FAILURE, RetryAdvice::Reconnect),
            (SqlState::QUERY_CANCELED, RetryAdvice::Later),
            (SqlState::DISK_FULL, RetryAdvice::Later),
            (SqlState::TOO_MANY_CONNECTIONS, RetryAdvice::Later),
            (SqlState::UNDEFINED_TABLE, RetryAdvice::Later),
            (SqlState::INSUFFICIENT_PRIVILEGE, RetryAdvice::Later),
            (SqlState::INVALID_SCHEMA_NAME, RetryAdvice::Later),
            (SqlState::IO_ERROR, RetryAdvice::Later),
            (SqlState::INDEX_CORRUPTED, RetryAdvice::Later),
            (SqlState::CHECK_VIOLATION, RetryAdvice::Never),
        ];
        for (state, expected) in cases {
            assert_eq!(advice_for_state(&state), expected, "{}", state.code());
        }
    }

    #[test]
    fn a_conflict_in_every_attempt_is_worth_a_later_retry() {
        assert!(matches!(OperationError::Conflict.into_ledger_error(), LedgerError::Unreachable(_)));
    }
}
