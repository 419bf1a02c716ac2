//! How large a body may be: on a link that cuts, and at a server that refuses large ones.
//!
//! A body that was cut halves the limit of the link, one that came through gives half as much back. A body
//! that the server refused as too large halves the limit of the server, which is given back in small steps, as
//! each try costs a body; unless a larger one was accepted before: then it is not about the size.

use serde::{Deserialize, Serialize};

/// The least byte limit that cuts and refusals of large bodies can lead to.
const LEAST_LIMIT_BYTES: u64 = 4096;
/// A body that is larger than this part of the link's limit shows that it holds.
const NEAR_CUT_LIMIT: u64 = 2;
/// A body that comes within this part of the server's limit shows that it holds, and raises it by the step.
const NEAR_REFUSED_LIMIT: u64 = 4;
const REFUSED_LIMIT_STEP: u64 = 16;

/// What is known of the bodies that get through, in payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ByteLimits {
    /// Where the link cut larger ones.
    link: Option<u64>,
    /// Where the server refused larger ones.
    server: Option<u64>,
    /// The largest that the server accepted.
    largest_accepted: u64,
}

impl ByteLimits {
    /// The link broke while a body of `bytes` went out.
    pub fn cut(&mut self, bytes: u64) {
        self.link = Some(halved(self.link, bytes));
    }

    /// The server refused a body of `bytes` as too large; whether its size can be the reason.
    pub fn refused(&mut self, bytes: u64) -> bool {
        let by_size = bytes > self.largest_accepted;
        if by_size {
            self.server = Some(halved(self.server, bytes));
        }
        by_size
    }

    /// A record of `bytes` was refused alone and set aside: where larger bodies are known to be accepted, what was
    /// learned from the batches that it was in was about the record.
    pub fn explained(&mut self, bytes: u64) {
        if bytes <= self.largest_accepted {
            self.server = None;
        }
    }

    /// A body of `bytes` was accepted; limits are forgotten beyond `most`. The server's limit rises only by bodies
    /// that were made as large as it allows.
    pub fn accepted(&mut self, bytes: u64, most: u64, is_fresh: bool) {
        self.largest_accepted = self.largest_accepted.max(bytes);
        if let Some(limit) = self.link.filter(|limit| bytes >= limit / NEAR_CUT_LIMIT) {
            self.link = Some(limit + limit / 2).filter(|limit| *limit < most);
        }
        let near = |limit: &u64| is_fresh && bytes > limit - limit / NEAR_REFUSED_LIMIT;
        if let Some(limit) = self.server.filter(near) {
            let raised = limit + limit / REFUSED_LIMIT_STEP;
            self.server = Some(raised).filter(|raised| *raised < most);
        }
    }

    /// The smaller of the two limits, if there is one.
    pub fn limit(&self) -> Option<u64> {
        self.link.into_iter().chain(self.server).min()
    }
}

fn halved(limit: Option<u64>, bytes: u64) -> u64 {
    let half = (bytes / 2).max(LEAST_LIMIT_BYTES);
    limit.map_or(half, |limit| limit.min(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 1 << 20;

    #[test]
    fn a_cut_halves_and_arrivals_give_back() {
        let mut limits = ByteLimits::default();
        limits.cut(100_000);
        limits.cut(200_000);
        assert_eq!(limits.limit(), Some(50_000));
        limits.accepted(1000, MOST, true);
        assert_eq!(limits.limit(), Some(50_000), "a small one proves nothing");
        limits.accepted(45_000, MOST, true);
        assert_eq!(limits.limit(), Some(75_000));
        for _ in 0..10 {
            limits.accepted(limits.limit().unwrap_or(MOST), MOST, true);
        }
        assert_eq!(limits.limit(), None);
        for _ in 0..20 {
            limits.cut(limits.limit().unwrap_or(10_000));
        }
        assert_eq!(limits.limit(), Some(LEAST_LIMIT_BYTES));
    }

    #[test]
    fn a_refusal_halves_and_the_limit_rises_slowly() {
        let mut limits = ByteLimits::default();
        assert!(limits.refused(100_000));
        assert_eq!(limits.limit(), Some(50_000));
        limits.accepted(30_000, MOST, true);
        limits.accepted(50_000, MOST, false);
        assert_eq!(limits.limit(), Some(50_000), "neither was made to the limit");
        limits.accepted(48_000, MOST, true);
        assert_eq!(limits.limit(), Some(53_125));
        for _ in 0..100 {
            limits.accepted(limits.limit().unwrap_or(MOST), MOST, true);
        }
        assert_eq!(limits.limit(), None);
    }

    #[test]
    fn a_refusal_is_not_about_the_size_where_larger_bodies_were_accepted() {
        let mut limits = ByteLimits::default();
        assert!(limits.refused(40_000));
        limits.accepted(20_000, MOST, false);
        assert!(!limits.refused(20_000), "its other half was as large");
        assert_eq!(limits.limit(), Some(20_000));
        limits.explained(30_000);
        assert_eq!(limits.limit(), Some(20_000), "it may have been too large");
        limits.explained(1000);
        assert_eq!(limits.limit(), None);
    }
}
