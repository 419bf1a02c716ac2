//! Which records share a lane: those of a key that one user handed over, or all records of a key.
//!
//! Names of lanes are made here and nowhere else.

use std::ops::{Range, RangeInclusive};

use crate::config::Config;

/// Owner of all lanes where users share keys; no user has this uid.
const ALL_SUBMITTERS_UID: u32 = u32::MAX;

/// Among whose records a key makes an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeySpace {
    /// Each user has keys of its own.
    #[default]
    PerSubmitter,
    /// A key is the same for all users (`queue.shared_keys`).
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

/// The name of a lane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Lane {
    owner: u32,
    key: String,
}

/// Where a record stands in the table of lanes: owner, key, order of arrival.
pub(super) type LanePosition<'l> = (u32, &'l str, u64);

impl Lane {
    /// The position of the record that arrived as this one.
    pub(super) fn position_of(&self, seq: u64) -> LanePosition<'_> {
        (self.owner, &self.key, seq)
    }

    /// The positions from this `seq` on, up to and without another.
    pub(super) fn positions_between(&self, from: u64, end: u64) -> Range<LanePosition<'_>> {
        self.position_of(from)..self.position_of(end)
    }

    /// The positions from this `seq` on.
    pub(super) fn positions_from(&self, from: u64) -> RangeInclusive<LanePosition<'_>> {
        self.position_of(from)..=self.position_of(u64::MAX)
    }

    /// Whether a record of this user and key is in it.
    pub(super) fn includes_key_of(&self, submitter: u32, key: &str) -> bool {
        self.key == key && [submitter, ALL_SUBMITTERS_UID].contains(&self.owner)
    }
}
