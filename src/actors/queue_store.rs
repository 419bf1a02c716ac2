//! The only writer of the store, on a thread of its own: commits wait for the disk, nothing else waits with them.
//!
//! Group commit: an operation is put in the group and the flush is announced behind everything
//! that is in the mailbox; so what arrived during one commit goes into the next together. Senders
//! that were just answered come again one by one: the flush stands back behind them a few times,
//! or the first would be committed alone and the others after it. A full group is flushed before
//! the mailbox is looked at again, or a flood would put it off for ever.
//!
//! A disk that gives errors is left alone for a while, and then longer: everything is refused
//! meanwhile. When it stays so, the process ends. A disk that is full is asked for room again as
//! long as it is full; nothing else here looks without being asked.

use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{oneshot, watch};

use super::{ConfigWatch, Drain, Ping};
use crate::clock::Steady;
use crate::journal;
use crate::model::{Backlog, DiskState};
use crate::store::{Group, Op, Queue, QueueLimits, SingleOp, StoreError, Transaction};

/// Most operations in one commit.
const MAX_GROUP: usize = 1024;
/// Bytes that one commit adds, more or less: a quarter of the store's cache.
const MAX_GROUP_BYTES: u64 = 3 << 19;
/// Operations that wait in the mailbox before senders do.
const MAILBOX: usize = 2048;
/// The flush stands back so many times at most, while fewer have come than the last time. No timer
/// is as short as these are.
const PATIENCE: u32 = 256;
/// After so long without a commit, the store is put in order.
const IDLE_AFTER: Duration = Duration::from_secs(5);
/// A full disk is asked for room so often.
const ROOM_CHECK: Duration = Duration::from_secs(5);
/// While receipts give way to make room, others get their turn in between for so long.
const MAKE_ROOM_EVERY: Duration = Duration::from_millis(5);
/// A failing disk is tried again after so long, and then after twice that, and so on.
const FIRST_REVIVAL: Duration = Duration::from_secs(1);
/// So many times, which makes a minute; then the process ends.
const REVIVALS: u32 = 6;

/// Changes the queue; the reply comes after the commit that covers it.
pub struct Write<O>(pub O);

impl<O: Op> Message for Write<O> {
    type Result = Result<O::Reply, StoreError>;
}

/// Applies one operation, and waits for the commit that covers it.
pub async fn write<O: Op>(store: &Addr<QueueStore>, op: O) -> Result<O::Reply, StoreError> {
    store.send(Write(op)).await.unwrap_or(Err(StoreError::Closed))
}

/// The store failed: the process must end, and recovers at its next start.
pub type Fatal = watch::Sender<Option<String>>;

/// The actor.
pub struct QueueStore {
    /// None once it is closed.
    queue: Option<Queue>,
    config: ConfigWatch,
    steady: Steady,
    backlog: watch::Sender<Backlog>,
    fatal: Fatal,
    group: Waiting,
    group_bytes: u64,
    last_group: usize,
    patience: u32,
    flush_announced: bool,
    idle: Option<SpawnHandle>,
    room_check: Option<SpawnHandle>,
    /// Receipts may give way at once, without the wait for room to appear.
    gives_way: bool,
    failing: bool,
    /// Since the last commit.
    revivals: u32,
}

impl QueueStore {
    /// An actor for an open queue.
    pub fn new(
        queue: Queue,
        config: ConfigWatch,
        steady: Steady,
        backlog: watch::Sender<Backlog>,
        fatal: Fatal,
    ) -> Self {
        Self {
            queue: Some(queue),
            config,
            steady,
            backlog,
            fatal,
            group: Waiting::default(),
            group_bytes: 0,
            last_group: 0,
            patience: 0,
            flush_announced: false,
            idle: None,
            room_check: None,
            gives_way: true,
            failing: false,
            revivals: 0,
        }
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits::from(&**self.config.borrow())
    }

