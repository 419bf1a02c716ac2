//! Publishes the results of recent sends, from which alerts are judged.

use tokio::sync::watch;

use crate::api::BatchReport;
use crate::clock::SteadyClock;
use crate::policy::alerts::send_outcomes::{SendEnd, SendOutcomes};

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
    pub(crate) fn record(&self, report: &BatchReport, micro_batch: usize) {
        if let Some(outcome) = report.outcome.known() {
            let now = self.steady.now().steady;
            let is_learning = report.expected_ms.is_none() && report.records > micro_batch;
            let end = SendEnd { outcome, http_status: report.http_status, is_learning };
            self.sender.send_modify(|outcomes| outcomes.record(now, end));
        }
    }
}
