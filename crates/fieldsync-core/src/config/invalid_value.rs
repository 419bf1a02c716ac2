//! A value that is not allowed, with the key that has it.

use std::fmt;

/// A key whose value is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidValue {
    /// `section.key`
    pub key: String,
    /// What is wrong and which values are allowed.
    pub reason: String,
}

impl fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}
