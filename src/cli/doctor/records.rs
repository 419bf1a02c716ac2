//! What stands in the daemon's status and waits for a person.

use super::finding::{Finding, or_well};
use crate::api::{Alert, AlertName, Phase, Status};
use crate::cli::words::{count, held, plain};

pub(super) fn judge(status: Option<&Status>) -> Vec<Finding> {
    let Some(status) = status else {
        return vec![Finding::unchecked(
            "without a daemon nobody tells how the records are; those that were accepted are on disk",
            "see what is found of the socket",
        )];
    };
    let mut findings: Vec<Finding> = status.alerts.iter().filter_map(alert).collect();
    findings.extend(phase(status));
    if status.records.quarantined > 0 {
        findings.push(Finding::warning(
            format!("{} to review, not taken by the server", count(status.records.quarantined, "record")),
            "fieldsync quarantine list",
        ));
    }
    findings.extend(status.queue.holding.iter().map(|holder| {
        Finding::warning(
            format!(
                "record {} ({}) holds back {} of its key",
                holder.id,
                holder.state.name(),
                held(holder.holds)
            ),
            format!("fieldsync show {}", holder.id),
        )
    }));
    findings.extend(status.sync.denied.iter().map(|set| {
        let said = set.error.http_status.map_or(set.error.class.clone(), |http| format!("HTTP {http}"));
        Finding::warning(
            format!(
                "a batch of {} is turned away ({said}) while others get through: something on the way objects to one of them",
                count(set.records as u64, "record")
            ),
            "nothing: the record is looked for and set aside; to decide about one now: fieldsync quarantine add ID",
        )
    }));
    or_well(findings, || plain(&status.sync.text).into_owned())
}

/// Those of the disk are told as the disk's, that of records under review by their number.
fn alert(alert: &Alert) -> Option<Finding> {
    let message = plain(&alert.message);
    match alert.alert.known() {
        Some(AlertName::NeedsReview | AlertName::DiskFull | AlertName::DiskFailing) => None,
        Some(AlertName::StoreDamaged) => {
            let told = message.split_once(". When you have read this: ");
            let (what, remedy) = told.unwrap_or((&message, "fieldsync store acknowledge"));
            Some(Finding::warning(what, remedy))
        }
        Some(AlertName::QueueFilling) => Some(Finding::warning(
            message,
            "see what is found of the server; records are refused once the queue is full (queue.max_bytes)",
        )),
        _ => {
            Some(Finding::warning(message, "fieldsync status; see what is found of connectivity and server"))
        }
    }
}

/// Where the daemon does not go on by itself.
fn phase(status: &Status) -> Option<Finding> {
    let text = plain(&status.sync.text);
    let why = status.sync.last_error.as_ref().map(|error| plain(&error.message).into_owned());
    let told = why
        .filter(|why| !why.is_empty())
        .map_or_else(|| text.clone().into_owned(), |why| format!("{text} ({why})"));
    match status.sync.phase {
        Phase::Paused => Some(Finding::warning(text, "fieldsync resume")),
        Phase::AuthRequired => Some(Finding::problem(
            format!("{told}: nothing is sent until the credential is another"),
            "see what is found of credential and server; a new token is used at once",
        )),
        Phase::Misconfigured => Some(Finding::problem(
            format!("{told}: nothing is sent until somebody acts"),
            "see what is found of configuration and server; then: systemctl reload fieldsync",
        )),
        Phase::Idle | Phase::Syncing | Phase::Waiting | Phase::Offline | Phase::Deferred => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Outcome;
    use super::*;
    use crate::api::Counts;
    use crate::cli::testing::status;
    use crate::model::{Holder, RecordId, RecordState};

    #[test]
    fn what_waits_for_a_person_is_told_with_what_the_person_does() {
        let counts = Counts { quarantined: 2, ..Counts::default() };
        let mut status = status(Phase::Paused, "Paused: 3 records waiting", counts);
        status.queue.holding = vec![Holder {
            id: RecordId::new(),
            key: Some("a secret of the customer".into()),
            submitter: 0,
            state: RecordState::Quarantined,
            holds: 3,
        }];
        let alert = |alert: AlertName, message: &str| Alert {
            alert: alert.into(),
            message: message.into(),
            since: 0,
        };
        status.alerts = vec![
            alert(
                AlertName::StoreDamaged,
                "a page is gone. When you have read this: fieldsync store acknowledge",
            ),
            alert(AlertName::NeedsReview, "2 records need review: fieldsync quarantine list"),
        ];
        let findings = judge(Some(&status));
        let remedies: Vec<&str> = findings.iter().filter_map(|one| one.remedy.as_deref()).collect();
        assert_eq!(
            remedies[..3],
            ["fieldsync store acknowledge", "fieldsync resume", "fieldsync quarantine list"]
        );
        assert!(remedies[3].starts_with("fieldsync show "), "{remedies:?}");
        assert!(findings.iter().all(|one| one.result == Outcome::Warning), "{findings:?}");
        assert!(findings.iter().all(|one| !one.text.contains("customer")), "keys are nobody's business");
    }

    #[test]
    fn a_daemon_that_does_not_go_on_by_itself_is_a_problem() {
        for (phase, problem) in [
            (Phase::AuthRequired, true),
            (Phase::Misconfigured, true),
            (Phase::Offline, false),
            (Phase::Idle, false),
        ] {
            let findings = judge(Some(&status(phase, "The sentence", Counts::default())));
            assert_eq!(findings[0].result == Outcome::Problem, problem, "{findings:?}");
        }
    }
}
