//! What the alerts are judged from. The actor collects it from the states that others publish.

use super::restarts::RestartLog;
use super::send_outcomes::SendOutcomes;
use crate::api::ConfigurationRefusal;
use crate::clock::Now;
use crate::model::{Backlog, LinkState, Phase};
use crate::policy::breaker::Mode;

/// All facts of one moment.
#[derive(Clone, Copy, Debug)]
pub struct AlertFacts<'a> {
    /// The moment.
    pub now: Now,
    /// Records, disk and damage.
    pub backlog: &'a Backlog,
    /// The limit of the queue of which most is used.
    pub queue: &'a QueueFacts,
    /// Why a later configuration is not in effect.
    pub refusal: Option<&'a ConfigurationRefusal>,
    /// The token is sent unencrypted.
    pub is_token_in_clear: bool,
    /// The mode of the circuit breaker.
    pub breaker: Mode,
    /// Whether the server can be reached.
    pub link: LinkState,
    /// What the planner does.
    pub phase: Phase,
    /// Results of recent sends.
    pub outcomes: &'a SendOutcomes,
    /// The number of batches that are denied while others succeed.
    pub denied_batches: usize,
    /// The last response of the server, and its clock.
    pub contact: ServerContact,
    /// When the credentials expire.
    pub expiry: CredentialExpiry,
    /// The starts of the daemon.
    pub starts: &'a RestartLog,
}

/// How full the queue is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueFacts {
    /// Records or bytes that are used.
    pub used: u64,
    /// Their limit.
    pub limit: u64,
    /// One more record is refused.
    pub is_full: bool,
    /// Both in words.
    pub message: String,
}

/// The last response of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerContact {
    /// When it came, in steady milliseconds; none if no response is known.
    pub at: Option<u64>,
    /// The server's clock, if a response named it.
    pub clock: Option<ClockReading>,
}

/// The clock of the server at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The moment, in steady milliseconds.
    pub at: u64,
    /// What the server's clock showed, in milliseconds since 1970.
    pub server: u64,
}

/// When the credentials expire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialExpiry {
    /// The token, if it says so (a JWT).
    pub token: Option<Validity>,
    /// The client certificate.
    pub certificate: Option<Validity>,
}

/// A period of validity, in wall milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its begin, if it is known.
    pub begins: Option<u64>,
    /// Its end.
    pub ends: u64,
}
