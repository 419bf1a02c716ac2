//! What happens, line by line in the journal, with the fields to find it by.
//!
//! One line a batch at info, records only at debug; quarantine is a warning, because a person has to act. An outage
//! is told when it begins and when it ends. In between there is a line for each batch that a server was tried with,
//! and none for those that found no way to it: what goes on as before is for debug.
//!
//! What the server says of a record may quote it, and payloads reach no log: of that there are class and code.

use crate::api::{BatchOutcome, BatchReport};
use crate::journal;
use crate::model::{BatchId, Deferral, LastError, Link, LinkState, RecordId};
use crate::policy::breaker::{BreakerState, Mode};

/// What was told last of what goes on.
#[derive(Default)]
pub(super) struct Log {
    breaker: Option<Mode>,
    link: Option<(LinkState, Option<Deferral>)>,
    /// The last batch found no way to the server.
    lost: bool,
}

impl Log {
    pub(super) fn batch(&mut self, report: &BatchReport) {
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
                    "batch {} ({}, {} records; {}): {} after {} ms; {}",
                    report.id,
                    report.sequence,
                    report.records,
                    report.describe_size(),
                    report.outcome,
                    report.duration_ms,
                    report.note,
                )
            };
        }
        let was_lost = std::mem::replace(&mut self.lost, report.outcome == BatchOutcome::Unreachable);
        match report.outcome.known() {
            Some(BatchOutcome::Answered) => line!(info, journal::BATCH_ANSWERED),
            _ if self.lost && was_lost => line!(debug, journal::BATCH_FAILED),
            _ => line!(info, journal::BATCH_FAILED),
        }
    }

    /// A pause that follows a try is the same pause.
    pub(super) fn breaker(&mut self, state: &BreakerState) {
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

    /// That it is tried whether there is a way again is no news; what comes of it may be.
    pub(super) fn link(&mut self, link: &Link) {
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

pub(super) fn divided(from: BatchId, into: &[BatchId]) {
    let parts: Vec<String> = into.iter().map(ToString::to_string).collect();
    let parts = parts.join(", ");
    tracing::info!(name: journal::BATCH_DIVIDED, batch_id = %from, "batch {from} goes on as {parts}");
}

pub(super) fn synced(batch: BatchId, record: RecordId) {
    tracing::debug!(batch_id = %batch, record_id = %record, state = "SYNCED", "record {record} is synced");
}

pub(super) fn quarantined(batch: BatchId, record: RecordId, error: &LastError) {
    let LastError { class, code, .. } = error;
    let code = code.as_ref().map(|code| format!(", {code}")).unwrap_or_default();
    tracing::warn!(
        name: journal::RECORD_QUARANTINED,
        batch_id = %batch,
        record_id = %record,
        state = "QUARANTINED",
        http_status = error.http_status,
        "record {record} was set aside for review ({class}{code}); for what was said of it: fieldsync show {record}",
    );
}

pub(super) fn added_to_review(record: RecordId) {
    tracing::warn!(
        name: journal::RECORD_QUARANTINED,
        record_id = %record,
        state = "QUARANTINED",
        "record {record} was put under review on request; to mend it: fieldsync quarantine edit {record}",
    );
}
