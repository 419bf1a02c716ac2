//! `fieldsync logs`: the journal of the service, by journalctl, which knows how to filter, follow and show it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::context::CommandContext;
use super::failure::CommandFailure;
use crate::exit;

pub(crate) const JOURNALCTL: &str = "journalctl";
/// The service.
pub(crate) const UNIT: &str = "fieldsync";
/// Where journald keeps the journals of the machine, each in a directory by the machine's id.
const JOURNAL_DIRECTORIES: [&str; 2] = ["/var/log/journal", "/run/log/journal"];
const SYSTEM_JOURNAL: &str = "system.journal";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Runs journalctl for the service, with explanations of its messages. With --json,
each entry is one JSON object with all of its fields. Only root and members of
the group systemd-journal may read the journal of the system.

Examples:
  fieldsync logs -f
  fieldsync logs --since 2h
  fieldsync logs --since \"2 min ago\"
  fieldsync logs -n 100 --json")]
pub(crate) struct LogsArgs {
    /// Follow new entries until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Only entries of this time, for example 2h, or since a time as journalctl takes it
    #[arg(long, value_name = "D", allow_hyphen_values = true)]
    since: Option<String>,
    /// Only the newest entries
    #[arg(long = "limit", short = 'n', value_name = "N")]
    limit: Option<u64>,
}

/// Replaces this process by journalctl.
pub(crate) fn run(args: &LogsArgs, context: &CommandContext<'_>) -> Result<u8, CommandFailure> {
    if !may_read_journal() {
        return Err(CommandFailure::new(
            exit::NOT_PERMITTED,
            "you may not read the journal of the system. Use sudo, or join its group and log in again: \
             sudo usermod --append --groups systemd-journal $USER",
        ));
    }
    if is_without_entries() {
        context.print_note(
            "The journal has no entry of the service. A daemon that was started by hand writes its messages to its \
             standard error.",
        );
    }
    let error =
        Command::new(JOURNALCTL).args(journalctl_arguments(args, context.has_pager, context.json)).exec();
    Err(explain_failure(&error))
}

fn journalctl_arguments(args: &LogsArgs, has_pager: bool, json: bool) -> Vec<String> {
    let mut arguments = vec![format!("--unit={UNIT}")];
    // An explanation below each message is for people.
    arguments.push(if json { "--output=json" } else { "--catalog" }.to_owned());
    arguments.extend(args.follow.then(|| "--follow".to_owned()));
    arguments.extend(args.since.as_deref().map(|since| match humantime::parse_duration(since) {
        Ok(since) => format!("--since=-{}s", since.as_secs()),
        Err(_) => format!("--since={since}"),
    }));
    arguments.extend(args.limit.map(|limit| format!("--lines={limit}")));
    arguments.extend((!has_pager).then(|| "--no-pager".to_owned()));
    arguments
}

/// Whether the journal was read, and has no entry of the service.
fn is_without_entries() -> bool {
    let arguments = [&format!("--unit={UNIT}"), "--lines=1", "--quiet", "--output=cat", "--no-pager"];
    let newest = Command::new(JOURNALCTL).args(arguments).output();
    newest.is_ok_and(|newest| newest.status.success() && newest.stdout.is_empty())
}

/// Whether this user may read the journal of the system.
pub(crate) fn may_read_journal() -> bool {
    can_read_journal(&JOURNAL_DIRECTORIES.map(Path::new))
}

/// Whether a journal of the system is readable, or none is there: then journalctl says so.
fn can_read_journal(directories: &[&Path]) -> bool {
    let machines = directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten();
    let journals: Vec<_> = machines
        .filter_map(|machine| Some(File::open(machine.ok()?.path().join(SYSTEM_JOURNAL))))
        .filter(|opened| !matches!(opened, Err(error) if error.kind() == ErrorKind::NotFound))
        .collect();
    journals.is_empty() || journals.iter().any(Result::is_ok)
}

fn explain_failure(error: &io::Error) -> CommandFailure {
    CommandFailure::failed(match error.kind() {
        ErrorKind::NotFound => {
            "journalctl was not found: this system has no journal of systemd. Without one, the daemon \
                                writes its messages to its standard error."
                .to_owned()
        }
        _ => format!("journalctl cannot be started: {error}."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_become_those_of_journalctl() {
        let plain = LogsArgs { follow: false, since: None, limit: None };
        assert_eq!(journalctl_arguments(&plain, true, false), ["--unit=fieldsync", "--catalog"]);
        let all = LogsArgs { follow: true, since: Some("2h".to_owned()), limit: Some(5) };
        assert_eq!(
            journalctl_arguments(&all, false, true),
            ["--unit=fieldsync", "--output=json", "--follow", "--since=-7200s", "--lines=5", "--no-pager"]
        );
        let ago = LogsArgs { follow: false, since: Some("2 min ago".to_owned()), limit: None };
        assert_eq!(journalctl_arguments(&ago, true, true)[2..], ["--since=2 min ago"]);
    }

    #[test]
    fn a_journal_that_is_missing_is_not_one_that_is_forbidden() {
        let directory = tempfile::tempdir().unwrap();
        assert!(can_read_journal(&[directory.path(), Path::new("/nowhere")]));
        let machine = directory.path().join("0123");
        fs::create_dir(&machine).unwrap();
        assert!(can_read_journal(&[directory.path()]));
        fs::write(machine.join(SYSTEM_JOURNAL), "").unwrap();
        assert!(can_read_journal(&[directory.path()]));
    }
}
