//! How many records go into a fresh batch, and why.
//!
//! The customer's three sizes are the start: a large queue goes in small batches, a large
//! payload in middling ones, anything else in the standard size. Four things make it smaller,
//! never larger: the breaker's micro-batches, a hint of the server, the measured time per record
//! ([`crate::policy::service_time`]), and the cap that a time-out leaves behind.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config;

/// Which rule gave a batch its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SizeRule {
    /// More records wait than `large_queue_records`.
    LargeQueue,
    /// More bytes wait than `large_payload_bytes`.
    LargePayload,
    /// Neither.
    Standard,
    /// What was measured says that more would not fit the time limit.
    Learned,
    /// The breaker asked for micro-batches.
    Micro,
    /// A part of a batch that failed.
    Split,
    /// The server asked for no more.
    ServerHint,
}

impl SizeRule {
    /// The name in the API and in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::LargeQueue => "large_queue",
            Self::LargePayload => "large_payload",
            Self::Standard => "standard",
            Self::Learned => "learned",
            Self::Micro => "micro",
            Self::Split => "split",
            Self::ServerHint => "server_hint",
        }
    }
}

/// What a fresh batch may hold at most, and which rule says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimit {
    /// Records, at least 1.
    pub records: usize,
    /// Payload bytes; a single larger record still goes, alone.
    pub bytes: u64,
    /// Which rule decided the number of records.
    pub rule: SizeRule,
}

/// What the server said that it takes, on any answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `X-Sync-Max-Records`
    pub max_records: Option<usize>,
    /// `X-Sync-Max-Bytes`
    pub max_bytes: Option<u64>,
    /// `X-Sync-Time-Budget-Ms`
    pub time_budget: Option<Duration>,
}

impl Hints {
    /// The newer hint wins, where there is one.
    pub fn update(&mut self, newer: Hints) {
        self.max_records = newer.max_records.or(self.max_records);
        self.max_bytes = newer.max_bytes.or(self.max_bytes);
        self.time_budget = newer.time_budget.or(self.time_budget);
    }
}

/// Everything that a size depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    /// Records that wait.
    pub waiting_records: u64,
    /// Their payload bytes.
    pub waiting_bytes: u64,
    /// The breaker asks for micro-batches.
    pub micro: bool,
    /// The largest size that what was learned allows.
    pub learned: Option<usize>,
    /// The largest number of bytes that what was learned allows.
    pub learned_bytes: Option<u64>,
    /// What the server asks for.
    pub hints: Hints,
}

/// The size of the next fresh batch.
pub fn choose(config: &config::Batch, demand: &Demand) -> BatchLimit {
    let (mut records, mut rule) = if demand.waiting_records > config.large_queue_records {
        (config.large_queue_batch, SizeRule::LargeQueue)
    } else if demand.waiting_bytes > config.large_payload_bytes.0 {
        (config.large_payload_batch, SizeRule::LargePayload)
    } else {
        (config.standard_batch, SizeRule::Standard)
    };
    let mut bound = |limit: Option<usize>, because| {
        if let Some(limit) = limit.filter(|limit| *limit < records) {
            (records, rule) = (limit, because);
        }
    };
    bound(demand.learned, SizeRule::Learned);
    bound(demand.hints.max_records, SizeRule::ServerHint);
    bound(demand.micro.then_some(config.micro_batch), SizeRule::Micro);
    let bytes = [demand.learned_bytes, demand.hints.max_bytes]
        .into_iter()
        .flatten()
        .fold(config.max_batch_bytes.0, u64::min);
    BatchLimit { records: records.max(1), bytes: bytes.max(1), rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(demand: Demand) -> (usize, SizeRule) {
        let limit = choose(&config::Batch::default(), &demand);
        (limit.records, limit.rule)
    }

    #[test]
    fn the_three_sizes_of_the_customer() {
        const MIB: u64 = 1 << 20;
        for (waiting_records, waiting_bytes, expected) in [
            (101, 0, (25, SizeRule::LargeQueue)),
            (101, 2 * MIB, (25, SizeRule::LargeQueue)),
            (100, MIB + 1, (30, SizeRule::LargePayload)),
            (100, MIB, (50, SizeRule::Standard)),
            (1, 10, (50, SizeRule::Standard)),
        ] {
            let demand = Demand { waiting_records, waiting_bytes, ..Demand::default() };
            assert_eq!(size(demand), expected, "{waiting_records} records, {waiting_bytes} bytes");
        }
    }

    #[test]
    fn the_tightest_bound_decides_and_names_the_rule() {
        let hints = Hints { max_records: Some(20), ..Hints::default() };
        for (micro, learned, hints, expected) in [
            (false, Some(23), Hints::default(), (23, SizeRule::Learned)),
            (false, Some(80), Hints::default(), (50, SizeRule::Standard)),
            (false, Some(23), hints, (20, SizeRule::ServerHint)),
            (true, Some(23), hints, (10, SizeRule::Micro)),
            (true, Some(4), hints, (4, SizeRule::Learned)),
            (false, Some(0), hints, (1, SizeRule::Learned)),
        ] {
            let demand = Demand { micro, learned, hints, ..Demand::default() };
            assert_eq!(size(demand), expected);
        }
    }

    #[test]
    fn bytes_obey_the_smallest_of_all_limits() {
        let demand = Demand {
            learned_bytes: Some(5000),
            hints: Hints { max_bytes: Some(4000), ..Hints::default() },
            ..Demand::default()
        };
        assert_eq!(choose(&config::Batch::default(), &demand).bytes, 4000);
        assert_eq!(choose(&config::Batch::default(), &Demand::default()).bytes, 4 << 20);
    }
}
