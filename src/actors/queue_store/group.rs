//! The group of the next commit: operations whose senders wait for it, and notes that share it.

use tokio::sync::oneshot;

use crate::store::{Group, Op, SingleOp, StoreError, Transaction, WaitingNotes};

/// The operations of the next commit, and the notes that share it.
#[derive(Default)]
pub(super) struct PendingGroup {
    pub(super) operations: Vec<Box<dyn Pending>>,
    pub(super) notes: WaitingNotes,
}

impl PendingGroup {
    pub(super) fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

impl Group for PendingGroup {
    fn apply(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<bool, StoreError> {
        let mut changed = false;
        for pending in &mut self.operations {
            changed |= pending.apply(transaction)?;
        }
        if changed {
            self.notes.join_transaction(transaction)?;
        }
        Ok(changed)
    }

    /// Without the notes: they must not take the space of records.
    fn added_bytes(&self) -> u64 {
        self.operations.iter().map(|pending| pending.added_bytes()).sum()
    }
}

/// An operation of the group, and the sender that waits for its reply.
pub(super) trait Pending: Group {
    fn reply(self: Box<Self>);
    fn fail(self: Box<Self>, error: StoreError);
}

pub(super) fn fail_all(operations: Vec<Box<dyn Pending>>, error: impl Fn() -> StoreError) {
    for pending in operations {
        pending.fail(error());
    }
}

pub(super) struct PendingOp<O: Op> {
    one: SingleOp<O>,
    sender: oneshot::Sender<Result<O::Reply, StoreError>>,
}

impl<O: Op> PendingOp<O> {
    pub(super) fn new(op: O, sender: oneshot::Sender<Result<O::Reply, StoreError>>) -> Self {
        Self { one: SingleOp::new(op), sender }
    }
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
            // If the sender timed out and no longer waits, the operation is still committed.
            drop(self.sender.send(Ok(reply)));
        }
    }

    fn fail(self: Box<Self>, error: StoreError) {
        drop(self.sender.send(Err(error)));
    }
}
