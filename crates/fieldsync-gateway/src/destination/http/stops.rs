//! Record types that the destination does not take until an operator acts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::RecordId;

/// After so long, a call finds out whether an operator has acted.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_mins(1);
/// So many records that are denied alone, without an applied one between them, stop their type.
const DENIED_RECORDS_BEFORE_STOP: usize = 3;
/// So many denied records of a type are remembered; the oldest is forgotten first.
const DENIED_RECORDS_MAX: usize = 100;

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

/// A record that was denied alone.
struct DeniedRecord {
    record: RecordId,
    /// Others of its type were applied since.
    have_others_passed: bool,
}

/// What follows when a record is denied alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The cause is not known.
    Unclear,
    /// Others passed since the record was denied before: it is the cause.
    OwnFault,
    /// Several records in a row were denied: their type has to stop.
    Stop,
}

/// What is known of the types by their index.
#[derive(Default)]
struct StopState {
    stops: BTreeMap<usize, TypeStop>,
    /// Each record once, the oldest first.
    denied: BTreeMap<usize, VecDeque<DeniedRecord>>,
}

/// The types that are stopped.
#[derive(Default)]
pub(crate) struct TypeStops(Mutex<StopState>);

impl TypeStops {
    pub(crate) fn stop(&self, type_index: usize, reason: &str, now: Duration) {
        let stop = TypeStop { reason: reason.to_owned(), probe_at: now + PROBE_INTERVAL };
        let mut state = self.lock();
        state.stops.insert(type_index, stop);
        state.denied.remove(&type_index);
    }

    /// Records of the type were taken.
    pub(crate) fn resume(&self, type_index: usize) {
        let mut state = self.lock();
        state.stops.remove(&type_index);
        for denied in state.denied.entry(type_index).or_default() {
            denied.have_others_passed = true;
        }
    }

    /// A record of the type was denied alone.
    pub(crate) fn note_denial(&self, type_index: usize, record: RecordId) -> Denial {
        let mut state = self.lock();
        let denied = state.denied.entry(type_index).or_default();
        match denied.iter().find(|denied| denied.record == record) {
            Some(known) if known.have_others_passed => return Denial::OwnFault,
            Some(_) => {}
            None => denied.push_back(DeniedRecord { record, have_others_passed: false }),
        }
        if denied.len() > DENIED_RECORDS_MAX {
            denied.pop_front();
        }
        if denied.iter().filter(|denied| !denied.have_others_passed).count() >= DENIED_RECORDS_BEFORE_STOP {
            Denial::Stop
        } else {
            Denial::Unclear
        }
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
    use uuid::Uuid;

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
    fn only_different_records_in_a_row_stop_a_type_and_a_stop_begins_the_count_again() {
        let stops = TypeStops::default();
        let deny = |numbers: &[u128]| -> Vec<Denial> {
            numbers.iter().map(|number| stops.note_denial(1, RecordId(Uuid::from_u128(*number)))).collect()
        };
        assert_eq!(deny(&[1, 1, 1, 2, 1]), [Denial::Unclear; 5]);
        assert_eq!(stops.note_denial(0, RecordId::default()), Denial::Unclear);
        stops.resume(1);
        assert_eq!(deny(&[1, 3, 4, 5]), [Denial::OwnFault, Denial::Unclear, Denial::Unclear, Denial::Stop]);
        stops.stop(1, "denied", Duration::ZERO);
        assert_eq!(deny(&[1, 3, 3]), [Denial::Unclear; 3]);
        let many: Vec<u128> = (0..).take(2 * DENIED_RECORDS_MAX).collect();
        deny(&many);
        assert_eq!(stops.lock().denied[&1].len(), DENIED_RECORDS_MAX);
    }
}