    fn flush(&mut self, ctx: &mut Context<Self>) {
        self.group_bytes = 0;
        self.patience = PATIENCE;
        self.last_group = self.group.0.len();
        let mut group = std::mem::take(&mut self.group);
        let (limits, now) = (self.limits(), self.steady.now());
        let Some(queue) = self.queue.as_mut().filter(|_| !self.failing && !group.0.is_empty()) else {
            return group.0.into_iter().for_each(|pending| pending.fail(StoreError::Failing));
        };
        match queue.commit(limits, now, &mut group) {
            Ok(changed) => {
                self.publish();
                group.0.into_iter().for_each(Pending::reply);
                if changed {
                    self.revivals = 0;
                    self.await_idleness(ctx);
                }
                self.await_room(ctx);
            }
            Err(StoreError::NoRoom) => {
                self.publish();
                group.0.into_iter().for_each(|pending| pending.fail(StoreError::NoRoom));
                self.await_room(ctx);
            }
            Err(error) => {
                self.failed(&error, ctx);
                group.0.into_iter().for_each(|pending| pending.fail(StoreError::Failing));
            }
        }
    }

    /// What waits, for all to see.
    fn publish(&mut self) {
        let Some(queue) = &mut self.queue else { return };
        match queue.read_backlog() {
            Ok(backlog) => drop(self.backlog.send_replace(backlog)),
            Err(error) => {
                tracing::debug!(%error, "the store does not say what waits");
                self.backlog.send_modify(|backlog| backlog.storage.disk = queue.disk_state());
            }
        }
    }

    /// Bytes that make no sense are for the next start to salvage; a disk that fails may recover.
    fn failed(&mut self, error: &StoreError, ctx: &mut Context<Self>) {
        if error.is_damage() || self.revivals == REVIVALS {
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
        let wait = FIRST_REVIVAL * 2u32.saturating_pow(self.revivals);
        self.revivals += 1;
        ctx.run_later(wait, Self::revive);
    }

    fn revive(&mut self, ctx: &mut Context<Self>) {
        let Some(queue) = &mut self.queue else { return };
        match queue.reopen_and_verify() {
            Ok(()) => {
                self.failing = false;
                tracing::info!(name: journal::DISK_RECOVERED, "the disk under the queue can be written again");
                self.publish();
                self.await_idleness(ctx);
                self.await_room(ctx);
            }
            Err(error) => self.failed(&error, ctx),
        }
    }

    fn await_room(&mut self, ctx: &mut Context<Self>) {
        let full = self.queue.as_ref().is_some_and(|queue| queue.disk_state() == DiskState::Full);
        self.gives_way |= !full;
        if !full || self.room_check.is_some() {
            return;
        }
        let wait = if std::mem::take(&mut self.gives_way) { MAKE_ROOM_EVERY } else { ROOM_CHECK };
        self.room_check = Some(ctx.run_later(wait, |actor, ctx| {
            actor.room_check = None;
            let limits = actor.limits();
            let Some(queue) = actor.queue.as_mut().filter(|_| !actor.failing) else { return };
            match queue.evict_receipts(limits, actor.steady.now()) {
                Ok(more) => {
                    actor.gives_way = more;
                    actor.publish();
                    actor.await_room(ctx);
                }
                Err(StoreError::NoRoom) => {
                    actor.publish();
                    actor.await_room(ctx);
                }
                Err(error) => actor.failed(&error, ctx),
            }
        }));
    }

    fn await_idleness(&mut self, ctx: &mut Context<Self>) {
        if let Some(idle) = self.idle.take() {
            ctx.cancel_future(idle);
        }
        self.idle = Some(ctx.run_later(IDLE_AFTER, |actor, ctx| {
            let limits = actor.limits();
            let Some(queue) = actor.queue.as_mut().filter(|_| !actor.failing) else { return };
            let rested = queue.run_idle_maintenance(limits, actor.steady.now());
            match rested.and_then(|more| queue.check_free_space(limits).map(|()| more)) {
                Err(StoreError::NoRoom) => actor.await_room(ctx),
                Ok(more) => {
                    actor.publish();
                    actor.await_room(ctx);
                    if more {
                        actor.await_idleness(ctx);
                    }
                }
                Err(error) => actor.failed(&error, ctx),
            }
        }));
    }
}

impl Actor for QueueStore {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        if let Some(queue) = &self.queue {
            queue.mark_damage_on_panic();
        }
        // What was not put in order before the last end is now.
        self.await_idleness(ctx);
    }
}

