//! What is known of the server before it is sent anything: how look-ups fare, and whether there is reason to
//! ask one first.
//!
//! A look-up costs next to nothing, so a server that failed us or sent us away is looked up before it is sent
//! another batch. But look-ups may be all that fails: so they are believed only after another set of records
//! failed, and a record that the server is known to have; and a batch goes at least once per longest back-off.

use std::time::Duration;

use super::bisection::Failing;
use super::{Scheduler, View, looks_up};
use crate::config::Config;
use crate::model::BatchId;
use crate::policy::breaker::Mode;

/// How look-ups fare.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum LookUps {
    /// None was answered yet.
    #[default]
    Untried,
    /// The server has answered one.
    Answered,
    /// The server has none, in this run.
    Missing,
}

/// What is known of the server.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Liveness {
    pub(super) look_ups: LookUps,
    /// The last look-up got no answer of the protocol.
    pub(super) is_silent: bool,
    /// It did not even get to the server, and nothing was sent since.
    pub(super) is_mute: bool,
    /// Look-ups are answered again after some were not, and nothing was denied since.
    pub(super) is_back: bool,
    /// The server failed us or sent us away, and nothing got through since.
    pub(super) in_question: bool,
    /// A batch that was sent, which a look-up can name, and when that was.
    last_sent: Option<(BatchId, Duration)>,
    /// The driver has a record that the server confirmed.
    pub(super) control_ready: bool,
    /// The last request was a control, and it failed: another would tell no more.
    pub(super) control_failed: bool,
}

impl Liveness {
    /// A batch is about to be sent.
    pub(super) fn sending(&mut self, now: Duration, id: BatchId) {
        self.last_sent = Some((id, now));
        (self.is_mute, self.control_failed) = (false, false);
    }

    /// Whether a control would tell anything.
    pub(super) fn may_control(&self) -> bool {
        self.control_ready && !self.control_failed
    }
}

impl Scheduler {
    /// Whether outcomes can be asked for, as far as is known.
    pub(super) fn has_look_up(&self, config: &Config) -> bool {
        looks_up(config) && self.liveness.look_ups != LookUps::Missing
    }

    /// What to look up before a server in question is sent anything.
    pub(super) fn liveness_probe(&self, view: &View<'_>) -> Option<BatchId> {
        let open = matches!(view.breaker.mode, Mode::Open { .. });
        if !(open || self.liveness.in_question) || self.liveness.is_mute || !self.has_look_up(view.config) {
            return None;
        }
        let others_may_tell = if self.liveness.in_question {
            !self.is_everyone_denied()
        } else {
            matches!(self.failing, Failing::One(_))
        };
        if self.liveness.is_silent && others_may_tell {
            return None;
        }
        let (last, sent_at) = self.liveness.last_sent?;
        if view.now.saturating_sub(sent_at) >= view.config.retry.max_backoff.0 {
            return None;
        }
        let sent = self.open.values().find(|entry| entry.batch.attempt > 0);
        Some(sent.map_or(last, |entry| entry.batch.id))
    }
}
