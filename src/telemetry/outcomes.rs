//! Publishes the results of recent sends, from which alerts are judged.

use tokio::sync::watch;

use crate::api::BatchReport;
use crate::clock::SteadyClock;
use crate::policy::alerts::send_outcomes::SendOutcomes;

/// Publishes the results of recent sends.
pub struct OutcomeReporter {
    sender: watch::Sender<SendOutcomes>,
    steady: SteadyClock,
}

impl OutcomeReporter {
    /// Publishes on this channel.
    pub fn new(sender: watch::Sender<SendOutcomes>, steady: SteadyClock) -> Self {
        Self { sender, steady }
    }

    /// Adds the result of a send.
    pub(crate) fn record(&self, report: &BatchReport) {
        if let Some(outcome) = report.outcome.known() {
            let now = self.steady.now().steady;
            self.sender.send_modify(|outcomes| outcomes.record(now, outcome));
        }
    }
}
