//! `fieldsync doctor`: what is wrong on this device, and what a person does about it.
//!
//! It works with and without a daemon, as root and as anybody. It changes nothing, and sends nothing but
//! a question for the status and the look-up of a batch that never was. A check has two parts: what it
//! asks of the system, and a pure judgement of the answers. What it may not see, it says with who may.
//!
//! Everything it waits for has a limit in time, named where it is waited for.

mod access;
mod clock;
mod configuration;
mod connectivity;
mod credential;
mod disk;
mod finding;
mod permissions;
mod records;
mod server;
mod socket;

use std::path::PathBuf;

use console::{Color, Style};
use serde::Serialize;

use super::context::Context;
use super::failure::Failure;
use super::words::{count, fold, plain};
use crate::client::Client;
use crate::config::Config;
use crate::exit;
use access::User;
use finding::{Check, Finding, Outcome};

/// Width of a result and of the name of a check, with the gap behind it.
const RESULT: usize = 17;
const CHECK: usize = 15;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
With --json: {\"ok\": bool, \"checks\": [{\"check\", \"result\", \"finding\", \"remedy\"}]}, where a check is configuration, socket,
permissions, disk, connectivity, credential, server, clock or records, and stands there once for each of its findings. A result is
ok, warning, problem or could_not_check; a remedy is text, or null where there is nothing to do.

Ends with 0 when there is no problem, and with 1 when there is one. As root it sees more: secrets and the
state directory are closed to others.")]
pub(crate) struct Args {
    /// Configuration file of the daemon [default: /etc/fieldsync/config.toml, when it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Labelled>,
}

#[derive(Debug, Serialize)]
struct Labelled {
    check: Check,
    #[serde(flatten)]
    finding: Finding,
}

impl Report {
    fn new(checks: impl IntoIterator<Item = (Check, Vec<Finding>)>) -> Self {
        let each = |(check, findings): (Check, Vec<Finding>)| {
            findings.into_iter().map(move |finding| Labelled { check, finding })
        };
        let checks: Vec<Labelled> = checks.into_iter().flat_map(each).collect();
        Self { ok: checks.iter().all(|one| one.finding.result != Outcome::Problem), checks }
    }

    fn count(&self, result: Outcome) -> u64 {
        self.checks.iter().filter(|one| one.finding.result == result).count() as u64
    }

    /// `1 problem, 2 warnings, 3 checks could not be made.`
    fn sum(&self) -> String {
        let told = [(Outcome::Problem, "problem"), (Outcome::Warning, "warning")];
        let mut parts: Vec<String> = told
            .into_iter()
            .map(|(result, noun)| (self.count(result), noun))
            .filter(|(number, _)| *number > 0)
            .map(|(number, noun)| count(number, noun))
            .collect();
        if parts.is_empty() {
            parts.push("Nothing wrong was found".to_owned());
        }
        match self.count(Outcome::CouldNotCheck) {
            0 => {}
            unchecked => parts.push(format!("{} could not be made", count(unchecked, "check"))),
        }
        format!("{}.", parts.join(", "))
    }
}

pub(crate) async fn run(args: &Args, context: &mut Context<'_>) -> Result<u8, Failure> {
    let report = examine(args, context).await;
    if context.json {
        let line = serde_json::to_string(&report)
            .map_err(|error| Failure::failed(format!("the report cannot be written: {error}.")))?;
        context.line(line)?;
    } else {
        show(&report, context)?;
    }
    Ok(if report.ok { exit::DONE } else { exit::FAILED })
}

async fn examine(args: &Args, context: &mut Context<'_>) -> Report {
    let configured = configuration::read(args.config.as_deref());
    if let Some(config) = &configured.config
        && context.named_socket.is_none()
    {
        context.client = Client::new(config.socket());
    }
    let me = User::me();
    let asked = socket::ask(&context.client).await;
    let status = asked.as_ref().ok();
    let socket = context.client.socket();
    let state_dir = configured.config.as_ref().map(Config::state_dir);
    let mut findings = vec![
        (Check::Configuration, configuration::judge(&configured, status)),
        (Check::Socket, socket::judge(socket, &asked, &me, state_dir.as_deref())),
    ];
    if let Some(config) = &configured.config {
        let daemon = permissions::user_of_daemon(&config.state_dir());
        // As the daemon would have it, with the credential that systemd hands over.
        let credentials = credential::gather(&config.server, args.config.as_deref());
        let tried = server::probe(&credentials, status).await;
        findings.extend([
            (Check::Permissions, permissions::check(config, socket, &me, daemon.as_ref())),
            (Check::Disk, disk::check(config, status)),
            (Check::Connectivity, connectivity::check(&config.server, &tried, status).await),
            (Check::Credential, credential::check(&credentials, &tried, daemon.as_ref())),
            (Check::Server, server::judge(&config.server, &tried, status)),
            (Check::Clock, clock::check(tried.date())),
        ]);
    } else {
        let waits = || vec![Finding::unchecked("this takes a configuration", "mend the configuration first")];
        findings.extend(
            [Check::Permissions, Check::Disk, Check::Connectivity, Check::Credential, Check::Server]
                .map(|check| (check, waits())),
        );
        findings.push((Check::Clock, clock::check(None)));
    }
    findings.push((Check::Records, records::judge(status)));
    Report::new(findings)
}

fn show(report: &Report, context: &mut Context<'_>) -> Result<(), Failure> {
    for Labelled { check, finding } in &report.checks {
        let colour = match finding.result {
            Outcome::Ok => Color::Green,
            Outcome::Warning | Outcome::CouldNotCheck => Color::Yellow,
            Outcome::Problem => Color::Red,
        };
        let result = format!("{:<RESULT$}", finding.result.words());
        let result = if context.colour {
            Style::new().fg(colour).force_styling(true).apply_to(result).to_string()
        } else {
            result
        };
        let mut head = format!("{result}{:<CHECK$}", check.name());
        let remedy = finding.remedy.iter().map(|remedy| format!("To do: {remedy}"));
        let told: Vec<_> = [finding.text.clone()].into_iter().chain(remedy).collect();
        // What is wrong with a file is shown below each other.
        for line in told.iter().flat_map(|text| text.lines()) {
            let line = format!("{head}{}", plain(line));
            match context.width {
                Some(width) => {
                    fold(&line, width, RESULT + CHECK).into_iter().try_for_each(|line| context.line(line))?;
                }
                None => context.line(line)?,
            }
            head = " ".repeat(RESULT + CHECK);
        }
    }
    context.line("")?;
    context.text(report.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(results: &[Outcome]) -> Report {
        let finding = |result: &Outcome| match result {
            Outcome::Ok => Finding::ok("all is well"),
            Outcome::Warning => Finding::warning("odd", "look"),
            Outcome::Problem => Finding::problem("bad", "mend"),
            Outcome::CouldNotCheck => Finding::unchecked("dark", "sudo"),
        };
        Report::new([(Check::Disk, results.iter().map(finding).collect())])
    }

    #[test]
    fn only_a_problem_is_not_ok() {
        use Outcome::{CouldNotCheck, Ok, Problem, Warning};
        for (results, ok, sum) in [
            (&[Ok][..], true, "Nothing wrong was found."),
            (&[Ok, CouldNotCheck], true, "Nothing wrong was found, 1 check could not be made."),
            (&[Warning, Warning], true, "2 warnings."),
            (&[Problem, Warning, CouldNotCheck], false, "1 problem, 1 warning, 1 check could not be made."),
        ] {
            let report = report(results);
            assert_eq!((report.ok, report.sum().as_str()), (ok, sum));
        }
    }

    #[test]
    fn as_json_every_finding_names_its_check() {
        let json = serde_json::to_string(&report(&[Outcome::Ok, Outcome::CouldNotCheck])).unwrap();
        assert_eq!(
            json,
            "{\"ok\":true,\"checks\":[\
             {\"check\":\"disk\",\"result\":\"ok\",\"finding\":\"all is well\",\"remedy\":null},\
             {\"check\":\"disk\",\"result\":\"could_not_check\",\"finding\":\"dark\",\"remedy\":\"sudo\"}]}"
        );
    }
}
