//! Enums that a newer daemon may extend: names that this version does not know are kept as text.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value of `T`, or a name that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OpenEnum<T> {
    /// A value of this version.
    Known(T),
    /// A name of a newer version.
    Unknown(String),
}

impl<T: Copy> OpenEnum<T> {
    /// The value, if this version knows it.
    pub fn known(&self) -> Option<T> {
        match self {
            Self::Known(value) => Some(*value),
            Self::Unknown(_) => None,
        }
    }
}

impl<T: Default> Default for OpenEnum<T> {
    fn default() -> Self {
        Self::Known(T::default())
    }
}

impl<T> From<T> for OpenEnum<T> {
    fn from(value: T) -> Self {
        Self::Known(value)
    }
}

impl<T: PartialEq> PartialEq<T> for OpenEnum<T> {
    fn eq(&self, other: &T) -> bool {
        matches!(self, Self::Known(value) if value == other)
    }
}

impl<T: fmt::Display> fmt::Display for OpenEnum<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(value) => value.fmt(f),
            Self::Unknown(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::BatchOutcome;

    #[test]
    fn names_of_this_and_of_newer_versions_are_read_and_written_as_they_are() {
        for (json, expected) in [
            ("\"link_too_slow\"", OpenEnum::Known(BatchOutcome::LinkTooSlow)),
            ("\"eaten\"", OpenEnum::Unknown("eaten".into())),
        ] {
            let read: OpenEnum<BatchOutcome> = serde_json::from_str(json).unwrap();
            assert_eq!(read, expected);
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
            assert_eq!(format!("\"{read}\""), json);
        }
    }
}
