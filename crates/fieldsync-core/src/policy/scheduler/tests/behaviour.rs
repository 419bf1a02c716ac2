//! How the simulated server treats requests.

/// What the server does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Behaviour {
    Fine,
    /// It responds 504, but has applied the batch.
    Late,
    TimedOut,
    Failed,
    Lost,
    Unreachable,
    Portal,
    Throttled,
    Hurried,
    Refused,
    TooLarge,
    Busy,
    Reused,
    Encoding,
    Locked,
    Moved,
    Later,
    Silent,
}

pub(super) const EVERY_BEHAVIOUR: [Behaviour; 18] = [
    Behaviour::Fine,
    Behaviour::Late,
    Behaviour::TimedOut,
    Behaviour::Failed,
    Behaviour::Lost,
    Behaviour::Unreachable,
    Behaviour::Portal,
    Behaviour::Throttled,
    Behaviour::Hurried,
    Behaviour::Refused,
    Behaviour::TooLarge,
    Behaviour::Busy,
    Behaviour::Reused,
    Behaviour::Encoding,
    Behaviour::Locked,
    Behaviour::Moved,
    Behaviour::Later,
    Behaviour::Silent,
];

/// How it responds to outcome queries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum QueryBehaviour {
    Good,
    Failing,
    Throttled,
    Unreachable,
    Missing,
}

pub(super) const EVERY_QUERY_BEHAVIOUR: [QueryBehaviour; 5] = [
    QueryBehaviour::Good,
    QueryBehaviour::Failing,
    QueryBehaviour::Throttled,
    QueryBehaviour::Unreachable,
    QueryBehaviour::Missing,
];

/// What the server may do in an outage.
pub(super) const OUTAGE_BEHAVIOURS: [Behaviour; 11] = [
    Behaviour::TimedOut,
    Behaviour::Failed,
    Behaviour::Lost,
    Behaviour::Unreachable,
    Behaviour::Portal,
    Behaviour::Throttled,
    Behaviour::Hurried,
    Behaviour::Refused,
    Behaviour::TooLarge,
    Behaviour::Locked,
    Behaviour::Moved,
];

/// How the server may treat every batch with a faulty record.
pub(super) const RECORD_FAULTS: [Behaviour; 11] = [
    Behaviour::TimedOut,
    Behaviour::Failed,
    Behaviour::Lost,
    Behaviour::Refused,
    Behaviour::TooLarge,
    Behaviour::Locked,
    Behaviour::Moved,
    Behaviour::Portal,
    Behaviour::Throttled,
    Behaviour::Busy,
    Behaviour::Reused,
];

/// Those of them that show which of several records are faulty.
pub(super) const SEARCHED_FAULTS: [Behaviour; 8] = [
    Behaviour::TimedOut,
    Behaviour::Failed,
    Behaviour::Refused,
    Behaviour::TooLarge,
    Behaviour::Locked,
    Behaviour::Moved,
    Behaviour::Portal,
    Behaviour::Throttled,
];
