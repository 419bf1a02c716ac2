//! Decides which records share a lane: those of one key and user, or all records of a key.
//!
//! Keys of the lane table are made only here.

use std::ops::{Range, RangeInclusive};

use crate::config::Config;

/// Owner of all lanes when users share keys. No user has this uid.
const ALL_SUBMITTERS_UID: u32 = u32::MAX;

/// Whether a key orders the records of one user or of all users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeySpace {
    /// Each user has its own keys.
    #[default]
    PerSubmitter,
    /// All users share keys (`queue.shared_keys`).
    Shared,
}

impl From<&Config> for KeySpace {
    fn from(config: &Config) -> Self {
        if config.queue.shared_keys { Self::Shared } else { Self::PerSubmitter }
    }
}

impl KeySpace {
    /// The lane of a record; none without a key.
    pub(super) fn lane_of(self, submitter: u32, key: Option<&str>) -> Option<Lane> {
        let owner = match self {
            Self::PerSubmitter => submitter,
            Self::Shared => ALL_SUBMITTERS_UID,
        };
        key.map(|key| Lane { owner, key: key.to_owned() })
    }
}

/// Identifies a lane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Lane {
    owner: u32,
    key: String,
}

/// Key of the lane table: owner, key, order of arrival.
pub(super) type LanePosition<'l> = (u32, &'l str, u64);

impl Lane {
    /// The table key of the record with this `seq`.
    pub(super) fn position_of(&self, seq: u64) -> LanePosition<'_> {
        (self.owner, &self.key, seq)
    }

    /// The table keys from one `seq` up to, but not including, another.
    pub(super) fn positions_between(&self, from: u64, end: u64) -> Range<LanePosition<'_>> {
        self.position_of(from)..self.position_of(end)
    }

    /// The table keys from this `seq` on.
    pub(super) fn positions_from(&self, from: u64) -> RangeInclusive<LanePosition<'_>> {
        self.position_of(from)..=self.position_of(u64::MAX)
    }

    /// The key of its records. Lanes of several users may have the same one.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Whether the lane contains records of this user and key.
    pub(super) fn includes_key_of(&self, submitter: u32, key: &str) -> bool {
        self.key == key && [submitter, ALL_SUBMITTERS_UID].contains(&self.owner)
    }
}
