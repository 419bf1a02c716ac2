//! The only writer of the store, on a thread of its own, so that only commits wait for the disk.
//!
//! Group commit: an operation is added to the group, and a flush message is queued behind everything in the mailbox. So
//! all operations that arrive during one commit share the next. Senders that just got their reply send again one by
//! one: the flush yields to them a few times, because otherwise the first would be committed alone. A full group is
//! flushed at once, because otherwise a flood of messages would delay it without bound.
//!
//! Notes of telemetry cause no commit. They share the next one of operations, the one of the maintenance that follows
//! when these end, or the one that closes the store.
//!
//! If the disk gives errors, the store is reopened after growing waits, and rejects everything meanwhile. If the errors
//! persist, the process ends. While the disk is full or nearly full, free space is checked periodically; nothing else
//! here polls.

mod group;
mod heap;
mod space_check;

use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{oneshot, watch};

use super::{ConfigWatch, Drain, Ping};
use crate::clock::{Clock, SteadyClock};
use crate::journal;
use crate::model::{Backlog, DiskState};
use crate::store::{NoteChange, Op, Queue, QueueLimits, StoreError, Transaction};
use crate::telemetry::metrics::histogram::Histogram;
use group::{Pending, PendingGroup, PendingOp, fail_all};
use heap::release_unused_memory;
use space_check::SpaceCheck;

/// The most operations in one commit.
const GROUP_OPERATIONS_MAX: usize = 1024;
/// About how many bytes one commit may add: a quarter of the store's cache.
const GROUP_BYTES_MAX: u64 = 3 << 19;
/// Operations in the mailbox before senders have to wait.
const MAILBOX_OPERATIONS_MAX: usize = 2048;
/// How often a flush yields at most while the group is smaller than the last one. Timers are too coarse for this.
const FLUSH_YIELDS_MAX: u32 = 256;
/// After this time without a commit, maintenance runs.
pub(super) const MAINTENANCE_DELAY: Duration = Duration::from_secs(5);
/// The wait before the store on a failing disk is reopened; it doubles with each attempt.
const FIRST_REOPEN_DELAY: Duration = Duration::from_secs(1);
/// After this many attempts, about a minute, the process ends.
const REOPEN_ATTEMPTS_MAX: u32 = 6;

/// Changes the queue. The reply follows the commit that contains the change.
pub struct Write<O>(pub O);

impl<O: Op> Message for Write<O> {
    type Result = Result<O::Reply, StoreError>;
}

/// Applies one operation, and waits for the commit that contains it.
pub async fn write<O: Op>(store: &Addr<QueueStore>, op: O) -> Result<O::Reply, StoreError> {
    store.send(Write(op)).await.unwrap_or(Err(StoreError::Closed))
}

/// Hands over notes that are saved with the next commit: of operations, of maintenance, or at the end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SaveWithNextCommit(pub Vec<NoteChange>);

/// Carries the error if the store fails: the process must end; the next start recovers the store.
pub type Fatal = watch::Sender<Option<String>>;

/// The actor.
pub struct QueueStore {
    /// None after it was closed.
    queue: Option<Queue>,
    config: ConfigWatch,
    steady: SteadyClock,
    backlog: watch::Sender<Backlog>,
    fatal: Fatal,
    /// How long commits took.
    commit_times: watch::Sender<Histogram>,
    group: PendingGroup,
    group_bytes: u64,
    last_group: usize,
    yields_left: u32,
    flush_announced: bool,
    idle: Option<SpawnHandle>,
    space_check: Option<SpaceCheck>,
    /// Receipts may be evicted at once, without waiting for free space.
    evicts_receipts: bool,
    failing: bool,
    /// Attempts since the last commit.
    reopen_attempts: u32,
}

impl QueueStore {
    /// An actor for an open queue.
    pub fn new(
        queue: Queue,
        config: ConfigWatch,
        steady: SteadyClock,
        backlog: watch::Sender<Backlog>,
        fatal: Fatal,
        commit_times: watch::Sender<Histogram>,
    ) -> Self {
        Self {
            queue: Some(queue),
            config,
            steady,
            backlog,
            fatal,
            commit_times,
            group: PendingGroup::default(),
            group_bytes: 0,
            last_group: 0,
            yields_left: 0,
            flush_announced: false,
            idle: None,
            space_check: None,
            evicts_receipts: true,
            failing: false,
            reopen_attempts: 0,
        }
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits::from(&**self.config.borrow())
    }

