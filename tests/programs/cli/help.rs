//! Help and completions.

use std::path::{Path, PathBuf};
use std::process::Command;

use console::measure_text_width;

use crate::support::daemon::cli_command;
use crate::support::process::run;
use crate::support::terminal::Terminal;

fn help(arguments: &[&str]) -> String {
    let ran = run(&mut cli_command(PathBuf::from("/nowhere"), arguments), b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    ran.stdout
}

#[test]
fn help_lists_the_exit_codes_and_main_verbs_have_examples() {
    let long = help(&["--help"]);
    let codes = long.split_once("Exit codes:\n").unwrap().1;
    for (code, line) in codes.lines().take(9).enumerate() {
        assert!(line.starts_with(&format!("  {code}  ")), "{line}");
    }
    assert!(long.contains("Examples:\n") && long.contains("{\"error\": {\"code\", \"message\"}}"), "{long}");
    for verb in ["status", "enqueue", "list", "show", "quarantine", "sync", "completions"] {
        assert!(help(&[verb, "--help"]).contains("Examples:\n"), "{verb}");
    }
}

#[test]
fn help_fits_the_terminal() {
    for arguments in [
        &["--help"][..],
        &["enqueue", "--help"],
        &["quarantine", "edit", "--help"],
        &["telemetry", "report", "--help"],
    ] {
        let (code, text) = Terminal::run(cli_command(PathBuf::from("/nowhere"), arguments), 80);
        assert_eq!(code, Some(0));
        for line in text.lines() {
            assert!(measure_text_width(line) <= 80, "{line}");
        }
    }
}

#[test]
fn completions_load_in_their_shells() {
    let directory = Path::new(env!("CARGO_BIN_EXE_fieldsync")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", directory.display());
    for (shell, check) in [
        ("bash", "source <(fieldsync completions bash) && complete -p fieldsync"),
        (
            "zsh",
            "autoload -U compinit && compinit -u -D && source <(fieldsync completions zsh) && whence -w _clap_dynamic_completer_fieldsync",
        ),
        ("fish", "fieldsync completions fish | source; and complete -C 'fieldsync sta' | grep status"),
    ] {
        assert!(help(&["completions", shell]).contains("fieldsync"), "{shell}");
        if Command::new(shell).arg("-c").arg("true").output().is_err() {
            println!("not loaded: there is no {shell} on this machine");
            continue;
        }
        let ran = run(Command::new(shell).arg("-c").arg(check).env("PATH", &path), b"");
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{shell}: {ran:?}");
        assert!(ran.stdout.contains("fieldsync") || ran.stdout.contains("status"), "{shell}: {ran:?}");
    }
}
