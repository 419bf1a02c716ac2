//! The active alerts of the daemon, each with what to do. Other checks look for the causes, and decide whether something
//! is a problem.

use super::finding::{Finding, or_ok};
use crate::api::Status;
use crate::cli::format::strip_controls;

/// For an alert of a daemon that gives no remedy.
const DEFAULT_REMEDY: &str = "fieldsync status; see the other findings";

pub(super) fn judge_alerts(status: Option<&Status>) -> Vec<Finding> {
    let Some(status) = status else {
        return vec![Finding::unchecked(
            "alerts are not known without a running daemon",
            "see the findings about the socket",
        )];
    };
    let findings = status.alerts.iter().map(|alert| {
        let text =
            format!("{}: {}", strip_controls(&alert.alert.to_string()), strip_controls(&alert.message));
        let remedy = if alert.remedy.is_empty() { DEFAULT_REMEDY } else { alert.remedy.as_str() };
        Finding::warning(text, strip_controls(remedy))
    });
    or_ok(findings.collect(), || "no alert is active".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::finding::CheckResult;
    use super::*;
    use crate::api::{Alert, AlertName, AlertSeverity, Counts, OpenEnum, Phase};
    use crate::cli::testing::sample_status;

    #[test]
    fn every_active_alert_is_reported_with_its_remedy() {
        let mut status = sample_status(Phase::Idle, "All is well", Counts::default());
        assert_eq!(judge_alerts(Some(&status))[0].result, CheckResult::Ok);
        let alert = |alert: OpenEnum<AlertName>, remedy: &str| Alert {
            alert,
            severity: AlertSeverity::Critical.into(),
            message: "a page is gone\u{1b}".into(),
            remedy: remedy.into(),
            since: 0,
        };
        status.alerts = vec![
            alert(AlertName::StoreDamaged.into(), "fieldsync store acknowledge"),
            alert(OpenEnum::Unknown("of_a_newer_daemon".into()), ""),
        ];
        let findings = judge_alerts(Some(&status));
        let remedies: Vec<&str> = findings.iter().filter_map(|one| one.remedy.as_deref()).collect();
        assert_eq!(remedies, ["fieldsync store acknowledge", DEFAULT_REMEDY]);
        assert_eq!(findings[0].text, "store_damaged: a page is gone\u{fffd}");
        assert!(findings.iter().all(|one| one.result == CheckResult::Warning));
        assert_eq!(judge_alerts(None)[0].result, CheckResult::CouldNotCheck);
    }
}
