//! The destination in use, which a reload of the configuration replaces.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::Destination;

/// The destination that takes the next delivery. Deliveries under way keep the one that they began with.
pub(crate) struct DestinationSlot {
    current: RwLock<Arc<dyn Destination>>,
}

impl DestinationSlot {
    pub(crate) fn new(destination: Arc<dyn Destination>) -> Self {
        Self { current: RwLock::new(destination) }
    }

    pub(crate) fn current(&self) -> Arc<dyn Destination> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn replace(&self, destination: Arc<dyn Destination>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = destination;
    }
}

/// What the processing of batches needs to know of the destination.
#[derive(Clone)]
pub(crate) struct DestinationLink {
    pub(crate) slot: Arc<DestinationSlot>,
    /// How long the response to a batch waits for the destination.
    pub(crate) time_budget: Duration,
}
