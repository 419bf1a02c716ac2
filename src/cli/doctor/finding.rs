//! The result of a check, and what to do about it.

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
    Alerts,
}

impl Check {
    /// For people. JSON has the names of the variants.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Socket => "socket",
            Self::Permissions => "permissions",
            Self::Disk => "disk",
            Self::Connectivity => "connectivity",
            Self::Credential => "tokens, certs",
            Self::Server => "server",
            Self::Clock => "clock",
            Self::Records => "records",
            Self::Alerts => "alerts",
        }
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CheckResult {
    /// As it should be.
    Ok,
    /// It works, but it should be known.
    Warning,
    /// It does not work until it is repaired.
    Problem,
    /// This user or this device cannot tell.
    CouldNotCheck,
}

impl CheckResult {
    /// The smallest is shown first.
    pub(super) fn urgency(self) -> u8 {
        match self {
            Self::Problem => 0,
            Self::Warning => 1,
            Self::CouldNotCheck => 2,
            Self::Ok => 3,
        }
    }

    /// For people.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
            Self::CouldNotCheck => "could not check",
        }
    }
}

/// One observation of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) result: CheckResult,
    #[serde(rename = "finding")]
    pub(super) text: String,
    /// What to do, with a command if there is one. Every result except `ok` has a remedy.
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(text: impl Into<String>) -> Self {
        Self { result: CheckResult::Ok, text: text.into(), remedy: None }
    }

    pub(super) fn warning(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { result: CheckResult::Warning, text: text.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn problem(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { result: CheckResult::Problem, text: text.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn unchecked(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { result: CheckResult::CouldNotCheck, text: text.into(), remedy: Some(remedy.into()) }
    }
}

/// The findings, or `ok` with this text if there are none.
pub(super) fn or_ok(findings: Vec<Finding>, text: impl FnOnce() -> String) -> Vec<Finding> {
    if findings.is_empty() { vec![Finding::ok(text())] } else { findings }
}
