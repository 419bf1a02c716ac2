//! The metrics of both programs, the alert rules and the dashboard, checked by Prometheus's own tool. Needs promtool.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::monitoring::{Traffic, repository_file};
use crate::support::process::{ProgramOutput, run};

fn promtool(arguments: &[&str], input: &str) -> ProgramOutput {
    run(Command::new("promtool").args(arguments), input.as_bytes())
}

#[track_caller]
fn assert_silent(ran: &ProgramOutput) {
    // With exit code 0, it may still warn.
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
}

#[test]
#[ignore = "needs promtool"]
fn the_metrics_of_daemon_and_gateway_have_no_finding() {
    let traffic = Traffic::produce();
    for text in [traffic.device_metrics(), traffic.gateway_metrics()] {
        let ran = promtool(&["check", "metrics"], &text);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}\n{text}", ran.stdout);
    }
}

#[test]
#[ignore = "needs promtool"]
fn the_alert_rules_are_valid_and_fire_when_they_should() {
    let path = |name: &str| -> PathBuf { repository_file(name) };
    let check = promtool(&["check", "rules", text_of(&path("docs/monitoring/alerts.yml"))], "");
    assert_silent(&check);
    for tests in ["tests/promtool/alerts.test.yml", "tests/promtool/days.test.yml"] {
        let test = promtool(&["test", "rules", text_of(&path(tests))], "");
        assert_silent(&test);
    }
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}
