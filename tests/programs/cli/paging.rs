//! Long output in a pager: on terminals, never in pipes.

use std::process::Command;

use crate::support::daemon::{Daemon, cli_command};
use crate::support::process::run;
use crate::support::settings::Settings;
use crate::support::terminal::{PAGER_VARIABLE, Terminal};

const PAGER: &str = "sed 's/^/> /'";

fn paged(mut command: Command) -> Command {
    command.env(PAGER_VARIABLE, PAGER);
    command
}

#[test]
fn on_a_terminal_output_goes_through_the_pager_and_the_exit_code_stays() {
    let daemon = Daemon::start(&Settings::default());
    let ids = daemon.enqueue_many(2);
    let verb = |arguments: &[&str]| paged(cli_command(daemon.home.socket(), arguments));
    for arguments in [
        &["list"][..],
        &["status"],
        &["show", &ids[0]],
        &["batches"],
        &["telemetry"],
        &["telemetry", "report"],
        &["config"],
        &["quarantine", "list"],
    ] {
        let (code, text) = Terminal::run(verb(arguments), 80);
        assert_eq!(code, Some(0), "{arguments:?}");
        assert!(text.lines().all(|line| line.starts_with("> ")), "{arguments:?} {text}");
        let (_, text) = Terminal::run(verb(&[arguments, &["--no-pager"]].concat()), 80);
        assert!(!text.contains("> "), "{arguments:?} {text}");
    }
    for arguments in [&["list", "--json"][..], &["status", "--check"], &["sync"], &["pause"]] {
        let (_, text) = Terminal::run(verb(arguments), 80);
        assert!(!text.contains("> "), "{arguments:?} {text}");
    }
    let piped = run(&mut verb(&["list"]), b"");
    assert!(piped.code == Some(0) && !piped.stdout.contains('>'), "{piped:?}");
    let (code, text) = Terminal::run(paged(cli_command("/nowhere".into(), &["list"])), 80);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.starts_with("> fieldsync: no daemon responds"), "{text}");
}

#[test]
fn a_pager_that_is_left_early_ends_the_output() {
    let daemon = Daemon::start(&Settings::default());
    daemon.enqueue_many(300);
    let mut list = cli_command(daemon.home.socket(), &["list", "-n", "300"]);
    list.env(PAGER_VARIABLE, "head -n 2");
    let (code, text) = Terminal::run(list, 120);
    assert_eq!((code, text.lines().count()), (Some(0), 2), "{text}");
}

#[test]
fn less_shows_what_fits_on_a_screen_and_ends() {
    if Command::new("less").arg("--version").output().is_err() {
        println!("skipped: there is no less on this machine");
        return;
    }
    let daemon = Daemon::start(&Settings::default());
    let ids = daemon.enqueue_many(2);
    let mut list = Command::new("sh");
    list.arg("-c").arg(format!(
        "unset {PAGER_VARIABLE} PAGER LESS; exec '{}' --socket '{}' list",
        env!("CARGO_BIN_EXE_fieldsync"),
        daemon.home.socket().display()
    ));
    let (code, text) = Terminal::run(list, 120);
    assert_eq!(code, Some(0), "{text}");
    assert!(ids.iter().all(|id| text.contains(&id[28..])), "{text}");
}
