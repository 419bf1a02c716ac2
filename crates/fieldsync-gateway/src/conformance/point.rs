//! One point of the protocol: what it is called, where it is written, and the check that judges it.

use std::pin::Pin;

use super::finding::PointResult;
use super::server::TestedServer;

/// The running check of a point.
pub(super) type PointCheck<'a> = Pin<Box<dyn Future<Output = PointResult> + 'a>>;

/// A point of the protocol.
pub(super) struct Point {
    /// Section and name, for programs.
    pub(super) id: &'static str,
    /// What must hold, for people.
    pub(super) title: &'static str,
    /// Section of `docs/wire-protocol.md`, and after a colon the paragraph.
    pub(super) paragraph: &'static str,
    pub(super) check: for<'a> fn(&'a TestedServer) -> PointCheck<'a>,
}

pub(super) const SENDING: &str = "Sending a batch";
pub(super) const RESPONSE: &str = "The response";
pub(super) const ALL_RESPONSES: &str = "All responses";
pub(super) const LOOK_UP: &str = "Looking up an outcome";
pub(super) const SERVER_DUTIES: &str = "What the server must do";
pub(super) const KNOW_BATCHES: &str = "What the server must do: Know batches";
pub(super) const KNOW_RECORDS: &str = "What the server must do: Know records";
pub(super) const REFUSE: &str = "What the server must do: Refuse what is not a batch";
pub(super) const READ_BOUNDED: &str = "What the server must do: Bound what is read";
pub(super) const FINISH: &str = "What the server must do: Finish what has begun";
pub(super) const KEEP_ORDER: &str = "What the server must do: Keep the order";
