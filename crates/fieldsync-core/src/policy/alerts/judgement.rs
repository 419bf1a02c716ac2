//! How far a condition is from its threshold, and the margin between the start and the end of an alert.

use crate::api::AlertSeverity;

/// An alert ends when its value is this many hundredths of the threshold away from it.
const MARGIN_PERCENT: u128 = 10;

/// How far a condition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Clearly on the good side: the alert ends.
    Clear,
    /// Near the threshold: the alert stays as it is.
    Between,
    /// Beyond the threshold: the alert starts.
    Beyond,
}

impl Level {
    /// A value that must stay below a threshold.
    pub fn of_maximum(value: u64, threshold: u64) -> Self {
        let (value, threshold) = (u128::from(value) * 100, u128::from(threshold));
        if value >= threshold * 100 {
            Self::Beyond
        } else if value >= threshold * (100 - MARGIN_PERCENT) {
            Self::Between
        } else {
            Self::Clear
        }
    }

    /// A value that must not fall below a threshold.
    pub fn of_minimum(value: u64, threshold: u64) -> Self {
        let (value, threshold) = (u128::from(value) * 100, u128::from(threshold));
        if value < threshold * 100 {
            Self::Beyond
        } else if value < threshold * (100 + MARGIN_PERCENT) {
            Self::Between
        } else {
            Self::Clear
        }
    }

    /// A value that must stay below a threshold and varies a lot: the alert ends below half of it.
    pub fn of_varying(value: u64, threshold: u64) -> Self {
        if value >= threshold {
            Self::Beyond
        } else if value.saturating_mul(2) >= threshold && value > 0 {
            Self::Between
        } else {
            Self::Clear
        }
    }
}

/// What an alert says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertText {
    /// How urgent it is.
    pub severity: AlertSeverity,
    /// What happened, and what it means for the records.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl AlertText {
    /// A person should look at it.
    pub fn warning(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: AlertSeverity::Warning, message: message.into(), remedy: remedy.into() }
    }

    /// A person must act now.
    pub fn critical(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: AlertSeverity::Critical, message: message.into(), remedy: remedy.into() }
    }
}

/// What a rule says of the present facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// How far the condition is.
    pub level: Level,
    /// What the alert says; none if the condition is clear.
    pub text: Option<AlertText>,
    /// When the passing of time alone changes the judgement, in steady milliseconds.
    pub next_change: Option<u64>,
    /// How long the condition must be clear before the alert ends, in milliseconds.
    pub end_delay: u64,
    /// Since when the condition holds, in wall milliseconds, if it knows.
    pub since: Option<u64>,
}

impl Judgement {
    /// The condition is clear, or the alert is turned off.
    pub const CLEAR: Self =
        Self { level: Level::Clear, text: None, next_change: None, end_delay: 0, since: None };

    /// A condition at this level. The text is only made if it may be shown.
    pub fn at(level: Level, text: impl FnOnce() -> AlertText) -> Self {
        Self { level, text: (level > Level::Clear).then(text), ..Self::CLEAR }
    }

    /// A condition without a threshold.
    pub fn when(holds: bool, text: impl FnOnce() -> AlertText) -> Self {
        Self::at(if holds { Level::Beyond } else { Level::Clear }, text)
    }

    /// A condition that is judged by how long it lasts.
    pub fn lasting(now: u64, since: u64, limit: u64, text: impl FnOnce() -> AlertText) -> Self {
        let level = Level::of_maximum(now.saturating_sub(since), limit);
        let next_change = Some(since.saturating_add(limit)).filter(|due| *due > now);
        Self { next_change, ..Self::at(level, text) }
    }
}