    fn flush(&mut self, ctx: &mut Context<Self>) {
        self.group_bytes = 0;
        self.yields_left = FLUSH_YIELDS_MAX;
        self.last_group = self.group.operations.len();
        let (limits, now) = (self.limits(), self.steady.now());
        let mut group = std::mem::take(&mut self.group);
        let Some(queue) = self.queue.as_mut().filter(|_| !self.failing && !group.is_empty()) else {
            self.group.notes = group.notes;
            return fail_all(group.operations, || StoreError::Failing);
        };
        let clock = Clock::start();
        let committed = queue.commit(limits, now, &mut group);
        self.group.notes = group.notes.after_commit(matches!(committed, Ok(true)));
        let operations = group.operations;
        match committed {
            Ok(changed) => {
                if changed {
                    self.commit_times.send_modify(|times| times.observe(clock.now().as_secs_f64()));
                }
                self.publish_backlog();
                operations.into_iter().for_each(Pending::reply);
                if changed {
                    self.reopen_attempts = 0;
                    self.schedule_maintenance(ctx);
                }
                self.schedule_space_check(ctx);
            }
            Err(StoreError::NoRoom) => {
                self.publish_backlog();
                fail_all(operations, || StoreError::NoRoom);
                self.schedule_space_check(ctx);
            }
            Err(error) => {
                self.on_store_error(&error, ctx);
                fail_all(operations, || StoreError::Failing);
            }
        }
    }

    /// Publishes the backlog.
    fn publish_backlog(&mut self) {
        let Some(queue) = &mut self.queue else { return };
        match queue.read_backlog() {
            Ok(backlog) => drop(self.backlog.send_replace(backlog)),
            Err(error) => {
                tracing::debug!(%error, "the backlog cannot be read from the store");
                self.backlog.send_modify(|backlog| backlog.storage.disk = queue.disk_state());
            }
        }
    }

    /// Ends the process if the store is damaged, because the next start salvages it. A failing disk may recover.
    fn on_store_error(&mut self, error: &StoreError, ctx: &mut Context<Self>) {
        if error.is_damage() || self.reopen_attempts == REOPEN_ATTEMPTS_MAX {
            let end = match error {
                _ if error.is_damage() => {
                    "the store is damaged: the daemon stops, and the next start salvages what can be read"
                }
                StoreError::FileGone(_) => {
                    "the file of the queue is still not in its place: the daemon stops, so that nothing more is lost"
                }
                _ => {
                    "the disk under the queue still gives errors: the daemon stops; accepted records are kept on it"
                }
            };
            tracing::error!(name: journal::DISK_GIVEN_UP, %error, "{end}");
            self.queue = None;
            self.fatal.send_replace(Some(error.to_string()));
            return ctx.stop();
        }
        if !self.failing {
            tracing::error!(
                name: journal::DISK_FAILING,
                %error,
                "the disk under the queue gives errors: no records are taken in and none are sent until it can be written again"
            );
        }
        self.failing = true;
        self.backlog.send_modify(|backlog| backlog.storage.disk = DiskState::Failing);
        let wait = FIRST_REOPEN_DELAY * 2u32.saturating_pow(self.reopen_attempts);
        self.reopen_attempts += 1;
        ctx.run_later(wait, Self::reopen_queue);
    }

    fn reopen_queue(&mut self, ctx: &mut Context<Self>) {
        let Some(queue) = &mut self.queue else { return };
        match queue.reopen_and_verify() {
            Ok(()) => {
                self.failing = false;
                tracing::info!(name: journal::DISK_RECOVERED, "the disk under the queue can be written again");
                self.publish_backlog();
                self.schedule_maintenance(ctx);
                self.schedule_space_check(ctx);
            }
            Err(error) => self.on_store_error(&error, ctx),
        }
    }

