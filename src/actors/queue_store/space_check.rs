//! When free space is measured although nothing is committed: on a full disk, so that records are accepted again soon;
//! on a nearly full one, so that its alert ends; and after a reload, which may change the threshold of the alert.

use std::time::Duration;

use actix::prelude::*;

use super::QueueStore;
use crate::config::Config;
use crate::model::DiskState;
use crate::policy::alerts::judgement::Level;
use crate::store::{Queue, StoreError};

/// How often free space is checked while the disk is full.
const FULL_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// How often free space is checked while so little is free that an alert is active.
const LOW_CHECK_INTERVAL: Duration = Duration::from_mins(5);
/// The pause between two evictions of receipts, for other operations.
const EVICTION_INTERVAL: Duration = Duration::from_millis(5);

/// The next check.
pub(super) struct SpaceCheck {
    timer: SpawnHandle,
    reason: CheckReason,
}

/// Why free space is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckReason {
    DiskFull,
    DiskLow,
}

impl CheckReason {
    fn find(disk: DiskState, free_bytes: Option<u64>, config: &Config) -> Option<Self> {
        let threshold = config.telemetry.alert_disk_free.0;
        let is_low = free_bytes.is_some_and(|free| Level::of_minimum(free, threshold) != Level::Clear);
        match disk {
            DiskState::Full => Some(Self::DiskFull),
            _ if is_low => Some(Self::DiskLow),
            _ => None,
        }
    }
}

impl QueueStore {
    /// Has one timer run, and only if there is a reason.
    pub(super) fn schedule_space_check(&mut self, ctx: &mut Context<Self>) {
        let config = self.config.borrow().clone();
        let find = |queue: &Queue| CheckReason::find(queue.disk_state(), queue.free_bytes(), &config);
        let reason = self.queue.as_ref().and_then(find);
        self.evicts_receipts |= reason != Some(CheckReason::DiskFull);
        if self.space_check.as_ref().map(|check| check.reason) == reason {
            return;
        }
        if let Some(check) = self.space_check.take() {
            ctx.cancel_future(check.timer);
        }
        let Some(reason) = reason else { return };
        let wait = match reason {
            CheckReason::DiskLow => LOW_CHECK_INTERVAL,
            CheckReason::DiskFull if std::mem::take(&mut self.evicts_receipts) => EVICTION_INTERVAL,
            CheckReason::DiskFull => FULL_CHECK_INTERVAL,
        };
        let timer = ctx.run_later(wait, move |actor, ctx| {
            actor.space_check = None;
            match reason {
                CheckReason::DiskFull => actor.evict_receipts(ctx),
                CheckReason::DiskLow => actor.check_space(ctx),
            }
        });
        self.space_check = Some(SpaceCheck { timer, reason });
    }

    pub(super) fn check_space_at_reloads(&self, ctx: &mut Context<Self>) {
        let mut config = self.config.clone();
        let store = ctx.address();
        let following = async move {
            while config.changed().await.is_ok() {
                if store.send(CheckSpace).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(following.into_actor(self));
    }

    fn evict_receipts(&mut self, ctx: &mut Context<Self>) {
        let (limits, now) = (self.limits(), self.steady.now());
        let Some(queue) = self.queue.as_mut().filter(|_| !self.failing) else { return };
        match queue.evict_receipts(limits, now) {
            Ok(more) => {
                self.evicts_receipts = more;
                self.publish_backlog();
                self.schedule_space_check(ctx);
            }
            Err(error) => self.after_space_check(Err(error), ctx),
        }
    }

    fn check_space(&mut self, ctx: &mut Context<Self>) {
        let limits = self.limits();
        let Some(queue) = self.queue.as_mut().filter(|_| !self.failing) else { return };
        let checked = queue.check_free_space(limits);
        self.after_space_check(checked, ctx);
    }

    fn after_space_check(&mut self, checked: Result<(), StoreError>, ctx: &mut Context<Self>) {
        match checked {
            Ok(()) | Err(StoreError::NoRoom) => {
                self.publish_backlog();
                self.schedule_space_check(ctx);
            }
            Err(error) => self.on_store_error(&error, ctx),
        }
    }
}

/// Measures the free space now.
#[derive(Message)]
#[rtype(result = "()")]
struct CheckSpace;

impl Handler<CheckSpace> for QueueStore {
    type Result = ();

    fn handle(&mut self, CheckSpace: CheckSpace, ctx: &mut Self::Context) {
        self.check_space(ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    #[test]
    fn free_space_is_checked_only_while_it_matters() {
        let mut config = Config::default();
        config.telemetry.alert_disk_free = Size(1000);
        let find = |disk, free| CheckReason::find(disk, free, &config);
        assert_eq!(find(DiskState::Ok, Some(999)), Some(CheckReason::DiskLow));
        assert_eq!(find(DiskState::Ok, Some(1099)), Some(CheckReason::DiskLow), "the alert may be active");
        assert_eq!(find(DiskState::Ok, Some(1100)), None);
        assert_eq!(find(DiskState::Ok, None), None);
        assert_eq!(find(DiskState::Full, Some(5000)), Some(CheckReason::DiskFull));
        config.telemetry.alert_disk_free = Size(0);
        assert_eq!(CheckReason::find(DiskState::Ok, Some(0), &config), None, "the alert is turned off");
    }
}
