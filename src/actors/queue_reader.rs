//! Looks at the store for others, on a thread of its own: no commit waits for a reader.
//!
//! One look after the other, so that however many ask, they take one processor at most. What is read is made
//! ready to be sent here, too: the main thread has callers that hand records over.

use actix::prelude::*;
use tokio::sync::watch;

use super::{Drain, Ping};
use crate::clock::Steady;
use crate::model::{Backlog, DiskState};
use crate::store::{StoreError, StoreReader, StoreView};

type Closure<T> = Box<dyn FnOnce(&StoreView) -> Result<T, StoreError> + Send>;

/// Looks at the queue as the last commit left it. Nothing long: it keeps other readers waiting.
pub struct Look<T>(Closure<T>);

impl<T> Look<T> {
    /// A look that gives what `look` gives.
    pub fn new(look: impl FnOnce(&StoreView) -> Result<T, StoreError> + Send + 'static) -> Self {
        Self(Box::new(look))
    }
}

impl<T: 'static> Message for Look<T> {
    type Result = Result<T, StoreError>;
}

/// The actor.
pub struct QueueReader {
    /// None once it was drained.
    reader: Option<StoreReader>,
    steady: Steady,
    backlog: watch::Receiver<Backlog>,
}

impl QueueReader {
    /// An actor for an open queue.
    pub fn new(reader: StoreReader, steady: Steady, backlog: watch::Receiver<Backlog>) -> Self {
        Self { reader: Some(reader), steady, backlog }
    }
}

impl Actor for QueueReader {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        if let Some(reader) = &self.reader {
            reader.mark_damage_on_panic();
        }
    }
}

impl<T: 'static> Handler<Look<T>> for QueueReader {
    type Result = Result<T, StoreError>;

    fn handle(&mut self, Look(look): Look<T>, _: &mut Self::Context) -> Self::Result {
        let reader = self.reader.as_ref().ok_or(StoreError::Closed)?;
        reader.with_view(self.steady.now(), look).map_err(|error| {
            let is_failing = self.backlog.borrow().storage.disk == DiskState::Failing;
            if is_failing { StoreError::Failing } else { error }
        })
    }
}

impl Handler<Ping> for QueueReader {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for QueueReader {
    type Result = ();

    fn handle(&mut self, Drain: Drain, ctx: &mut Self::Context) {
        self.reader = None;
        ctx.stop();
    }
}
