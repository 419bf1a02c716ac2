//! The only writer of the store, on a thread of its own: commits wait for the disk, nothing else waits with them.
//!
//! Group commit: an operation is put in the group and the flush is announced behind everything
//! that is in the mailbox; so what arrived during one commit goes into the next together. A full
//! group is flushed before the mailbox is looked at again, or a flood would put it off for ever.

use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{oneshot, watch};

use super::{ConfigWatch, Drain, Ping};
use crate::clock::wall_ms;
use crate::model::{Backlog, ManifestEntry, RecordId};
use crate::store::{Filter, Limits, Op, Page, Queue, StoreError, Transaction};

/// Most operations in one commit.
const MAX_GROUP: usize = 512;
/// Operations that wait in the mailbox before senders do.
const MAILBOX: usize = 1024;
/// After so long without a commit, one more makes the next start quick.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// Changes the queue; the reply comes after the commit that covers it.
pub struct Write<O>(pub O);

impl<O: Op> Message for Write<O> {
    type Result = Result<O::Reply, StoreError>;
}

/// Reads one entry.
#[derive(Message)]
#[rtype(result = "Result<Option<ManifestEntry>, StoreError>")]
pub struct Entry(pub RecordId);

/// Reads a payload, and who handed it over.
#[derive(Message)]
#[rtype(result = "Result<Option<(Box<str>, u32)>, StoreError>")]
pub struct Payload(pub RecordId);

/// Reads a page of the manifest.
#[derive(Message)]
#[rtype(result = "Result<Page, StoreError>")]
pub struct List(pub Filter);

/// The store failed: the process must end, and recovers at its next start.
pub type Fatal = watch::Sender<Option<String>>;

/// The actor.
pub struct QueueStore {
    queue: Option<Queue>,
    config: ConfigWatch,
    backlog: watch::Sender<Backlog>,
    fatal: Fatal,
    group: Vec<Box<dyn Pending>>,
    flush_announced: bool,
    idle: Option<SpawnHandle>,
}

impl QueueStore {
    /// An actor for an open queue.
    pub fn new(queue: Queue, config: ConfigWatch, backlog: watch::Sender<Backlog>, fatal: Fatal) -> Self {
        Self {
            queue: Some(queue),
            config,
            backlog,
            fatal,
            group: Vec::new(),
            flush_announced: false,
            idle: None,
        }
    }

    fn flush(&mut self, ctx: &mut Context<Self>) {
        self.flush_announced = false;
        let mut group = std::mem::take(&mut self.group);
        if group.is_empty() {
            return;
        }
        let Some(queue) = &mut self.queue else { return };
        let limits = Limits::from(&**self.config.borrow());
        let committed = queue.commit(limits, wall_ms(), |transaction| {
            group.iter_mut().try_for_each(|pending| pending.apply(transaction))
        });
        match committed.and_then(|()| queue.backlog()) {
            Ok(backlog) => {
                self.backlog.send_replace(backlog);
                for pending in group {
                    pending.reply();
                }
                self.await_idleness(ctx);
            }
            Err(error) => {
                // The outcome is unknown, and redb refuses to go on. Who waits hears that the store is gone.
                let full = if error.is_disk_full() { " (the disk is full)" } else { "" };
                tracing::error!(%error, "the store failed{full}: the daemon stops, and recovers at its next start");
                self.queue = None;
                self.fatal.send_replace(Some(error.to_string()));
                ctx.stop();
            }
        }
    }

    fn await_idleness(&mut self, ctx: &mut Context<Self>) {
        if let Some(idle) = self.idle.take() {
            ctx.cancel_future(idle);
        }
        self.idle = Some(ctx.run_later(IDLE_AFTER, |actor, _| {
            if let Some(queue) = &mut actor.queue
                && let Err(error) = queue.settle_down()
            {
                tracing::error!(%error, "the store failed in idle: the daemon stops, and recovers at its next start");
                actor.queue = None;
                actor.fatal.send_replace(Some(error.to_string()));
            }
        }));
    }

    fn read<T>(&self, read: impl FnOnce(&Queue) -> Result<T, StoreError>) -> Result<T, StoreError> {
        read(self.queue.as_ref().ok_or(StoreError::Closed)?)
    }
}

impl Actor for QueueStore {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

/// An operation of the group, its sender and, once applied, its reply.
trait Pending {
    fn apply(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<(), StoreError>;
    fn reply(self: Box<Self>);
}

struct PendingOp<O: Op> {
    op: Option<O>,
    reply: Option<O::Reply>,
    sender: oneshot::Sender<O::Reply>,
}

impl<O: Op> Pending for PendingOp<O> {
    fn apply(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<(), StoreError> {
        if let Some(op) = self.op.take() {
            self.reply = Some(op.apply(transaction)?);
        }
        Ok(())
    }

    fn reply(self: Box<Self>) {
        if let Some(reply) = self.reply {
            // A sender that no longer waits has timed out; the operation stands all the same.
            drop(self.sender.send(reply));
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

impl Handler<Flush> for QueueStore {
    type Result = ();

    fn handle(&mut self, Flush: Flush, ctx: &mut Self::Context) {
        self.flush(ctx);
    }
}

impl<O: Op> Handler<Write<O>> for QueueStore {
    type Result = ResponseFuture<Result<O::Reply, StoreError>>;

    fn handle(&mut self, Write(op): Write<O>, ctx: &mut Self::Context) -> Self::Result {
        if self.queue.is_none() {
            return Box::pin(std::future::ready(Err(StoreError::Closed)));
        }
        let (sender, reply) = oneshot::channel();
        self.group.push(Box::new(PendingOp { op: Some(op), reply: None, sender }));
        if self.group.len() >= MAX_GROUP {
            self.flush(ctx);
        } else if !self.flush_announced {
            self.flush_announced = true;
            ctx.notify(Flush);
        }
        Box::pin(async move { reply.await.map_err(|_| StoreError::Closed) })
    }
}

impl Handler<Entry> for QueueStore {
    type Result = Result<Option<ManifestEntry>, StoreError>;

    fn handle(&mut self, Entry(id): Entry, _: &mut Self::Context) -> Self::Result {
        self.read(|queue| queue.entry(id))
    }
}

impl Handler<Payload> for QueueStore {
    type Result = Result<Option<(Box<str>, u32)>, StoreError>;

    fn handle(&mut self, Payload(id): Payload, _: &mut Self::Context) -> Self::Result {
        self.read(|queue| queue.payload(id))
    }
}

impl Handler<List> for QueueStore {
    type Result = Result<Page, StoreError>;

    fn handle(&mut self, List(filter): List, _: &mut Self::Context) -> Self::Result {
        self.read(|queue| queue.page(&filter))
    }
}

impl Handler<Ping> for QueueStore {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for QueueStore {
    type Result = ();

    fn handle(&mut self, Drain: Drain, ctx: &mut Self::Context) {
        self.flush(ctx);
        let closed = self.queue.take().map(|mut queue| queue.settle_down().and_then(|()| queue.close()));
        if let Some(Err(error)) = closed {
            tracing::error!(%error, "the store did not close cleanly: the next start takes longer");
        }
    }
}
