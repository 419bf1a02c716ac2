//! Operations of the store that wait while the disk is full or gives errors.

use std::marker::Sync;
use std::sync::Arc;

use actix::prelude::*;

use super::BatchPlanner;
use crate::actors::queue_store::{QueueStore, Write, write};
use crate::model::{Backlog, DiskState, WaitCause};
use crate::store::{Op, StoreError};

impl BatchPlanner {
    /// Applies one operation once the disk allows it. None: the store has failed, and has said why.
    pub(super) fn apply<O>(&self, op: O) -> impl Future<Output = Option<O::Reply>> + use<O>
    where
        O: Op + Sync,
        QueueStore: Handler<Write<Arc<O>>>,
    {
        let (store, mut backlog) = (self.peers.store.clone(), self.inputs.backlog.clone());
        let (op, state) = (Arc::new(op), self.state.clone());
        async move {
            let announce_disk_wait = |is_waiting: bool| {
                state.send_if_modified(|state| {
                    let is_news = is_waiting != (state.wait_cause == Some(WaitCause::Disk));
                    if is_news {
                        state.wait_cause = is_waiting.then_some(WaitCause::Disk);
                    }
                    is_news
                });
            };
            loop {
                match write(&store, Arc::clone(&op)).await {
                    Err(StoreError::Failing) => {
                        announce_disk_wait(true);
                        let works = |backlog: &Backlog| backlog.storage.disk != DiskState::Failing;
                        drop(backlog.wait_for(works).await.ok()?);
                    }
                    Err(StoreError::NoRoom) => {
                        announce_disk_wait(true);
                        backlog.mark_unchanged();
                        backlog.changed().await.ok()?;
                    }
                    done => {
                        announce_disk_wait(false);
                        return done.ok();
                    }
                }
            }
        }
    }
}
