//! What the daemon's status says about records, and what waits for a person.

use super::finding::{Finding, or_ok};
use crate::api::{Phase, Status};
use crate::cli::format::{blocked_records, count, relative, strip_controls};
use crate::cli::status::records_need_review;
use crate::cli::table::error_text;
use crate::clock::wall_ms;
use crate::model::LastError;

pub(super) fn judge_records(status: Option<&Status>) -> Vec<Finding> {
    let Some(status) = status else {
        return vec![Finding::unchecked(
            "the state of the records is not known without a running daemon; accepted records are on disk",
            "see the findings about the socket",
        )];
    };
    let mut findings: Vec<Finding> = judge_phase(status).into_iter().collect();
    findings.extend(judge_last_send(status, wall_ms()));
    if status.records.quarantined > 0 {
        findings.push(Finding::warning(
            format!("{}: the server did not accept them", records_need_review(status.records.quarantined)),
            "fieldsync quarantine list",
        ));
    }
    findings.extend(status.queue.blockers.iter().map(|blocker| {
        Finding::warning(
            format!(
                "record {} ({}) blocks {} of its key",
                blocker.id,
                blocker.state.name(),
                blocked_records(blocker.blocked_count)
            ),
            format!("fieldsync show {}", blocker.id),
        )
    }));
    findings.extend(status.sync.denied.iter().map(|set| {
        let denial = set.error.http_status.map_or(set.error.class.clone(), |http| format!("HTTP {http}"));
        Finding::warning(
            format!(
                "a batch of {} is refused ({denial}) while others are accepted: something between here and the server rejects one of its records",
                count(set.records as u64, "record")
            ),
            "nothing: the daemon finds the record and quarantines it; to quarantine one now: fieldsync quarantine add ID",
        )
    }));
    or_ok(findings, || strip_controls(&status.sync.text).into_owned())
}

/// Phases that do not end by themselves.
fn judge_phase(status: &Status) -> Option<Finding> {
    let text = strip_controls(status.sync.text.trim_end_matches('.'));
    let reason = status.sync.last_error.as_ref().map(|error| strip_controls(&error.message).into_owned());
    let text_and_reason = reason
        .filter(|reason| !reason.is_empty())
        .map_or_else(|| text.clone().into_owned(), |reason| format!("{text} ({reason})"));
    match status.sync.phase.known()? {
        Phase::Paused => Some(Finding::warning(text, "fieldsync resume")),
        Phase::AuthRequired => Some(Finding::problem(
            format!("{text_and_reason}: nothing is sent until the token or certificate is replaced"),
            "see the findings about tokens, certificates and the server; the daemon uses a new token at once",
        )),
        Phase::Misconfigured => Some(Finding::problem(
            format!("{text_and_reason}: nothing is sent until this is corrected"),
            "see the findings about the configuration and the server; then: systemctl reload fieldsync",
        )),
        Phase::Idle | Phase::Syncing | Phase::Waiting | Phase::Offline | Phase::Deferred => None,
    }
}

/// Why the last send failed, if records wait for that and none was sent since.
pub(super) fn failed_last_send(status: &Status) -> Option<&LastError> {
    let Status { sync, records, .. } = status;
    let is_waiting = records.pending + records.syncing + records.failed > 0;
    let is_latest = |error: &&LastError| sync.last_success_at.is_none_or(|success| success < error.at);
    let is_sending = matches!(
        sync.phase.known(),
        Some(Phase::Waiting | Phase::Syncing | Phase::AuthRequired | Phase::Misconfigured)
    );
    sync.last_error.as_ref().filter(is_latest).filter(|_| is_waiting && is_sending)
}

/// The probe only asks for an outcome: a server may respond to that, and fail at batches.
fn judge_last_send(status: &Status, now: u64) -> Option<Finding> {
    let sync = &status.sync;
    let error = failed_last_send(status)?;
    // For the other phases, `judge_phase` reports it.
    if !matches!(sync.phase.known(), Some(Phase::Waiting | Phase::Syncing)) {
        return None;
    }
    let success = match sync.last_success_at {
        Some(at) => format!("the last success was {}", relative(at, now)),
        None => "none has succeeded yet".to_owned(),
    };
    let text = format!("the last send failed {}: {}; {success}", relative(error.at, now), error_text(error));
    Some(Finding::warning(
        text,
        "nothing on this device if it passes; else tell the administrator of the server",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::finding::CheckResult;
    use super::*;
    use crate::api::Counts;
    use crate::cli::testing::sample_status;
    use crate::model::{Blocker, RecordId, RecordState};

    #[test]
    fn what_waits_for_a_person_is_reported_with_its_remedy() {
        let counts = Counts { quarantined: 2, ..Counts::default() };
        let mut status = sample_status(Phase::Paused, "Paused: 3 records waiting", counts);
        status.queue.blockers = vec![Blocker {
            id: RecordId::new(),
            key: Some("a secret of the customer".into()),
            submitter: 0,
            state: RecordState::Quarantined,
            blocked_count: 3,
        }];
        let findings = judge_records(Some(&status));
        let remedies: Vec<&str> = findings.iter().filter_map(|one| one.remedy.as_deref()).collect();
        assert_eq!(remedies[..2], ["fieldsync resume", "fieldsync quarantine list"]);
        assert!(remedies[2].starts_with("fieldsync show "), "{remedies:?}");
        assert!(findings.iter().all(|one| one.result == CheckResult::Warning), "{findings:?}");
        assert!(findings.iter().all(|one| !one.text.contains("customer")), "keys are not shown");
    }

    #[test]
    fn a_daemon_that_cannot_continue_by_itself_is_a_problem() {
        for (phase, problem) in [
            (Phase::AuthRequired, true),
            (Phase::Misconfigured, true),
            (Phase::Offline, false),
            (Phase::Idle, false),
        ] {
            let findings = judge_records(Some(&sample_status(phase, "The sentence", Counts::default())));
            assert_eq!(findings[0].result == CheckResult::Problem, problem, "{findings:?}");
        }
    }
}
