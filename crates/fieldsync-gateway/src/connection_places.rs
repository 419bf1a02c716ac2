//! How many connections are open, and when they are scarce: then connections are closed with their next response, so that
//! idle ones do not keep devices out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections are scarce from this share of all on.
const SCARCE_DIVISOR: usize = 2;

/// The places for connections.
pub(crate) struct ConnectionPlaces {
    places: usize,
    open: AtomicUsize,
}

/// The place of an open connection; free again when it is dropped.
pub(crate) struct ConnectionPlace(Arc<ConnectionPlaces>);

impl ConnectionPlaces {
    pub(crate) fn new(places: usize) -> Self {
        Self { places, open: AtomicUsize::new(0) }
    }

    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// A connection was opened.
    pub(crate) fn take_place(self: &Arc<Self>) -> ConnectionPlace {
        self.open.fetch_add(1, Ordering::Relaxed);
        ConnectionPlace(Arc::clone(self))
    }

    /// Whether a connection should be closed rather than wait for another request.
    pub(crate) fn are_scarce(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.places.div_ceil(SCARCE_DIVISOR)
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_scarce_while_half_of_the_places_are_taken() {
        let places = Arc::new(ConnectionPlaces::new(4));
        let first = places.take_place();
        assert!(!places.are_scarce());
        let second = places.take_place();
        assert!(places.are_scarce());
        drop(second);
        assert!(!places.are_scarce());
        drop(first);
    }
}
