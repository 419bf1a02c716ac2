//! What a check came to, and what is to be done about it.

use serde::Serialize;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Check {
    Configuration,
    Socket,
    Permissions,
    Disk,
    Connectivity,
    Credential,
    Server,
    Clock,
    Records,
}

impl Check {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Socket => "socket",
            Self::Permissions => "permissions",
            Self::Disk => "disk",
            Self::Connectivity => "connectivity",
            Self::Credential => "credential",
            Self::Server => "server",
            Self::Clock => "clock",
            Self::Records => "records",
        }
    }
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// As it should be.
    Ok,
    /// It works, and somebody should know.
    Warning,
    /// It does not work until somebody acts.
    Problem,
    /// Nobody can tell from here.
    CouldNotCheck,
}

impl Outcome {
    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
            Self::CouldNotCheck => "could not check",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) result: Outcome,
    #[serde(rename = "finding")]
    pub(super) text: String,
    /// What to do, with a command where there is one. Everything but `ok` has one.
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(text: impl Into<String>) -> Self {
        Self { result: Outcome::Ok, text: text.into(), remedy: None }
    }

    pub(super) fn warning(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { result: Outcome::Warning, text: text.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn problem(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { result: Outcome::Problem, text: text.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn unchecked(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { result: Outcome::CouldNotCheck, text: text.into(), remedy: Some(remedy.into()) }
    }
}

/// What a check tells that found nothing else.
pub(super) fn or_well(findings: Vec<Finding>, well: impl FnOnce() -> String) -> Vec<Finding> {
    if findings.is_empty() { vec![Finding::ok(well())] } else { findings }
}
