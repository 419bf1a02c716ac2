//! Something limited that users share: connections, event streams, memory for large bodies.
//!
//! Root and the daemon's own user may take all of it. Any other user has at most half, and all others together
//! leave a part to those two: whatever users do, an admin gets through.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;

use super::auth::is_unlimited;

/// One user has at most this part of the total.
const USER_DIVISOR: usize = 2;
/// This part of the total is kept for root and the daemon's own user.
const RESERVE_DIVISOR: usize = 8;

/// What there is, and who has taken how much of it.
#[derive(Clone, Debug)]
pub(super) struct Shares(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    total: Cell<usize>,
    taken: RefCell<Taken>,
    released: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// By users that are limited, together and each.
    limited: usize,
    by_uid: BTreeMap<u32, usize>,
}

impl Taken {
    fn fits(&self, total: usize, uid: u32, amount: usize) -> bool {
        let fits = |taken: usize, most: usize| taken.saturating_add(amount) <= most;
        if is_unlimited(uid) {
            return fits(self.all, total);
        }
        let reserve = total.div_ceil(RESERVE_DIVISOR).min(total.saturating_sub(1));
        let of_user = self.by_uid.get(&uid).copied().unwrap_or_default();
        fits(self.all, total)
            && fits(self.limited, total - reserve)
            && fits(of_user, (total / USER_DIVISOR).max(1))
    }

    fn add(&mut self, uid: u32, amount: usize) {
        self.all = self.all.saturating_add(amount);
        if !is_unlimited(uid) && amount > 0 {
            self.limited = self.limited.saturating_add(amount);
            *self.by_uid.entry(uid).or_default() += amount;
        }
    }

    fn subtract(&mut self, uid: u32, amount: usize) {
        self.all = self.all.saturating_sub(amount);
        if let Some(of_user) = self.by_uid.get_mut(&uid) {
            self.limited = self.limited.saturating_sub(amount);
            *of_user = of_user.saturating_sub(amount);
            if *of_user == 0 {
                self.by_uid.remove(&uid);
            }
        }
    }
}

impl Shares {
    pub(super) fn new(total: usize) -> Self {
        Self(Rc::new(Inner { total: Cell::new(total), taken: RefCell::default(), released: Notify::new() }))
    }

    /// What is taken stays taken, even if it is more than the new total.
    pub(super) fn set_total(&self, total: usize) {
        self.0.total.set(total);
    }

    /// Takes so much for a user, unless that is more than the user may have now.
    pub(super) fn take(&self, uid: u32, amount: usize) -> Option<Share> {
        let mut share = Share { shares: self.clone(), uid, amount: 0 };
        share.grow(amount).then_some(share)
    }

    /// Waits until so much can be taken. One task at a time may wait.
    pub(super) async fn wait_and_take(&self, uid: u32, amount: usize) -> Share {
        loop {
            if let Some(share) = self.take(uid, amount) {
                return share;
            }
            self.0.released.notified().await;
        }
    }

    /// Waits until nothing is taken. One task at a time may wait.
    pub(super) async fn wait_until_released(&self) {
        while self.0.taken.borrow().all > 0 {
            self.0.released.notified().await;
        }
    }
}

/// What a user has taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Shares,
    uid: u32,
    amount: usize,
}

impl Share {
    /// Takes so much more; false, and nothing is taken, when that is more than the user may have now.
    pub(super) fn grow(&mut self, amount: usize) -> bool {
        let inner = &self.shares.0;
        let mut taken = inner.taken.borrow_mut();
        let fits = taken.fits(inner.total.get(), self.uid, amount);
        if fits {
            taken.add(self.uid, amount);
            self.amount += amount;
        }
        fits
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // One that was refused has nothing to release, and wakes nobody.
        if self.amount > 0 {
            self.shares.0.taken.borrow_mut().subtract(self.uid, self.amount);
            self.shares.0.released.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const ROOT: u32 = 0;
    /// Users that no test runs as.
    const A: u32 = 54_321;
    const B: u32 = 54_322;
    const C: u32 = 54_323;

    /// Takes single units until no more are given.
    fn take_all(shares: &Shares, uid: u32) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(uid, 1)).collect()
    }

    #[test]
    fn a_user_has_half_and_all_users_leave_an_eighth_to_root() {
        for (total, half, together) in [(64, 32, 56), (8, 4, 7), (3, 1, 2), (2, 1, 1), (1, 1, 1)] {
            let shares = Shares::new(total);
            let first = take_all(&shares, A);
            assert_eq!(first.len(), half, "of {total}");
            let others = [take_all(&shares, B), take_all(&shares, C)];
            let taken = first.len() + others.iter().map(Vec::len).sum::<usize>();
            assert_eq!(taken, together, "of {total}");
            assert_eq!(take_all(&shares, ROOT).len(), total - together, "of {total}");
            drop((first, others));
            assert_eq!(take_all(&shares, B).len(), half, "what was released can be taken again");
        }
    }

    #[test]
    fn root_may_take_everything_and_users_have_nothing_then() {
        let shares = Shares::new(8);
        let all = take_all(&shares, ROOT);
        assert_eq!(all.len(), 8);
        assert!(shares.take(A, 1).is_none());
        drop(all);
        assert!(shares.take(A, 5).is_none(), "all of it or nothing");
        let mut share = shares.take(A, 3).unwrap();
        assert!(!share.grow(2) && share.grow(1) && !share.grow(1) && share.grow(0));
        shares.set_total(16);
        assert!(share.grow(4));
    }

    #[tokio::test]
    async fn who_waits_gets_what_is_released() {
        let shares = Shares::new(2);
        let (first, second) = (shares.take(ROOT, 1).unwrap(), shares.take(A, 1).unwrap());
        assert!(
            shares.wait_and_take(ROOT, 1).now_or_never().is_none(),
            "it waits, and does not ask again and again"
        );
        let waiting = shares.wait_and_take(ROOT, 1);
        let (third, ()) = tokio::join!(waiting, async { drop(second) });
        let released = shares.wait_until_released();
        tokio::join!(released, async { drop((first, third)) });
        assert!(shares.0.taken.borrow().by_uid.is_empty());
    }
}