    fn schedule_maintenance(&mut self, ctx: &mut Context<Self>) {
        if let Some(idle) = self.idle.take() {
            ctx.cancel_future(idle);
        }
        self.idle = Some(ctx.run_later(MAINTENANCE_DELAY, |actor, ctx| {
            let limits = actor.limits();
            let Some(queue) = actor.queue.as_mut().filter(|_| !actor.failing) else { return };
            let rested = queue.run_idle_maintenance(limits, actor.steady.now(), &mut actor.group.notes);
            match rested.and_then(|more| queue.check_free_space(limits).map(|()| more)) {
                Err(StoreError::NoRoom) => actor.schedule_space_check(ctx),
                Ok(more) => {
                    actor.publish_backlog();
                    actor.schedule_space_check(ctx);
                    if more {
                        actor.schedule_maintenance(ctx);
                    } else {
                        release_unused_memory();
                    }
                }
                Err(error) => actor.on_store_error(&error, ctx),
            }
        }));
    }
}

impl Actor for QueueStore {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_OPERATIONS_MAX);
        if let Some(queue) = &self.queue {
            queue.mark_damage_on_panic();
        }
        // Maintenance that the previous run did not finish continues.
        self.schedule_maintenance(ctx);
        self.check_space_at_reloads(ctx);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

impl Handler<Flush> for QueueStore {
    type Result = ();

    fn handle(&mut self, Flush: Flush, ctx: &mut Self::Context) {
        // A full group was flushed already.
        if self.group.is_empty() {
            self.flush_announced = false;
        } else if self.yields_left > 0 && self.group.operations.len() < self.last_group {
            self.yields_left -= 1;
            ctx.notify(Flush);
        } else {
            self.flush_announced = false;
            self.flush(ctx);
        }
    }
}

impl<O: Op> Handler<Write<O>> for QueueStore {
    type Result = ResponseFuture<Result<O::Reply, StoreError>>;

    fn handle(&mut self, Write(op): Write<O>, ctx: &mut Self::Context) -> Self::Result {
        if self.queue.is_none() || self.failing {
            let error = if self.failing { StoreError::Failing } else { StoreError::Closed };
            return Box::pin(std::future::ready(Err(error)));
        }
        let (sender, reply) = oneshot::channel();
        self.group_bytes += op.added_bytes();
        self.group.operations.push(Box::new(PendingOp::new(op, sender)));
        if self.group.operations.len() >= GROUP_OPERATIONS_MAX || self.group_bytes >= GROUP_BYTES_MAX {
            self.flush(ctx);
        } else if !self.flush_announced {
            self.flush_announced = true;
            ctx.notify(Flush);
        }
        Box::pin(async move { reply.await.unwrap_or(Err(StoreError::Closed)) })
    }
}

impl Handler<SaveWithNextCommit> for QueueStore {
    type Result = ();

    fn handle(&mut self, SaveWithNextCommit(changes): SaveWithNextCommit, _: &mut Self::Context) {
        for change in changes {
            self.group.notes.add_change(change);
        }
    }
}

/// Changes nothing, so it needs no commit; its reply follows the commit of the group that it is in.
struct EmptyOp;

impl Op for EmptyOp {
    type Reply = ();

    fn apply(&self, _: &mut Transaction<'_, '_>) -> Result<(), StoreError> {
        Ok(())
    }

    fn has_changes((): &()) -> bool {
        false
    }
}

/// Shows that groups are committed, not only that messages are handled. A full or failing disk leads to a reply, too.
impl Handler<Ping> for QueueStore {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Ping: Ping, ctx: &mut Self::Context) -> Self::Result {
        let committed = self.handle(Write(EmptyOp), ctx);
        Box::pin(async move { drop(committed.await) })
    }
}

impl Handler<Drain> for QueueStore {
    type Result = ();

    fn handle(&mut self, Drain: Drain, ctx: &mut Self::Context) {
        self.flush(ctx);
        let notes = &mut self.group.notes;
        let queue = self.queue.take().filter(|_| !self.failing);
        let closed = queue.map(|mut queue| queue.save_allocator_state(notes).and_then(|()| queue.close()));
        if let Some(Err(error)) = closed {
            tracing::error!(%error, "the store could not be closed cleanly: the next start takes longer");
        }
    }
}

#[cfg(test)]
mod tests;
