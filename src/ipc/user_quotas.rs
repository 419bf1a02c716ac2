//! A limited resource that users share: connections, event streams, memory for large bodies.
//!
//! Root and the daemon's own user may take all of it. Any other user may take half, and all of them together leave an
//! eighth, so that admins always get through.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;

use super::auth::is_unlimited;

/// One user may take this fraction of the total.
const USER_DIVISOR: usize = 2;
/// This fraction of the total is reserved for root and the daemon's own user.
const RESERVE_DIVISOR: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct UserQuotas(Rc<SharedQuotas>);

#[derive(Debug)]
struct SharedQuotas {
    total: Cell<usize>,
    usage: RefCell<QuotaUsage>,
    released: Notify,
}

#[derive(Debug, Default)]
struct QuotaUsage {
    all: usize,
    /// Of all users that are limited.
    limited: usize,
    by_uid: BTreeMap<u32, usize>,
}

impl QuotaUsage {
    fn has_room(&self, total: usize, uid: u32, amount: usize) -> bool {
        let fits = |used: usize, limit: usize| used.saturating_add(amount) <= limit;
        if is_unlimited(uid) {
            return fits(self.all, total);
        }
        let reserve = total.div_ceil(RESERVE_DIVISOR).min(total.saturating_sub(1));
        let of_user = self.by_uid.get(&uid).copied().unwrap_or_default();
        fits(self.all, total)
            && fits(self.limited, total - reserve)
            && fits(of_user, (total / USER_DIVISOR).max(1))
    }

    fn add_usage(&mut self, uid: u32, amount: usize) {
        self.all = self.all.saturating_add(amount);
        if !is_unlimited(uid) && amount > 0 {
            self.limited = self.limited.saturating_add(amount);
            *self.by_uid.entry(uid).or_default() += amount;
        }
    }

    fn subtract_usage(&mut self, uid: u32, amount: usize) {
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

impl UserQuotas {
    pub(super) fn new(total: usize) -> Self {
        let usage = RefCell::default();
        Self(Rc::new(SharedQuotas { total: Cell::new(total), usage, released: Notify::new() }))
    }

    /// Guards keep what they have, even if that is more than the new total.
    pub(super) fn set_total(&self, total: usize) {
        self.0.total.set(total);
    }

    /// None if the user may not have this amount now.
    pub(super) fn try_acquire(&self, uid: u32, amount: usize) -> Option<QuotaGuard> {
        let mut guard = QuotaGuard { quotas: self.clone(), uid, amount: 0 };
        guard.try_grow(amount).then_some(guard)
    }

    /// Waits until the user may have this amount. Only one task at a time may wait.
    pub(super) async fn acquire(&self, uid: u32, amount: usize) -> QuotaGuard {
        loop {
            if let Some(guard) = self.try_acquire(uid, amount) {
                return guard;
            }
            self.0.released.notified().await;
        }
    }

    /// Waits until everything is released. Only one task at a time may wait.
    pub(super) async fn wait_until_unused(&self) {
        while self.0.usage.borrow().all > 0 {
            self.0.released.notified().await;
        }
    }
}

/// Holds part of a user's quota until it is dropped.
#[derive(Debug)]
pub(super) struct QuotaGuard {
    quotas: UserQuotas,
    uid: u32,
    amount: usize,
}

impl QuotaGuard {
    /// Returns false, and takes nothing, if the user may not have this much more now.
    pub(super) fn try_grow(&mut self, amount: usize) -> bool {
        let shared = &self.quotas.0;
        let mut usage = shared.usage.borrow_mut();
        let has_room = usage.has_room(shared.total.get(), self.uid, amount);
        if has_room {
            usage.add_usage(self.uid, amount);
            self.amount += amount;
        }
        has_room
    }
}

impl Drop for QuotaGuard {
    fn drop(&mut self) {
        // A guard that was not granted has nothing to release.
        if self.amount > 0 {
            self.quotas.0.usage.borrow_mut().subtract_usage(self.uid, self.amount);
            self.quotas.0.released.notify_one();
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

    /// Takes single units until the quota is used up.
    fn take_all(quotas: &UserQuotas, uid: u32) -> Vec<QuotaGuard> {
        std::iter::from_fn(|| quotas.try_acquire(uid, 1)).collect()
    }

    #[test]
    fn a_user_has_at_most_half_and_all_users_leave_an_eighth_to_root() {
        for (total, half, together) in [(64, 32, 56), (8, 4, 7), (3, 1, 2), (2, 1, 1), (1, 1, 1)] {
            let quotas = UserQuotas::new(total);
            let first = take_all(&quotas, A);
            assert_eq!(first.len(), half, "of {total}");
            let others = [take_all(&quotas, B), take_all(&quotas, C)];
            let taken = first.len() + others.iter().map(Vec::len).sum::<usize>();
            assert_eq!(taken, together, "of {total}");
            assert_eq!(take_all(&quotas, ROOT).len(), total - together, "of {total}");
            drop((first, others));
            assert_eq!(take_all(&quotas, B).len(), half, "what was released can be taken again");
        }
    }

    #[test]
    fn root_may_take_everything_so_that_users_have_nothing() {
        let quotas = UserQuotas::new(8);
        let all = take_all(&quotas, ROOT);
        assert_eq!(all.len(), 8);
        assert!(quotas.try_acquire(A, 1).is_none());
        drop(all);
        assert!(quotas.try_acquire(A, 5).is_none(), "all of it or nothing");
        let mut guard = quotas.try_acquire(A, 3).unwrap();
        assert!(!guard.try_grow(2) && guard.try_grow(1) && !guard.try_grow(1) && guard.try_grow(0));
        quotas.set_total(16);
        assert!(guard.try_grow(4));
    }

    #[tokio::test]
    async fn a_waiting_task_gets_what_is_released() {
        let quotas = UserQuotas::new(2);
        let (first, second) = (quotas.try_acquire(ROOT, 1).unwrap(), quotas.try_acquire(A, 1).unwrap());
        assert!(quotas.acquire(ROOT, 1).now_or_never().is_none(), "it waits, and does not poll");
        let waiting = quotas.acquire(ROOT, 1);
        let (third, ()) = tokio::join!(waiting, async { drop(second) });
        let released = quotas.wait_until_unused();
        tokio::join!(released, async { drop((first, third)) });
        assert!(quotas.0.usage.borrow().by_uid.is_empty());
    }
}
