//! How large a body may be: on a link that breaks during uploads, and for a server that refuses large bodies.
//!
//! If the link breaks during a body, its limit is halved; a body that is sent completely raises it by half. If the
//! server refuses a body as too large, its limit is halved, and it is raised in small steps, as each attempt costs a
//! body. If the server accepted a larger body before, the size is not the reason, and its limit stays.

use serde::{Deserialize, Serialize};

/// The smallest byte limit that can be learned.
const LIMIT_BYTES_MIN: u64 = 4096;
/// A body larger than the link's limit divided by this raises that limit.
const LINK_LIMIT_TEST_DIVISOR: u64 = 2;
/// A body within the server's limit divided by this of the limit raises it by one step.
const SERVER_LIMIT_TEST_DIVISOR: u64 = 4;
const SERVER_LIMIT_STEP_DIVISOR: u64 = 16;

/// The learned limits, in payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ByteLimits {
    /// The limit of the link.
    link: Option<u64>,
    /// The limit of the server.
    server: Option<u64>,
    /// The largest body that the server accepted.
    largest_accepted: u64,
}

impl ByteLimits {
    /// The link broke while a body of `bytes` was being sent.
    pub fn record_cut(&mut self, bytes: u64) {
        self.link = Some(halve_limit(self.link, bytes));
    }

    /// The server refused a body of `bytes` as too large. Returns whether its size can be the reason.
    pub fn record_refusal(&mut self, bytes: u64) -> bool {
        let by_size = bytes > self.largest_accepted;
        if by_size {
            self.server = Some(halve_limit(self.server, bytes));
        }
        by_size
    }

    /// A record of `bytes` was refused alone and quarantined. If larger bodies were accepted, the refused batches that
    /// contained it said something about the record, not about their size.
    pub fn record_faulty_record(&mut self, bytes: u64) {
        if bytes <= self.largest_accepted {
            self.server = None;
        }
    }

    /// A body of `bytes` was accepted. A limit that reaches `most` is dropped. Only bodies that were filled up to the
    /// server's limit raise it.
    pub fn record_acceptance(&mut self, bytes: u64, most: u64, is_fresh: bool) {
        self.largest_accepted = self.largest_accepted.max(bytes);
        if let Some(limit) = self.link.filter(|limit| bytes >= limit / LINK_LIMIT_TEST_DIVISOR) {
            self.link = Some(limit + limit / 2).filter(|limit| *limit < most);
        }
        let near = |limit: &u64| is_fresh && bytes > limit - limit / SERVER_LIMIT_TEST_DIVISOR;
        if let Some(limit) = self.server.filter(near) {
            let raised = limit + limit / SERVER_LIMIT_STEP_DIVISOR;
            self.server = Some(raised).filter(|raised| *raised < most);
        }
    }

    /// The smaller of the two limits, if there is one.
    pub fn limit(&self) -> Option<u64> {
        self.link.into_iter().chain(self.server).min()
    }
}

fn halve_limit(limit: Option<u64>, bytes: u64) -> u64 {
    let half = (bytes / 2).max(LIMIT_BYTES_MIN);
    limit.map_or(half, |limit| limit.min(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 1 << 20;

    #[test]
    fn a_cut_halves_and_arrivals_give_back() {
        let mut limits = ByteLimits::default();
        limits.record_cut(100_000);
        limits.record_cut(200_000);
        assert_eq!(limits.limit(), Some(50_000));
        limits.record_acceptance(1000, MOST, true);
        assert_eq!(limits.limit(), Some(50_000), "a small one proves nothing");
        limits.record_acceptance(45_000, MOST, true);
        assert_eq!(limits.limit(), Some(75_000));
        for _ in 0..10 {
            limits.record_acceptance(limits.limit().unwrap_or(MOST), MOST, true);
        }
        assert_eq!(limits.limit(), None);
        for _ in 0..20 {
            limits.record_cut(limits.limit().unwrap_or(10_000));
        }
        assert_eq!(limits.limit(), Some(LIMIT_BYTES_MIN));
    }

    #[test]
    fn a_refusal_halves_and_the_limit_rises_slowly() {
        let mut limits = ByteLimits::default();
        assert!(limits.record_refusal(100_000));
        assert_eq!(limits.limit(), Some(50_000));
        limits.record_acceptance(30_000, MOST, true);
        limits.record_acceptance(50_000, MOST, false);
        assert_eq!(limits.limit(), Some(50_000), "neither was made to the limit");
        limits.record_acceptance(48_000, MOST, true);
        assert_eq!(limits.limit(), Some(53_125));
        for _ in 0..100 {
            limits.record_acceptance(limits.limit().unwrap_or(MOST), MOST, true);
        }
        assert_eq!(limits.limit(), None);
    }

    #[test]
    fn a_refusal_is_not_about_the_size_where_larger_bodies_were_accepted() {
        let mut limits = ByteLimits::default();
        assert!(limits.record_refusal(40_000));
        limits.record_acceptance(20_000, MOST, false);
        assert!(!limits.record_refusal(20_000), "its other half was as large");
        assert_eq!(limits.limit(), Some(20_000));
        limits.record_faulty_record(30_000);
        assert_eq!(limits.limit(), Some(20_000), "it may have been too large");
        limits.record_faulty_record(1000);
        assert_eq!(limits.limit(), None);
    }
}
