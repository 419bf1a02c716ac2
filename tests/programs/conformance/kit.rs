//! Runs the kit, and reads its report.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::support::gateway::program;
use crate::support::process::{ProgramOutput, run};

/// The report of a run, by `--json`.
#[derive(Debug, Deserialize)]
pub(super) struct KitReport {
    pub(super) ok: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
    pub(super) points: Vec<KitPoint>,
}

/// A point of the report.
#[derive(Debug, Deserialize)]
pub(super) struct KitPoint {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) paragraph: String,
    pub(super) state: String,
    pub(super) expected: Option<String>,
    pub(super) found: Option<String>,
    pub(super) reason: Option<String>,
}

impl KitReport {
    /// The ids of the points with this state.
    pub(super) fn ids(&self, state: &str) -> Vec<&str> {
        self.points.iter().filter(|point| point.state == state).map(|point| point.id.as_str()).collect()
    }
}

/// Runs the command to its end.
pub(super) fn run_kit(arguments: &[&str]) -> ProgramOutput {
    let mut command = Command::new(program());
    // A run takes longer than a program may that a test waits for with a deadline.
    let ran = command.arg("conformance").args(arguments).output().unwrap();
    ProgramOutput {
        code: ran.status.code(),
        stdout: String::from_utf8(ran.stdout).unwrap(),
        stderr: String::from_utf8(ran.stderr).unwrap(),
    }
}

/// The report about a server, and whether the exit code says that all points hold.
pub(super) fn judge(url: &str, arguments: &[&str]) -> (KitReport, bool) {
    let ran = run_kit(&[&[url, "--json"], arguments].concat());
    assert!(matches!(ran.code, Some(0 | 1)), "{ran:?}");
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (report, ran.code == Some(0))
}

/// A pipe with a name.
pub(super) fn make_pipe(path: &Path) {
    let ran = run(Command::new("mkfifo").arg(path), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
