//! The pushes of one signal: when the next may begin, and which of their results the journal gets. A collector may accept
//! metrics and not alerts, so a failure of one signal does not delay the other.

use std::time::Duration;

use super::push_schedule::PushSchedule;
use crate::transport::http::collector::{CollectorNotice, Signal};

/// Why a push ended without success.
pub(super) struct PushFailure {
    pub(super) reason: String,
    pub(super) retry_after: Option<Duration>,
}

impl PushFailure {
    /// Nothing was sent.
    pub(super) fn on_device(reason: String) -> Self {
        Self { reason, retry_after: None }
    }
}

/// What decides about the next push.
pub(super) struct PushTimes {
    pub(super) now: Duration,
    /// Shortest time between two pushes.
    pub(super) interval: Duration,
    /// Longest wait that the collector may ask for.
    pub(super) retry_after_max: Duration,
}

/// The pushes of one signal.
pub(super) struct SignalPushes {
    /// The signal, for people.
    content: &'static str,
    schedule: PushSchedule,
    /// How many responses of the server there were at the last push.
    contacts: u64,
    last_notice: Option<CollectorNotice>,
}

impl SignalPushes {
    pub(super) fn new(signal: Signal) -> Self {
        let content = match signal {
            Signal::Metrics => "metrics",
            Signal::Logs => "alerts",
        };
        Self { content, schedule: PushSchedule::default(), contacts: 0, last_notice: None }
    }

    /// What failed before may work now.
    pub(super) fn forget_failure(&mut self) {
        if self.schedule.has_failed() {
            self.schedule = PushSchedule::default();
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.schedule.has_failed()
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.schedule.is_due(now)
    }

    /// Whether the server responded after the last push.
    pub(super) fn is_before(&self, contacts: u64) -> bool {
        self.contacts < contacts
    }

    /// A push begins.
    pub(super) fn begin(&mut self, contacts: u64) {
        self.contacts = contacts;
    }

    /// A push ended.
    pub(super) fn end(&mut self, result: Result<Option<CollectorNotice>, PushFailure>, times: &PushTimes) {
        let (content, has_failed) = (self.content, self.schedule.has_failed());
        match result {
            Ok(notice) => {
                if has_failed {
                    tracing::info!("{content} are pushed to the collector again");
                }
                self.log_notice(notice);
                self.schedule.record_success(times.now, times.interval);
            }
            Err(PushFailure { reason, retry_after }) => {
                if has_failed {
                    tracing::debug!("{content} could not be pushed to the collector: {reason}");
                } else {
                    tracing::warn!(
                        "{content} could not be pushed to the collector: {reason}. Records are synced regardless; the \
                         next attempt follows a later response of the server"
                    );
                }
                let PushTimes { now, interval, retry_after_max } = *times;
                self.schedule.record_failure(now, interval, retry_after, retry_after_max);
            }
        }
    }

    /// Many collectors say the same after each push. The journal is on flash, and gets it once.
    fn log_notice(&mut self, notice: Option<CollectorNotice>) {
        let Some(notice) = notice else { return };
        let content = self.content;
        let is_rejection = |notice: &CollectorNotice| notice.rejected > 0;
        let is_known = self.last_notice.as_ref().is_some_and(|last| {
            last.explanation == notice.explanation && is_rejection(last) == is_rejection(&notice)
        });
        match (is_known, is_rejection(&notice)) {
            (true, _) => tracing::debug!("{content} were accepted: {notice}"),
            (false, true) => tracing::warn!("{content} were accepted only partly: {notice}"),
            (false, false) => tracing::info!("{content} were accepted: {notice}"),
        }
        self.last_notice = Some(notice);
    }
}
