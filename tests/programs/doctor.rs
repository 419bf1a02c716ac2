//! `fieldsync doctor` on a healthy device, and on devices with one problem each.

mod bundle;
mod credential;
mod device;
mod records;
mod server;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::daemon::{Home, leave_surroundings};
use crate::support::process::{ProgramOutput, run};

/// Part of every secret of these tests.
const SESAME: &str = "sesame";
const NOBODY: u32 = 65_534;

/// The findings on a device.
struct DoctorRun {
    code: Option<i32>,
    report: Value,
}

/// The command line with an empty environment.
fn doctor(program: &Path, configuration: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("doctor").arg("--config").arg(configuration);
    leave_surroundings(&mut command);
    command
}

impl DoctorRun {
    #[track_caller]
    fn to(home: &Home) -> Self {
        Self::by(doctor(&program(), &home.path("config.toml")).arg("--json"))
    }

    #[track_caller]
    fn by(command: &mut Command) -> Self {
        let ran = run(command, b"");
        assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
        assert!(!ran.stdout.contains(SESAME), "{}", ran.stdout);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(report["ok"], ran.code == Some(0), "{report:#}");
        Self { code: ran.code, report }
    }

    fn findings(&self) -> &Vec<Value> {
        self.report["checks"].as_array().unwrap()
    }

    /// The findings of a check: the result, and the text with the remedy.
    fn of(&self, check: &str) -> Vec<(&str, String)> {
        let findings = self.findings().iter().filter(|one| one["check"] == check);
        findings
            .map(|one| {
                let text = |name: &str| one[name].as_str().unwrap_or_default();
                (text("result"), format!("{} | {}", text("finding"), text("remedy")))
            })
            .collect()
    }

    /// A finding has this result and these words, and the exit code fits it.
    #[track_caller]
    fn found(&self, check: &str, result: &str, words: &[&str]) {
        let found = self.of(check);
        let fits = |text: &str| words.iter().all(|word| text.contains(word));
        assert!(
            found.iter().any(|(kind, text)| *kind == result && fits(text)),
            "{check} lacks {result} with {words:?}: {found:#?}"
        );
        if result == "problem" {
            assert_eq!(self.code, Some(1));
        }
    }

    /// This is the only problem.
    #[track_caller]
    fn problems(&self, checks: &[&str]) {
        let problems = self.findings().iter().filter(|one| one["result"] == "problem");
        let mut found: Vec<&str> = problems.map(|one| one["check"].as_str().unwrap()).collect();
        found.dedup();
        assert_eq!(found, checks, "{:#}", self.report);
    }
}

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_fieldsync").into()
}

fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        println!("skipped: only root can act as another user");
    }
    is_root
}

/// A copy of the program that every user may run. Another program makes it: a file that this process wrote may
/// still be open in a child of another test.
fn copy_of_program(home: &Home) -> PathBuf {
    let copy = home.path("fieldsync");
    let ran = run(Command::new("cp").arg(program()).arg(&copy), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for path in [home.path(""), copy.clone()] {
        change_mode(&path, 0o755);
    }
    copy
}

fn change_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// As the user `nobody`.
fn run_doctor_as_nobody(home: &Home) -> DoctorRun {
    let copy = copy_of_program(home);
    DoctorRun::by(doctor(&copy, &home.path("config.toml")).arg("--json").uid(NOBODY).gid(NOBODY))
}

/// As people see it.
fn run_as_text(home: &Home) -> ProgramOutput {
    let ran = run(&mut doctor(&program(), &home.path("config.toml")), b"");
    assert!(!ran.stdout.contains(SESAME) && !ran.stderr.contains(SESAME), "{ran:?}");
    ran
}
