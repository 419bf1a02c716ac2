//! Reads from the store for the local API, on a thread of its own: no commit waits for a reader.
//!
//! Reads run one after another, so that they use at most one processor core. They also serialize what they read, to
//! keep the main thread free for callers that hand over records.

use actix::prelude::*;
use tokio::sync::watch;

use super::{Drain, Ping};
use crate::clock::SteadyClock;
use crate::model::{Backlog, DiskState};
use crate::store::{StoreError, StoreReader, StoreView};

type Closure<T> = Box<dyn FnOnce(&StoreView) -> Result<T, StoreError> + Send>;

/// Reads a snapshot of the queue as of the last commit. It must be short: other readers wait for it.
pub struct ReadView<T>(Closure<T>);

impl<T> ReadView<T> {
    /// A message whose reply is the result of `read`.
    pub fn new(read: impl FnOnce(&StoreView) -> Result<T, StoreError> + Send + 'static) -> Self {
        Self(Box::new(read))
    }
}

impl<T: 'static> Message for ReadView<T> {
    type Result = Result<T, StoreError>;
}

/// The actor.
pub struct QueueReader {
    /// None after [`Drain`].
    reader: Option<StoreReader>,
    steady: SteadyClock,
    backlog: watch::Receiver<Backlog>,
}

impl QueueReader {
    /// An actor for an open queue.
    pub fn new(reader: StoreReader, steady: SteadyClock, backlog: watch::Receiver<Backlog>) -> Self {
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

impl<T: 'static> Handler<ReadView<T>> for QueueReader {
    type Result = Result<T, StoreError>;

    fn handle(&mut self, ReadView(read): ReadView<T>, _: &mut Self::Context) -> Self::Result {
        let reader = self.reader.as_ref().ok_or(StoreError::Closed)?;
        reader.with_view(self.steady.now(), read).map_err(|error| {
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
