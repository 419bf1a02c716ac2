//! How a point ends that does not hold, or that cannot be judged.

/// The result of a point, or of a step of it.
pub(super) type PointResult<T = ()> = Result<T, Finding>;

/// Why a point does not hold, or cannot be judged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The server did something else than the protocol says.
    Failed { expected: String, found: String },
    /// It cannot be judged here, for this reason.
    Skipped(String),
}

impl Finding {
    pub(super) fn failed(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Failed { expected: expected.into(), found: found.into() }
    }

    pub(super) fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped(reason.into())
    }
}

/// Fails the point unless `holds`.
pub(super) fn require(
    holds: bool,
    expected: impl Into<String>,
    found: impl FnOnce() -> String,
) -> PointResult {
    if holds { Ok(()) } else { Err(Finding::failed(expected, found())) }
}
