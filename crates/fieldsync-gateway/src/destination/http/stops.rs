//! Record types that the destination does not take until an operator acts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// After so long, a call finds out whether an operator has acted.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_mins(1);
/// So many records that are denied alone, without an applied one between them, stop their type.
const DENIALS_BEFORE_STOP: u32 = 3;

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

/// What is known of the types by their index.
#[derive(Default)]
struct StopState {
    stops: BTreeMap<usize, TypeStop>,
    /// Records that were denied alone since one was applied.
    denials: BTreeMap<usize, u32>,
}

/// The types that are stopped.
#[derive(Default)]
pub(crate) struct TypeStops(Mutex<StopState>);

impl TypeStops {
    pub(crate) fn stop(&self, type_index: usize, reason: &str, now: Duration) {
        let stop = TypeStop { reason: reason.to_owned(), probe_at: now + PROBE_INTERVAL };
        let mut state = self.lock();
        state.stops.insert(type_index, stop);
        state.denials.remove(&type_index);
    }

    /// Records of the type were taken.
    pub(crate) fn resume(&self, type_index: usize) {
        let mut state = self.lock();
        state.stops.remove(&type_index);
        state.denials.remove(&type_index);
    }

    /// A record of the type was denied alone. Returns whether the type has to stop.
    pub(crate) fn note_denial(&self, type_index: usize) -> bool {
        let mut state = self.lock();
        let denials = state.denials.entry(type_index).or_default();
        *denials = denials.saturating_add(1);
        *denials >= DENIALS_BEFORE_STOP
    }

    /// Why no call may be made for this type now.
    pub(crate) fn find_active(&self, type_index: usize, now: Duration) -> Option<ActiveStop> {
        let state = self.lock();
        let stop = state.stops.get(&type_index).filter(|stop| now < stop.probe_at)?;
        Some(ActiveStop { wait: stop.probe_at.saturating_sub(now), reason: stop.reason.clone() })
    }

    /// The first reason and the shortest wait, if all of so many types are stopped.
    pub(crate) fn find_stop_of_all(&self, types: usize, now: Duration) -> Option<ActiveStop> {
        let active: Option<Vec<ActiveStop>> = (0..types).map(|index| self.find_active(index, now)).collect();
        let active = active?;
        let wait = active.iter().map(|stop| stop.wait).min()?;
        Some(ActiveStop { wait, ..active.into_iter().next()? })
    }

    /// All stops with their type, also those that the next call may end.
    pub(crate) fn reasons(&self) -> Vec<(usize, String)> {
        self.lock().stops.iter().map(|(type_index, stop)| (*type_index, stop.reason.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, StopState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types_are_stopped_until_the_first_is_tried_again() {
        let stops = TypeStops::default();
        let at = Duration::from_secs;
        assert_eq!(stops.find_stop_of_all(0, at(0)), None);
        stops.stop(1, "second", at(0));
        assert_eq!(stops.find_stop_of_all(2, at(1)), None);
        stops.stop(0, "first", at(10));
        let expected = ActiveStop { wait: at(40), reason: "first".into() };
        assert_eq!(stops.find_stop_of_all(2, at(20)), Some(expected));
        assert_eq!(stops.find_stop_of_all(2, at(60)), None);
    }

    #[test]
    fn only_denials_in_a_row_stop_a_type_and_a_stop_begins_the_count_again() {
        let stops = TypeStops::default();
        let deny = |times: usize| (0..times).map(|_| stops.note_denial(1)).collect::<Vec<_>>();
        assert_eq!(deny(2), [false, false]);
        assert!(!stops.note_denial(0));
        stops.resume(1);
        assert_eq!(deny(3), [false, false, true]);
        stops.stop(1, "denied", Duration::ZERO);
        assert_eq!(deny(3), [false, false, true]);
    }
}
