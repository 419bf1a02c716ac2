//! The states that alerts are judged from, and the facts in them.

use tokio::sync::watch;

use crate::actors::ConfigWatch;
use crate::actors::batch_planner::PlannerState;
use crate::clock::Now;
use crate::config::Config;
use crate::config_state::ConfigState;
use crate::model::{Backlog, Link};
use crate::policy::alerts::facts::{AlertFacts, CredentialExpiry, ServerContact};
use crate::policy::alerts::restarts::RestartLog;
use crate::policy::alerts::send_outcomes::SendOutcomes;
use crate::policy::breaker::BreakerState;
use crate::store::QueueFill;
use crate::transport::credential::warn_of_clear_token;

/// The states that alerts are judged from.
#[derive(Clone)]
pub struct AlertInputs {
    /// The current configuration.
    pub config: ConfigWatch,
    /// Whether a later one was refused.
    pub config_state: watch::Receiver<ConfigState>,
    /// The state of the queue.
    pub backlog: watch::Receiver<Backlog>,
    /// The connection to the server.
    pub link: watch::Receiver<Link>,
    /// The circuit breaker.
    pub breaker: watch::Receiver<BreakerState>,
    /// What the planner is doing.
    pub planner: watch::Receiver<PlannerState>,
    /// Results of recent sends.
    pub outcomes: watch::Receiver<SendOutcomes>,
    /// The last response of the server.
    pub contact: watch::Receiver<ServerContact>,
    /// When the credentials expire.
    pub expiry: watch::Receiver<CredentialExpiry>,
}

impl AlertInputs {
    /// Waits until one of them changes. Returns false when the daemon is stopping.
    pub(super) async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.backlog.changed() => changed.is_ok(),
            changed = self.link.changed() => changed.is_ok(),
            changed = self.breaker.changed() => changed.is_ok(),
            changed = self.planner.changed() => changed.is_ok(),
            changed = self.outcomes.changed() => changed.is_ok(),
            changed = self.contact.changed() => changed.is_ok(),
            changed = self.expiry.changed() => changed.is_ok(),
            changed = self.config.changed() => changed.is_ok(),
            changed = self.config_state.changed() => changed.is_ok(),
        }
    }

    /// Collects the facts. The channels stay locked meanwhile: `judge` must be quick.
    pub(super) fn with_facts<R>(
        &self,
        now: Now,
        config: &Config,
        starts: &RestartLog,
        judge: impl FnOnce(&AlertFacts<'_>) -> R,
    ) -> R {
        let (backlog, config_state) = (self.backlog.borrow(), self.config_state.borrow());
        let queue = QueueFill::fullest(&backlog, config).to_facts();
        judge(&AlertFacts {
            now,
            backlog: &backlog,
            queue: &queue,
            refusal: config_state.refusal.as_ref(),
            is_token_in_clear: warn_of_clear_token(&config.server).is_some(),
            breaker: self.breaker.borrow().mode,
            link: self.link.borrow().state,
            phase: self.planner.borrow().phase,
            outcomes: &self.outcomes.borrow(),
            denied_batches: self.planner.borrow().denied.len(),
            contact: *self.contact.borrow(),
            expiry: *self.expiry.borrow(),
            starts,
        })
    }
}
