//! What every request may use.

use std::sync::Arc;

use actix::Addr;
use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::watch;

use super::auth::Peer;
use super::error::ApiError;
use super::http::{self, Response};
use super::status::Board;
use super::turns::Turns;
use crate::actors::batch_planner::BatchPlanner;
use crate::actors::queue_reader::{Look, QueueReader};
use crate::actors::queue_store::QueueStore;
use crate::actors::telemetry::Telemetry;
use crate::store::{StoreError, StoreView};
use crate::telemetry::audience::Audience;
use crate::telemetry::feed::Feed;

/// What every request may use.
#[derive(Clone)]
pub struct Shared {
    /// The status.
    pub board: Board,
    /// The feed of events.
    pub board_feed: Feed,
    /// Keeps records.
    pub store: Addr<QueueStore>,
    /// Looks at them.
    pub reader: Addr<QueueReader>,
    /// Sends them.
    pub planner: Addr<BatchPlanner>,
    /// Adds up.
    pub telemetry: Addr<Telemetry>,
    /// Of calls that are answered at once, on the main thread.
    pub turns: Arc<Turns>,
    /// Of looks at the queue.
    pub looks: Arc<Turns>,
    /// Of changes to many records at once.
    pub changes: Arc<Turns>,
    /// True when the daemon ends: streams end, too.
    pub shutdown: watch::Receiver<bool>,
}

impl Shared {
    /// Looks at the queue.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&StoreView) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let _turn = self.looks.take().await?;
        Ok(self.reader.send(Look::new(look)).await??)
    }

    /// Looks at the queue, for an answer in JSON: that is written on the reader's thread.
    pub(super) async fn answer_with<T: Serialize + 'static>(
        &self,
        look: impl FnOnce(&StoreView) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let json = self.look(|view| Ok(serde_json::to_vec(&look(view)?))).await?;
        let json = json.map_err(|error| ApiError::cannot_write(&error))?;
        Ok(http::json_bytes(StatusCode::OK, json))
    }

    /// What this caller may see.
    pub(super) fn audience(&self, peer: &Peer) -> Audience {
        Audience::new(peer.uid, self.is_admin(peer))
    }

    pub(super) fn is_admin(&self, peer: &Peer) -> bool {
        peer.is_admin(&self.board.config.borrow().ipc.admin_group)
    }

    pub(super) fn admin(&self, peer: &Peer, otherwise: &str) -> Result<(), ApiError> {
        if self.is_admin(peer) { Ok(()) } else { Err(ApiError::not_permitted(otherwise)) }
    }
}
