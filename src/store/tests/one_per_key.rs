//! Batches for a server that does not hold keys: they have one record of a key.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::audit::audit;
use super::support::{HOUR_MS, QueueBench, id, ids, record, test_error};
use crate::model::{Batch, NewRecord, Sequence};
use crate::policy::isolation;
use crate::policy::scheduler::{Disposition, Outcome};
use crate::store::{Dispatch, KeySpace};

fn sync(bench: &mut QueueBench, batch: &Batch) {
    bench.close_batch(batch.open.id, Outcome::Synced(None));
}

/// Claims and syncs batches until none is left, and returns their members.
fn drain(bench: &mut QueueBench, records: usize) -> Vec<Vec<u128>> {
    let mut batches = Vec::new();
    while let Some(batch) = bench.claim_one_per_key(records) {
        batches.push(ids(&batch));
        sync(bench, &batch);
    }
    batches
}

#[test]
fn later_records_of_a_key_follow_in_later_batches() {
    let mut bench = QueueBench::new();
    let keys = [Some("a"), Some("a"), Some("b"), Some("a"), None, None, Some("b")];
    bench.append((0..).zip(keys).map(|(number, key)| record(number, key)).collect());
    assert_eq!(drain(&mut bench, 50), [vec![0, 2, 4, 5], vec![1, 6], vec![3]]);
    audit(bench.queue_mut());
}

#[test]
fn an_urgent_record_follows_its_predecessors_one_by_one_before_others() {
    let mut bench = QueueBench::new();
    let mut records: Vec<NewRecord> = (0..3).map(|number| record(number, Some("a"))).collect();
    records.extend((3..6).map(|number| record(number, None)));
    records[2].priority = 9;
    bench.append(records);
    assert_eq!(drain(&mut bench, 1), [[0], [1], [2], [3], [4], [5]]);
}

#[test]
fn users_with_the_same_key_do_not_share_a_batch_and_do_not_wait_for_each_other() {
    let mut bench = QueueBench::new();
    bench.append_by(1, vec![record(0, Some("a"))]);
    bench.append_by(2, vec![record(1, Some("a")), record(2, None)]);
    let first = bench.claim_one_per_key(50).unwrap();
    assert_eq!(ids(&first), [0, 2]);
    let second = bench.claim_one_per_key(50).unwrap();
    assert_eq!(ids(&second), [1]);
    bench.close_batch(second.open.id, Outcome::Retry(test_error("later")));
    sync(&mut bench, &first);
    bench.now += HOUR_MS;
    assert_eq!(drain(&mut bench, 50), [[1]]);
}

#[test]
fn a_part_that_was_not_sent_yet_leaves_later_records_of_a_key_behind() {
    let mut bench = QueueBench::new();
    // A batch with the key of two users was claimed while they shared keys.
    bench.key_space = KeySpace::Shared;
    bench.reopen_queue();
    bench.append((0..6).map(|number| record(number, Some("a"))).collect());
    bench.append_by(7, vec![record(6, Some("a")), record(7, Some("b"))]);
    let batch = bench.claim(50).unwrap().open.id;
    bench.key_space = KeySpace::PerSubmitter;
    bench.reopen_queue();
    let cut = isolation::cut_in_half(8);
    let parts = bench.settle(batch, Disposition::Cut { cut, error: Some(test_error("unclear")) }).opened;
    let sequence = Sequence { index: 1, total: 2 };
    let mut dispatch = |part: usize| {
        let dispatch = Dispatch { batch: parts[part].id, sequence, one_per_key: true };
        bench.run(dispatch).map(|batch| (ids(&batch), batch))
    };
    let (members, first) = dispatch(0).unwrap();
    assert_eq!(members, [0]);
    // The records before 4 and 5 are not sent yet. That of another user with the same key does not depend on them.
    let (members, second) = dispatch(1).unwrap();
    assert_eq!(members, [6, 7]);
    audit(bench.queue_mut());
    sync(&mut bench, &first);
    sync(&mut bench, &second);
    assert_eq!(drain(&mut bench, 50), [[1], [2], [3], [4], [5]]);
    audit(bench.queue_mut());
}

#[test]
fn whatever_becomes_of_batches_every_record_is_sent_in_the_order_of_its_key() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bench = QueueBench::new();
        // The key and the user of each record.
        let mut lane_of = HashMap::new();
        for number in 0..60u128 {
            let key = ["a", "b", "c", "-"][random.usize(..4)];
            let key = Some(key).filter(|key| *key != "-");
            let user = random.u32(1..3);
            lane_of.insert(number, key.map(|key| (key, user)));
            let priority = if random.u8(..4) == 0 { 9 } else { 5 };
            bench.append_by(user, vec![NewRecord { priority, ..record(number, key) }]);
        }
        let mut synced: Vec<u128> = Vec::new();
        for _ in 0..2000 {
            if synced.len() == 60 {
                break;
            }
            bench.now += 1000;
            let batch = if random.u8(..3) > 0 { bench.claim_one_per_key(10) } else { bench.claim(10) };
            let Some(batch) = batch else {
                bench.now += HOUR_MS;
                continue;
            };
            let lanes: HashSet<_> = ids(&batch).iter().filter_map(|number| lane_of[number]).collect();
            let keys: HashSet<_> = lanes.iter().map(|(key, _)| key).collect();
            assert_eq!(keys.len(), lanes.len(), "seed {seed}: two users share a key: {lanes:?}");
            let mut held = HashSet::new();
            let mut outcomes = Vec::new();
            for number in ids(&batch) {
                let lane = lane_of[&number];
                let is_held = lane.is_some_and(|lane| held.contains(&lane));
                if is_held || random.u8(..3) == 0 {
                    held.extend(lane);
                    outcomes.push((id(number), Outcome::Retry(test_error("later"))));
                } else {
                    synced.push(number);
                    outcomes.push((id(number), Outcome::Synced(None)));
                }
            }
            let missing = Outcome::Retry(test_error("none"));
            bench
                .settle(batch.open.id, Disposition::Close { outcomes, missing, retry_after: Duration::ZERO });
        }
        assert_eq!(synced.len(), 60, "seed {seed}");
        for lane in ["a", "b", "c"].into_iter().flat_map(|key| [(key, 1), (key, 2)]) {
            let of_lane: Vec<u128> =
                synced.iter().copied().filter(|number| lane_of[number] == Some(lane)).collect();
            assert!(of_lane.is_sorted(), "seed {seed}: {of_lane:?}");
        }
        audit(bench.queue_mut());
    }
}
