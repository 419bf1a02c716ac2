//! Which records travel together: waves keep the order within a key, calls keep the destination's limits.
//!
//! A destination does not say in which order it applies the records of a call. So two records of a key are never in
//! one call: the second is in a later wave, which begins after the wave before it has ended.

use std::collections::HashMap;

/// What planning needs to know of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanRecord<'a> {
    pub(crate) key: Option<&'a str>,
    /// Which type it has: a call has one type.
    pub(crate) type_index: usize,
    pub(crate) bytes: usize,
}

/// How large a call may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallSize {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

/// The records of one call, by their positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedCall {
    pub(crate) type_index: usize,
    pub(crate) positions: Vec<usize>,
}

/// The positions of the records in each wave. A record is one wave behind the last before it of its key.
pub(crate) fn plan_waves(records: &[PlanRecord<'_>]) -> Vec<Vec<usize>> {
    let mut next_of_key: HashMap<&str, usize> = HashMap::new();
    let mut waves: Vec<Vec<usize>> = Vec::new();
    for (position, record) in records.iter().enumerate() {
        let wave = record.key.and_then(|key| next_of_key.get(key)).copied().unwrap_or(0);
        if let Some(key) = record.key {
            next_of_key.insert(key, wave + 1);
        }
        if wave == waves.len() {
            waves.push(Vec::new());
        }
        if let Some(members) = waves.get_mut(wave) {
            members.push(position);
        }
    }
    waves
}

/// For each record, the last before it of its key: unless that one was applied, it is held.
pub(crate) fn find_predecessors(records: &[PlanRecord<'_>]) -> Vec<Option<usize>> {
    let mut last_of_key: HashMap<&str, usize> = HashMap::new();
    let by_position = records.iter().enumerate();
    by_position.map(|(position, record)| last_of_key.insert(record.key?, position)).collect()
}

/// A call that is being filled.
struct OpenCall {
    /// Its place among the calls.
    call: usize,
    bytes: usize,
}

/// Cuts the records of a wave into calls of one type each.
pub(crate) fn cut_calls(wave: &[usize], records: &[PlanRecord<'_>], size: CallSize) -> Vec<PlannedCall> {
    let mut calls: Vec<PlannedCall> = Vec::new();
    let mut open: HashMap<usize, OpenCall> = HashMap::new();
    for (position, record) in wave.iter().filter_map(|position| Some((*position, records.get(*position)?))) {
        if let Some(open) = open.get_mut(&record.type_index)
            && let Some(call) = calls.get_mut(open.call)
            && call.positions.len() < size.records.max(1)
            && open.bytes + record.bytes <= size.bytes
        {
            open.bytes += record.bytes;
            call.positions.push(position);
            continue;
        }
        open.insert(record.type_index, OpenCall { call: calls.len(), bytes: record.bytes });
        calls.push(PlannedCall { type_index: record.type_index, positions: vec![position] });
    }
    calls
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(key: Option<&'static str>, type_index: usize) -> PlanRecord<'static> {
        PlanRecord { key, type_index, bytes: 10 }
    }

    #[test]
    fn a_record_is_one_wave_behind_the_one_before_it_of_its_key() {
        let records = [record(Some("a"), 0), record(None, 0), record(Some("a"), 1), record(None, 0)];
        assert_eq!(plan_waves(&records), [vec![0, 1, 3], vec![2]]);
        assert_eq!(find_predecessors(&records), [None, None, Some(0), None]);
    }

    #[test]
    fn a_call_has_one_type_and_keeps_both_limits() {
        let records = [0, 1, 0, 0, 1].map(|type_index| record(None, type_index));
        let cut = |records_max, bytes| {
            let calls = cut_calls(&[0, 1, 2, 3, 4], &records, CallSize { records: records_max, bytes });
            calls.into_iter().map(|call| call.positions).collect::<Vec<_>>()
        };
        assert_eq!(cut(2, 100), [vec![0, 2], vec![1, 4], vec![3]]);
        assert_eq!(cut(100, 25), [vec![0, 2], vec![1, 4], vec![3]]);
        assert_eq!(cut(100, 5).len(), 5);
    }

    proptest! {
        #[test]
        fn each_record_is_in_one_call_of_its_wave_and_the_order_within_a_key_holds(
            input in prop::collection::vec((0usize..6, 0usize..3, 0usize..50), 0..80),
            records_max in 0usize..12, bytes in 0usize..200,
        ) {
            let keys = [None, Some("a"), Some("b"), Some("c"), Some("d"), Some("")];
            let records: Vec<PlanRecord<'_>> = input
                .iter()
                .map(|(key, type_index, bytes)| PlanRecord { bytes: *bytes, ..record(keys[*key], *type_index) })
                .collect();
            let size = CallSize { records: records_max, bytes };
            let mut wave_of = vec![None; records.len()];
            for (number, wave) in plan_waves(&records).iter().enumerate() {
                for call in cut_calls(wave, &records, size) {
                    prop_assert!(call.positions.len() <= records_max.max(1));
                    let total: usize = call.positions.iter().map(|position| records[*position].bytes).sum();
                    prop_assert!(total <= bytes || call.positions.len() == 1);
                    for position in call.positions {
                        prop_assert_eq!(records[position].type_index, call.type_index);
                        prop_assert_eq!(wave_of[position].replace(number), None);
                    }
                }
            }
            for (second, record) in records.iter().enumerate() {
                prop_assert!(wave_of[second].is_some());
                for (first, earlier) in records[..second].iter().enumerate() {
                    if earlier.key.is_some() && earlier.key == record.key {
                        prop_assert!(wave_of[first] < wave_of[second]);
                    }
                }
            }
        }
    }
}
