//! A record of a scene, and its fault.

use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) arrives: Duration,
    /// Its type.
    pub(crate) kind: usize,
    pub(crate) bytes: u64,
    pub(crate) fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// The server never finishes a batch with it.
    Hangs,
    /// It gets a result of its own.
    Rejected,
    /// The whole batch gets a 422, without saying which record is meant.
    Refused,
    /// Because of this one record, a firewall, a proxy or a crashing worker responds as if the sender were denied.
    Denied(Denial),
}

/// A response that denies the sender.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Denial {
    Forbidden,
    NotFound,
    UnsupportedMediaType,
    TooManyRequests,
    Unavailable,
    LoginPage,
    Redirect,
    TooLarge,
}
