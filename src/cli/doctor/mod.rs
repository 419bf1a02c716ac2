//! `fieldsync doctor`: what is wrong on this device, and what to do about it.
//!
//! It works with and without a daemon, and for every user. It changes nothing: it sends a request for the status and
//! looks up a batch that was never sent. A check has two parts: it gathers facts, and it judges them without I/O. If
//! this user may not see something, the finding says who may.
//!
//! Every wait has a time limit.

mod access;
mod alerts;
mod bundle;
mod clock;
mod configuration;
mod connectivity;
mod credential;
mod disk;
mod finding;
mod permissions;
mod probe;
mod records;
mod secrets;
mod server;
mod socket;

use std::path::PathBuf;

use console::Color;
use serde::Serialize;

use super::context::CommandContext;
use super::failure::CommandFailure;
use super::format::{count, strip_controls, wrap};
use crate::api::{Configuration, Status};
use crate::client::{Client, ClientError};
use crate::config::Config;
use crate::config_file::ConfigLocation;
use crate::exit;
use access::User;
use finding::{Check, CheckResult, Finding};
use secrets::GatheredCredentials;

/// Widths in columns, with the gap behind.
const RESULT_WIDTH: usize = 17;
const CHECK_WIDTH: usize = 15;

#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
Problems come first, then warnings, then checks that could not be made; the last
line is a summary. The exit code is 0 if there is no problem, and 1 if there is
one. Run it as root
to check more: other users may not read secrets and the state directory.

