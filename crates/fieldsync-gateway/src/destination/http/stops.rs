//! Record types that the destination does not take until an operator acts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// After so long, a call finds out whether an operator has acted.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_mins(1);

struct TypeStop {
    reason: String,
    probe_at: Duration,
}

/// Why a type stops, and for how long no call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ActiveStop {
    pub(crate) wait: Duration,
    pub(crate) reason: String,
}

/// The stops by the index of their type.
#[derive(Default)]
pub(crate) struct TypeStops(Mutex<BTreeMap<usize, TypeStop>>);

impl TypeStops {
    pub(crate) fn stop(&self, type_index: usize, reason: &str, now: Duration) {
        let stop = TypeStop { reason: reason.to_owned(), probe_at: now + PROBE_INTERVAL };
        self.lock().insert(type_index, stop);
    }

    /// Records of the type were taken.
    pub(crate) fn resume(&self, type_index: usize) {
        self.lock().remove(&type_index);
    }

    /// Why no call may be made for this type now.
    pub(crate) fn find_active(&self, type_index: usize, now: Duration) -> Option<ActiveStop> {
        let stops = self.lock();
        let stop = stops.get(&type_index).filter(|stop| now < stop.probe_at)?;
        Some(ActiveStop { wait: stop.probe_at.saturating_sub(now), reason: stop.reason.clone() })
    }

    /// All stops with their type, also those that the next call may end.
    pub(crate) fn reasons(&self) -> Vec<(usize, String)> {
        self.lock().iter().map(|(type_index, stop)| (*type_index, stop.reason.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, TypeStop>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