/// The next group.
#[derive(Default)]
struct Waiting(Vec<Box<dyn Pending>>);

impl Group for Waiting {
    fn apply(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<bool, StoreError> {
        let mut changed = false;
        for pending in &mut self.0 {
            changed |= pending.apply(transaction)?;
        }
        Ok(changed)
    }

    fn added_bytes(&self) -> u64 {
        self.0.iter().map(|pending| pending.added_bytes()).sum()
    }
}

/// An operation of the group, and whoever waits for its reply.
trait Pending: Group {
    fn reply(self: Box<Self>);
    fn fail(self: Box<Self>, error: StoreError);
}

struct PendingOp<O: Op> {
    one: SingleOp<O>,
    sender: oneshot::Sender<Result<O::Reply, StoreError>>,
}

impl<O: Op> Group for PendingOp<O> {
    fn apply(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<bool, StoreError> {
        self.one.apply(transaction)
    }

    fn added_bytes(&self) -> u64 {
        self.one.added_bytes()
    }
}

impl<O: Op> Pending for PendingOp<O> {
    fn reply(self: Box<Self>) {
        if let Some(reply) = self.one.into_reply() {
            // A sender that no longer waits has timed out; the operation stands all the same.
            drop(self.sender.send(Ok(reply)));
        }
    }

    fn fail(self: Box<Self>, error: StoreError) {
        drop(self.sender.send(Err(error)));
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

impl Handler<Flush> for QueueStore {
    type Result = ();

    fn handle(&mut self, Flush: Flush, ctx: &mut Self::Context) {
        // A full group was flushed already.
        if self.group.0.is_empty() {
            self.flush_announced = false;
        } else if self.patience > 0 && self.group.0.len() < self.last_group {
            self.patience -= 1;
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
        self.group.0.push(Box::new(PendingOp { one: SingleOp::new(op), sender }));
        if self.group.0.len() >= MAX_GROUP || self.group_bytes >= MAX_GROUP_BYTES {
            self.flush(ctx);
        } else if !self.flush_announced {
            self.flush_announced = true;
            ctx.notify(Flush);
        }
        Box::pin(async move { reply.await.unwrap_or(Err(StoreError::Closed)) })
    }
}

/// Changes nothing, and so costs no commit of its own; answered when the group that it came into is done.
struct Passage;

impl Op for Passage {
    type Reply = ();

    fn apply(&self, _: &mut Transaction<'_, '_>) -> Result<(), StoreError> {
        Ok(())
    }

    fn has_changes((): &()) -> bool {
        false
    }
}

/// Tells whether groups are committed, not only whether messages are heard. A disk that is full or fails
/// gives an answer, too.
impl Handler<Ping> for QueueStore {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Ping: Ping, ctx: &mut Self::Context) -> Self::Result {
        let passed = self.handle(Write(Passage), ctx);
        Box::pin(async move { drop(passed.await) })
    }
}

impl Handler<Drain> for QueueStore {
    type Result = ();

    fn handle(&mut self, Drain: Drain, ctx: &mut Self::Context) {
        self.flush(ctx);
        let queue = self.queue.take().filter(|_| !self.failing);
        let closed = queue.map(|mut queue| queue.save_allocator_state().and_then(|()| queue.close()));
        if let Some(Err(error)) = closed {
            tracing::error!(%error, "the store did not close cleanly: the next start takes longer");
        }
    }
}

#[cfg(test)]
mod tests;