With --json, there is one document:
  {\"ok\": bool, \"checks\": [{\"check\", \"result\", \"finding\", \"remedy\"}]}
A check is configuration, socket, permissions, disk, connectivity, credential,
server, clock, records or alerts; it appears once for each of its findings. A
result is ok, warning, problem or could_not_check. A remedy is text, or null if
there is nothing to do.

--bundle writes the findings into an archive, with the status, measurements,
batches, the manifest, the configuration, versions and the journal. Secrets,
keys of records and payloads are left out; its README.txt says what is in it.
The exit code is 0 if it was written. Look through it before you pass it on.")]
pub(crate) struct DoctorArgs {
    /// Configuration file of the daemon [default: /etc/fieldsync/config.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write an archive (tar.zst) for support, without secrets, keys and payloads; - is standard output
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Replace the file of --bundle, if it exists
    #[arg(long, requires = "bundle")]
    force: bool,
}

impl DoctorArgs {
    /// Whether findings are printed, which may be longer than a screen.
    pub(crate) fn is_paged(&self) -> bool {
        self.bundle.is_none()
    }
}

/// What the checks found, and what they learned about the daemon.
struct DoctorRun {
    report: DoctorReport,
    /// In effect; without a daemon, what the files say.
    config: Option<Config>,
    location: ConfigLocation,
    /// Why the daemon does not respond, if it does not.
    silence: Option<String>,
}

/// All findings.
#[derive(Debug, Serialize)]
struct DoctorReport {
    ok: bool,
    checks: Vec<CheckFinding>,
}

#[derive(Debug, Serialize)]
struct CheckFinding {
    check: Check,
    #[serde(flatten)]
    finding: Finding,
}

impl DoctorReport {
    fn new(checks: impl IntoIterator<Item = (Check, Vec<Finding>)>) -> Self {
        let label = |(check, findings): (Check, Vec<Finding>)| {
            findings.into_iter().map(move |finding| CheckFinding { check, finding })
        };
        let checks: Vec<CheckFinding> = checks.into_iter().flat_map(label).collect();
        Self { ok: checks.iter().all(|one| one.finding.result != CheckResult::Problem), checks }
    }

    fn count_results(&self, result: CheckResult) -> u64 {
        self.checks.iter().filter(|one| one.finding.result == result).count() as u64
    }

    /// Replaces the texts of all findings.
    fn redact_texts(&mut self, redact: impl Fn(&str) -> String) {
        for CheckFinding { finding, .. } in &mut self.checks {
            finding.text = redact(&finding.text);
            finding.remedy = finding.remedy.as_deref().map(&redact);
        }
    }

    /// What a person must act on first: problems, then warnings, then what could not be checked.
    fn by_urgency(&self) -> Vec<&CheckFinding> {
        let mut checks: Vec<_> = self.checks.iter().collect();
        checks.sort_by_key(|one| one.finding.result.urgency());
        checks
    }

    /// `1 problem, 2 warnings, 3 checks could not be made.`
    fn summary(&self) -> String {
        let nouns = [(CheckResult::Problem, "problem"), (CheckResult::Warning, "warning")];
        let mut parts: Vec<String> = nouns
            .into_iter()
            .map(|(result, noun)| (self.count_results(result), noun))
            .filter(|(number, _)| *number > 0)
            .map(|(number, noun)| count(number, noun))
            .collect();
        if parts.is_empty() {
            parts.push("No problem was found".to_owned());
        }
        match self.count_results(CheckResult::CouldNotCheck) {
            0 => {}
            unchecked => parts.push(format!("{} could not be made", count(unchecked, "check"))),
        }
        format!("{}.", parts.join(", "))
    }
}

pub(crate) async fn run(args: &DoctorArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    if let Some(file) = &args.bundle {
        return bundle::write_bundle(file, args, context).await;
    }
    let DoctorRun { report, .. } = run_checks(args, context).await;
    if context.json {
        let line = serde_json::to_string(&report)
            .map_err(|error| CommandFailure::failed(format!("the report cannot be written: {error}.")))?;
        context.print_line(line)?;
    } else {
        print_report(&report, context)?;
    }
    Ok(if report.ok { exit::DONE } else { exit::FAILED })
}

async fn run_checks(args: &DoctorArgs, context: &mut CommandContext<'_>) -> DoctorRun {
    let loaded = configuration::read_config(args.config.as_deref());
    if let Some(config) = &loaded.config
        && context.named_socket.is_none()
    {
        context.client = Client::new(config.socket());
    }
    let caller = User::current();
    let response = socket::fetch_status(&context.client).await;
    let status = response.as_ref().ok();
    // The daemon knows what is in effect: its environment differs from that of this user.
    let in_effect = match status {
        Some(_) => socket::fetch_configuration(&context.client).await,
        None => None,
    };
    let config = in_effect.as_ref().and_then(Configuration::to_config).or_else(|| loaded.config.clone());
    let socket = context.client.socket();
    let state_dir = config.as_ref().map(Config::state_dir);
    let mut findings = vec![
        (Check::Configuration, configuration::judge_config(&loaded, status, in_effect.as_ref())),
        (Check::Socket, socket::judge_socket(socket, &response, &caller, state_dir.as_deref())),
    ];
    if let Some(config) = &config {
        let daemon = permissions::find_daemon_user(&config.state_dir());
        let credentials = GatheredCredentials::gather(&config.server, args.config.as_deref());
        let probe = probe::probe_server(&credentials, status).await;
        findings.extend([
            (Check::Permissions, permissions::check_permissions(config, socket, &caller, daemon.as_ref())),
            (Check::Disk, disk::check_disk(config, status)),
            (Check::Connectivity, connectivity::check_connectivity(&config.server, &probe, status).await),
            (Check::Credential, credential::check_credentials(&credentials, &probe, daemon.as_ref())),
            (Check::Server, server::judge_server(&config.server, &probe, status)),
            (Check::Clock, clock::check_clock(probe.server_time())),
        ]);
    } else {
        let no_config = || {
            vec![Finding::unchecked(
                "this check needs a valid configuration",
                "correct the configuration first",
            )]
        };
        findings.extend(
            [Check::Permissions, Check::Disk, Check::Connectivity, Check::Credential, Check::Server]
                .map(|check| (check, no_config())),
        );
        findings.push((Check::Clock, clock::check_clock(None)));
    }
    findings.push((Check::Records, records::judge_records(status)));
    findings.push((Check::Alerts, alerts::judge_alerts(status)));
    let silence = find_silence(&response);
    let location = ConfigLocation::new(args.config.as_deref());
    DoctorRun { report: DoctorReport::new(findings), config, location, silence }
}

/// Why the daemon does not respond: further requests would get no response, either.
fn find_silence(response: &Result<Status, ClientError>) -> Option<String> {
    match response {
        Err(error @ (ClientError::NoDaemon { source, .. } | ClientError::Lost { source })) => {
            Some(format!("{error}: {source}"))
        }
        _ => None,
    }
}

fn print_report(report: &DoctorReport, context: &mut CommandContext<'_>) -> Result<(), CommandFailure> {
    for CheckFinding { check, finding } in report.by_urgency() {
        let colour = match finding.result {
            CheckResult::Ok => Color::Green,
            CheckResult::Warning | CheckResult::CouldNotCheck => Color::Yellow,
            CheckResult::Problem => Color::Red,
        };
        let result = format!("{:<RESULT_WIDTH$}", finding.result.label());
        let result = context.paint(&result, Some(colour));
        let mut head = format!("{result}{:<CHECK_WIDTH$}", check.name());
        let remedy = finding.remedy.iter().map(|remedy| format!("To do: {remedy}"));
        let texts: Vec<_> = [finding.text.clone()].into_iter().chain(remedy).collect();
        // A finding about a file may have several lines.
        for line in texts.iter().flat_map(|text| text.lines()) {
            let line = format!("{head}{}", strip_controls(line));
            match context.width {
                Some(width) => {
                    wrap(&line, width, RESULT_WIDTH + CHECK_WIDTH)
                        .into_iter()
                        .try_for_each(|line| context.print_line(line))?;
                }
                None => context.print_line(line)?,
            }
            head = " ".repeat(RESULT_WIDTH + CHECK_WIDTH);
        }
    }
    context.print_line("")?;
    context.print_wrapped(report.summary())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_of(results: &[CheckResult]) -> DoctorReport {
        let finding = |result: &CheckResult| match result {
            CheckResult::Ok => Finding::ok("fine"),
            CheckResult::Warning => Finding::warning("odd", "look"),
            CheckResult::Problem => Finding::problem("bad", "repair"),
            CheckResult::CouldNotCheck => Finding::unchecked("dark", "sudo"),
        };
        DoctorReport::new([(Check::Disk, results.iter().map(finding).collect())])
    }

    #[test]
    fn only_problems_make_the_report_fail() {
        use CheckResult::{CouldNotCheck, Ok, Problem, Warning};
        for (results, ok, sum) in [
            (&[Ok][..], true, "No problem was found."),
            (&[Ok, CouldNotCheck], true, "No problem was found, 1 check could not be made."),
            (&[Warning, Warning], true, "2 warnings."),
            (&[Problem, Warning, CouldNotCheck], false, "1 problem, 1 warning, 1 check could not be made."),
        ] {
            let report = report_of(results);
            assert_eq!((report.ok, report.summary().as_str()), (ok, sum));
        }
    }

    #[test]
    fn problems_come_first_for_people() {
        use CheckResult::{CouldNotCheck, Ok, Problem, Warning};
        let report = report_of(&[Ok, CouldNotCheck, Warning, Problem, Ok]);
        let shown: Vec<CheckResult> = report.by_urgency().iter().map(|one| one.finding.result).collect();
        assert_eq!(shown, [Problem, Warning, CouldNotCheck, Ok, Ok]);
    }

    #[test]
    fn in_json_every_finding_names_its_check() {
        let json = serde_json::to_string(&report_of(&[CheckResult::Ok, CheckResult::CouldNotCheck])).unwrap();
        assert_eq!(
            json,
            "{\"ok\":true,\"checks\":[\
             {\"check\":\"disk\",\"result\":\"ok\",\"finding\":\"fine\",\"remedy\":null},\
             {\"check\":\"disk\",\"result\":\"could_not_check\",\"finding\":\"dark\",\"remedy\":\"sudo\"}]}"
        );
    }
}
