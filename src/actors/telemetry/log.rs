//! The journal entries, with the fields to find them by.
//!
//! Each batch is one line at info; single records are logged at debug. A quarantine is a warning, because a person has
//! to act. An outage is logged when it begins and when it ends. Meanwhile, a batch that reached a server is logged at
//! info; one that could not be sent, like the batch before it, only at debug.
//!
//! A message of the server may quote a record, and payloads must not be logged: so only class and code are.

use crate::api::batch_reasons::describe_in_flight_rule;
use crate::api::{BatchOutcome, BatchReport};
use crate::journal;
use crate::model::{BatchId, Deferral, LastError, Link, LinkState, RecordId};
use crate::policy::breaker::{BreakerState, Mode};
use crate::policy::in_flight::InFlight;

/// The states that were logged last.
#[derive(Default)]
pub(super) struct JournalLog {
    breaker: Option<Mode>,
    link: Option<(LinkState, Option<Deferral>)>,
    /// The last batch could not reach the server.
    is_unreachable: bool,
}

impl JournalLog {
    pub(super) fn log_batch(&mut self, report: &BatchReport) {
        macro_rules! line {
            ($level:ident, $id:expr) => {
                tracing::$level!(
                    name: $id,
                    batch_id = %report.id,
                    parent_id = report.parent.map(tracing::field::display),
                    records = report.records,
                    bytes = report.bytes,
                    attempt = report.attempt,
                    duration_ms = report.duration_ms,
                    http_status = report.http_status,
                    outcome = %report.outcome,
                    in_flight = report.in_flight,
                    in_flight_rule = %report.in_flight_rule,
                    "batch {} ({}, {} record{}; {}): {} after {} ms; {}",
                    report.id,
                    report.sequence,
                    report.records,
                    if report.records == 1 { "" } else { "s" },
                    report.describe_size(),
                    report.outcome,
                    report.duration_ms,
                    report.note,
                )
            };
        }
        let was_unreachable =
            std::mem::replace(&mut self.is_unreachable, report.outcome == BatchOutcome::Unreachable);
        match report.outcome.known() {
            Some(BatchOutcome::Answered) => line!(info, journal::BATCH_ANSWERED),
            _ if self.is_unreachable && was_unreachable => line!(debug, journal::BATCH_FAILED),
            _ => line!(info, journal::BATCH_FAILED),
        }
    }

    /// A pause that continues after a failed probe is not logged again.
    pub(super) fn log_breaker(&mut self, state: &BreakerState) {
        macro_rules! line {
            ($level:ident, $($id:tt)*) => {{
                let (mode, failures) = (state.mode.name(), state.consecutive_failures);
                tracing::$level!($($id)* breaker = mode, "breaker: {mode} after {failures} failures in a row");
            }};
        }
        match (self.breaker.replace(state.mode), state.mode) {
            (_, Mode::Probing) | (Some(Mode::Probing), Mode::Open { .. }) => line!(debug,),
            (_, Mode::Open { .. } | Mode::Micro) => line!(info, name: journal::BREAKER_OPENED,),
            (_, Mode::Normal) => line!(info, name: journal::SERVER_RECOVERED,),
        }
    }

    /// An attempt to reach the server is logged at debug only; its result may be logged at info.
    pub(super) fn log_link(&mut self, link: &Link) {
        macro_rules! line {
            ($level:ident, $($id:tt)*) => {{
                let state = link.state.name();
                let held = match link.deferral {
                    Some(Deferral::Metered) => "; metered: records wait for another network",
                    Some(Deferral::Battery) => "; the battery is low: records wait",
                    None => "",
                };
                tracing::$level!($($id)* connectivity = state, "connectivity: {state}{held}");
            }};
        }
        let now = (link.state, link.deferral);
        let tried = link.state == LinkState::Unknown && link.deferral.is_none();
        if tried || self.link == Some(now) {
            return line!(debug,);
        }
        self.link = Some(now);
        match link.state {
            LinkState::Online => line!(info, name: journal::ONLINE,),
            LinkState::Offline => line!(info, name: journal::OFFLINE,),
            LinkState::CaptivePortal => line!(info, name: journal::CAPTIVE_PORTAL,),
            LinkState::Unknown => line!(info,),
        }
    }
}

pub(super) fn log_in_flight_limit(in_flight: &InFlight) {
    let InFlight { limit, max, rule, .. } = *in_flight;
    let words = describe_in_flight_rule(&rule.into());
    tracing::info!(
        name: journal::IN_FLIGHT_LIMIT_CHANGED,
        in_flight_limit = limit,
        in_flight_rule = rule.name(),
        "at most {limit} {} may be under way at once, of {max} at most: {words}",
        if limit == 1 { "batch" } else { "batches" },
    );
}

pub(super) fn log_division(from: BatchId, into: &[BatchId]) {
    let parts: Vec<String> = into.iter().map(ToString::to_string).collect();
    let parts = parts.join(", ");
    tracing::info!(name: journal::BATCH_DIVIDED, batch_id = %from, "batch {from} continues as {parts}");
}

pub(super) fn log_synced(batch: BatchId, record: RecordId) {
    tracing::debug!(batch_id = %batch, record_id = %record, state = "SYNCED", "record {record} is synced");
}

pub(super) fn log_quarantined(batch: BatchId, record: RecordId, error: &LastError) {
    let LastError { class, code, .. } = error;
    let code = code.as_ref().map(|code| format!(", {code}")).unwrap_or_default();
    tracing::warn!(
        name: journal::RECORD_QUARANTINED,
        batch_id = %batch,
        record_id = %record,
        state = "QUARANTINED",
        http_status = error.http_status,
        "record {record} needs review ({class}{code}); for details: fieldsync show {record}",
    );
}

pub(super) fn log_added_to_review(record: RecordId) {
    tracing::warn!(
        name: journal::RECORD_QUARANTINED,
        record_id = %record,
        state = "QUARANTINED",
        "record {record} was marked for review on request; to correct it: fieldsync quarantine edit {record}",
    );
}
