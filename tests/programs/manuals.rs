//! The manual pages: one for each command, with all of its options.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::gateway;
use crate::support::process::{ProgramOutput, run};
use crate::support::wait::directory;

fn fieldsync(arguments: &[&str]) -> ProgramOutput {
    run(Command::new(env!("CARGO_BIN_EXE_fieldsync")).args(arguments), b"")
}

fn manuals() -> TempDir {
    let directory = directory();
    let ran = fieldsync(&["manuals", directory.path().join("man").to_str().unwrap()]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.stdout.lines().count(), pages(&directory).len());
    let ran = run(Command::new(gateway::program()).arg("--manual"), b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    fs::write(directory.path().join("man/fieldsync-gateway.8"), ran.stdout).unwrap();
    directory
}

fn pages(directory: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.path().join("man")).unwrap();
    let mut pages: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    pages.sort_unstable();
    pages
}

/// The text as it is read: in the source of a page, a hyphen has a backslash.
fn read(directory: &TempDir, page: &str) -> String {
    let path = directory.path().join("man").join(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
    text.replace("\\-", "-")
}

/// The first words below a heading of a program's help.
fn first_words_below(help: &str, heading: &str) -> Vec<String> {
    let lines =
        help.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| line.starts_with("  "));
    // Terms have the smallest indentation.
    let names = lines.filter(|line| !line.starts_with("          "));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn options(help: &str) -> BTreeSet<&str> {
    let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| word.starts_with("--") && word.len() > 2 && *word != "--help").collect()
}

fn help(program: impl AsRef<OsStr>, verb: &[&str]) -> String {
    let ran = run(Command::new(program).args(verb).arg("--help"), b"");
    assert_eq!(ran.code, Some(0), "{verb:?}");
    ran.stdout
}

/// For a command and its subcommands.
fn each_verb(verb: &[&str], visit: &mut impl FnMut(&[&str], &str)) {
    let help = help(env!("CARGO_BIN_EXE_fieldsync"), verb);
    visit(verb, &help);
    for name in first_words_below(&help, "Commands:").iter().filter(|name| *name != "help") {
        each_verb(&[verb, &[name]].concat(), visit);
    }
}

#[test]
fn every_verb_has_a_page_that_names_all_of_its_options() {
    let directory = manuals();
    let mut seen = Vec::new();
    each_verb(&[], &mut |verb, help| {
        let page = [&["fieldsync"], verb].concat().join("-") + ".1";
        let text = read(&directory, &page);
        for option in options(help) {
            assert!(text.contains(option), "{page} lacks {option}");
        }
        for section in
            [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH \"EXIT STATUS\"", ".SH \"SEE ALSO\""]
        {
            assert!(text.contains(section), "{page} lacks {section}");
        }
        seen.push(page);
    });
    for verb in ["status", "enqueue", "quarantine-edit", "manifest-export", "store-salvage", "doctor", "demo"]
    {
        assert!(seen.contains(&format!("fieldsync-{verb}.1")), "{seen:?}");
    }
    let users = pages(&directory).into_iter().filter(|page| page.extension().unwrap() == "1").count();
    assert_eq!(users, seen.len(), "no page of something that is not there");
}

#[test]
fn the_programs_of_administrators_have_pages_too() {
    let directory = manuals();
    for (program, page) in [
        (env!("CARGO_BIN_EXE_fieldsyncd").into(), "fieldsyncd.8"),
        (gateway::program(), "fieldsync-gateway.8"),
    ] {
        let (text, help) = (read(&directory, page), help(program, &[]));
        for option in options(&help) {
            assert!(text.contains(option), "{page} lacks {option}");
        }
        assert!(text.contains(".SH \"EXIT STATUS\""));
    }
}

#[test]
fn the_page_of_the_configuration_explains_every_key_of_the_shipped_file() {
    let directory = manuals();
    let text = read(&directory, "fieldsync-config.5");
    let defaults = run(
        Command::new(env!("CARGO_BIN_EXE_fieldsyncd")).args(["--check-config", "--config", "config.toml"]),
        b"",
    );
    assert_eq!(defaults.code, Some(0), "{defaults:?}");
    let lines = defaults.stdout.lines().filter(|line| !line.is_empty());
    let mut keys = 0;
    for line in lines {
        if let Some((key, _)) = line.split_once(" = ") {
            assert!(text.contains(&format!("\\fB{key} = ")), "{key} is missing");
            keys += 1;
        } else {
            assert!(text.contains(&format!(".SH {line}")), "{line} is missing");
        }
    }
    assert!(keys > 40);
    assert!(text.contains("\\fBtoken_file = "), "keys without a default, too");
}

#[test]
fn a_separate_section_is_not_repeated_in_the_description() {
    let directory = manuals();
    for page in pages(&directory) {
        let text = fs::read_to_string(&page).unwrap();
        let description = text.split(".SH ").find(|section| section.starts_with("DESCRIPTION")).unwrap_or("");
        for heading in ["Examples:", "Exit codes:", "Environment:"] {
            assert!(!description.contains(heading), "{}: {description}", page.display());
        }
    }
    for (page, variables) in [
        ("fieldsync.1", &["VISUAL", "EDITOR", "TMPDIR", "NO_COLOR"][..]),
        ("fieldsync-quarantine-edit.1", &["VISUAL", "EDITOR"]),
        ("fieldsync-enqueue.1", &["TMPDIR"]),
    ] {
        let text = read(&directory, page);
        let section = text.split(".SH ").find(|section| section.starts_with("ENVIRONMENT")).unwrap();
        assert!(variables.iter().all(|variable| section.contains(variable)), "{page}: {section}");
    }
}

#[test]
fn the_pages_are_reproducible() {
    let (one, other) = (manuals(), manuals());
    for (one, other) in pages(&one).iter().zip(pages(&other)) {
        assert_eq!(fs::read(one).unwrap(), fs::read(other).unwrap());
    }
}

fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        println!("skipped: there is no {program} on this machine");
    }
    found
}

fn without_complaint(program: &str, arguments: &[&str], page: &Path) {
    let mut command = Command::new(program);
    command.args(arguments).arg(page).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
    let ran = run(&mut command, b"");
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (Some(0), ""),
        "{program} {}: {}",
        page.display(),
        ran.stdout
    );
}

#[test]
fn the_pages_render_without_a_warning() {
    let directory = manuals();
    for (program, arguments) in [("man", &["--warnings", "--local-file"][..]), ("lexgrog", &[])] {
        if is_there(program) {
            for page in pages(&directory) {
                without_complaint(program, arguments, &page);
            }
        }
    }
}
