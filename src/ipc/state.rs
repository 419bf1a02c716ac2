//! What the handlers of requests share: the daemon's actors, its status and its limits.

use std::sync::Arc;

use actix::Addr;
use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::watch;

use super::auth::Peer;
use super::error::ApiError;
use super::http::{self, HttpResponse};
use super::metrics::MetricCollector;
use super::status::StatusSources;
use super::throttle::Throttle;
use crate::actors::batch_planner::BatchPlanner;
use crate::actors::queue_reader::{QueueReader, ReadView};
use crate::actors::queue_store::QueueStore;
use crate::actors::telemetry::Telemetry;
use crate::store::{StoreError, StoreView};
use crate::telemetry::audience::Audience;
use crate::telemetry::feed::Feed;

/// What the handlers of requests share.
#[derive(Clone)]
pub struct ApiState {
    /// What the status is made from.
    pub sources: StatusSources,
    /// What `GET /v1/events` streams.
    pub event_feed: Feed,
    /// What `GET /metrics` responds with.
    pub metrics: MetricCollector,
    /// Writes to the queue.
    pub store: Addr<QueueStore>,
    /// Reads the queue.
    pub reader: Addr<QueueReader>,
    /// Sends batches.
    pub planner: Addr<BatchPlanner>,
    /// Keeps measurements and recent batches.
    pub telemetry: Addr<Telemetry>,
    /// For calls that are answered on the main thread.
    pub call_throttle: Arc<Throttle>,
    /// For reads of the queue.
    pub view_throttle: Arc<Throttle>,
    /// For changes of many records.
    pub review_throttle: Arc<Throttle>,
    /// True once the daemon is stopping. Streams end then.
    pub shutdown: watch::Receiver<bool>,
}

impl ApiState {
    /// Runs `read` on the reader's thread.
    pub(super) async fn with_view<T: Send + 'static>(
        &self,
        read: impl FnOnce(&StoreView) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let _permit = self.view_throttle.acquire().await?;
        Ok(self.reader.send(ReadView::new(read)).await??)
    }

    /// As [`Self::with_view`]. The result is encoded on the reader's thread, too.
    pub(super) async fn json_from_view<T: Serialize + 'static>(
        &self,
        read: impl FnOnce(&StoreView) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<HttpResponse, ApiError> {
        let json = self.with_view(|view| Ok(serde_json::to_vec(&read(view)?))).await?;
        let json = json.map_err(|error| ApiError::json_encoding_failed(&error))?;
        Ok(http::encoded_json_response(StatusCode::OK, json))
    }

    pub(super) fn audience_of(&self, peer: &Peer) -> Audience {
        Audience::new(peer.uid, self.is_admin(peer))
    }

    pub(super) fn is_admin(&self, peer: &Peer) -> bool {
        peer.is_admin(&self.sources.config.borrow().ipc.admin_group)
    }

    /// Fails with `reason` unless the peer is an admin.
    pub(super) fn require_admin(&self, peer: &Peer, reason: &str) -> Result<(), ApiError> {
        if self.is_admin(peer) { Ok(()) } else { Err(ApiError::not_permitted(reason)) }
    }
}
