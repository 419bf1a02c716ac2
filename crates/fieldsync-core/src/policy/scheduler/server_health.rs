//! The condition of the server before a batch is sent: whether it supports outcome queries, whether its health is in
//! doubt, and whether a canary would show more.
//!
//! An outcome query is cheap, so a server that failed or denied requests is queried before it is sent
//! another batch. But queries may be all that fails. So silence stops the batches only after another set of records
//! failed, too, and a record that the server is known to have; and a batch goes at least once per longest back-off.

use std::time::Duration;

use super::View;
use crate::config::{Config, OutcomeLookup};
use crate::model::BatchId;
use crate::policy::breaker::Mode;
use crate::policy::outcome_reply::OutcomeReply;

/// Whether the server has outcome queries.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum QuerySupport {
    /// No query got a response yet.
    #[default]
    Untested,
    /// A query got a response.
    Supported,
    /// The server has none, in this run.
    Unsupported,
}

/// The result of the last outcome query.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum LastQuery {
    /// A response of the protocol, or no query was sent.
    #[default]
    Answered,
    /// No response of the protocol.
    Failed,
    /// It did not even reach the server, and no batch was sent since.
    Unreachable,
}

/// What denials and responses show about the server as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum ServerStanding {
    /// The server works, as far as is known.
    #[default]
    Trusted,
    /// It denied a batch, and no batch has succeeded since.
    InQuestion,
    /// Queries succeed again after some had failed, and it denied nothing since.
    Recovered,
}

/// Whether a record that the server confirmed can be sent once more.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum CanaryState {
    /// No confirmed record is at hand.
    #[default]
    Missing,
    Ready,
    /// The last request was a canary, and it failed: another would show nothing new.
    Failed,
}

/// A batch that was sent, and when.
#[derive(Clone, Copy, Debug)]
struct SentBatch {
    id: BatchId,
    at: Duration,
}

/// The state of the server, as far as is known.
#[derive(Debug, Default)]
pub(super) struct ServerHealth {
    support: QuerySupport,
    last_query: LastQuery,
    standing: ServerStanding,
    canary: CanaryState,
    last_sent: Option<SentBatch>,
}

impl ServerHealth {
    /// A batch is about to be sent.
    pub(super) fn batch_sending(&mut self, now: Duration, id: BatchId) {
        self.last_sent = Some(SentBatch { id, at: now });
        if self.last_query == LastQuery::Unreachable {
            self.last_query = LastQuery::Failed;
        }
        if self.canary == CanaryState::Failed {
            self.canary = CanaryState::Ready;
        }
    }

    /// An outcome query got a reply, or failed.
    pub(super) fn query_ended(&mut self, reply: &OutcomeReply) {
        match reply {
            OutcomeReply::Completed(_) | OutcomeReply::Processing { .. } | OutcomeReply::UnknownBatch => {
                self.standing = match (self.last_query, self.standing) {
                    (LastQuery::Failed | LastQuery::Unreachable, _) => ServerStanding::Recovered,
                    (LastQuery::Answered, ServerStanding::InQuestion) => ServerStanding::Trusted,
                    (LastQuery::Answered, standing) => standing,
                };
                (self.support, self.last_query) = (QuerySupport::Supported, LastQuery::Answered);
            }
            OutcomeReply::Unsupported => {
                self.support = QuerySupport::Unsupported;
                if self.last_query == LastQuery::Unreachable {
                    self.last_query = LastQuery::Failed;
                }
            }
            OutcomeReply::Failed | OutcomeReply::Throttled => self.last_query = LastQuery::Failed,
            OutcomeReply::Unreachable => self.last_query = LastQuery::Unreachable,
        }
    }

    /// The server, or something in front of it, turned a batch away.
    pub(super) fn batch_denied(&mut self) {
        self.standing = ServerStanding::InQuestion;
    }

    /// The server responded with results for records.
    pub(super) fn batch_completed(&mut self) {
        if self.standing == ServerStanding::InQuestion {
            self.standing = ServerStanding::Trusted;
        }
    }

    /// The driver has a record that the server confirmed.
    pub(super) fn canary_confirmed(&mut self) {
        if self.canary == CanaryState::Missing {
            self.canary = CanaryState::Ready;
        }
    }

    /// The canary that was sent failed.
    pub(super) fn canary_failed(&mut self) {
        if self.canary == CanaryState::Ready {
            self.canary = CanaryState::Failed;
        }
    }

    /// A new run began: the server may support outcome queries by now.
    pub(super) fn run_started(&mut self) {
        if self.support == QuerySupport::Unsupported {
            self.support = QuerySupport::Untested;
        }
    }

    /// Whether a canary would show anything.
    pub(super) fn is_canary_ready(&self) -> bool {
        self.canary == CanaryState::Ready
    }

    /// Whether the last request was a canary that failed.
    pub(super) fn has_canary_failed(&self) -> bool {
        self.canary == CanaryState::Failed
    }

    /// Whether it denied a batch, and nothing got through since.
    pub(super) fn is_in_question(&self) -> bool {
        self.standing == ServerStanding::InQuestion
    }

    /// Whether queries succeed again after some had failed, and it denied nothing since.
    pub(super) fn has_recovered(&self) -> bool {
        self.standing == ServerStanding::Recovered
    }

    /// Whether the last outcome query got no response of the protocol.
    pub(super) fn is_silent(&self) -> bool {
        self.last_query != LastQuery::Answered
    }

    /// Whether outcome queries may be sent: they are enabled, and the server is not known to lack them.
    pub(super) fn may_query(&self, config: &Config) -> bool {
        queries_enabled(config) && self.support != QuerySupport::Unsupported
    }

    /// Whether the server is known to support outcome queries.
    pub(super) fn answers_queries(&self) -> bool {
        self.support == QuerySupport::Supported
    }

    /// Whether the server is known to lack outcome queries.
    pub(super) fn lacks_queries(&self) -> bool {
        self.support == QuerySupport::Unsupported
    }

    /// The batch to query before anything is sent, if there is reason to. `others_may_show`: another batch would show
    /// as much. `sent`: an open batch that was sent; else the last one of all is queried.
    pub(super) fn next_probe(
        &self,
        view: &View<'_>,
        others_may_show: bool,
        sent: Option<BatchId>,
    ) -> Option<BatchId> {
        let has_reason = self.is_in_question() || matches!(view.breaker.mode, Mode::Open { .. });
        if !has_reason || self.last_query == LastQuery::Unreachable || !self.may_query(view.config) {
            return None;
        }
        if self.is_silent() && others_may_show {
            return None;
        }
        let last = self.last_sent?;
        let is_recent = view.now.saturating_sub(last.at) < view.config.retry.max_backoff.0;
        is_recent.then(|| sent.unwrap_or(last.id))
    }
}

/// Whether the configuration allows outcome queries.
pub(super) fn queries_enabled(config: &Config) -> bool {
    config.server.outcome_lookup == OutcomeLookup::Auto
}
