//! Limits are exact, and old receipts are removed.

use std::time::Duration;

use super::audit::audit;
use super::support::{HOUR_MS, QueueBench, claim_order, id, ids, record, retry_config, test_error};
use crate::model::{NewRecord, RecordId};
use crate::policy::scheduler::{Disposition, Outcome};
use crate::store::{Append, AppendRefused, Claim, LimitReached, Settle};

fn sized(number: u128, bytes: usize) -> NewRecord {
    NewRecord { payload: "x".repeat(bytes).into(), ..record(number, None) }
}

fn append_count(bench: &mut QueueBench, records: Vec<NewRecord>) -> Result<u64, AppendRefused> {
    bench.run(Append::new(records, 0)).map(|done| done.accepted)
}

#[test]
fn the_limit_on_records_is_exact() {
    let mut bench = QueueBench::new();
    bench.limits.max_records = 3;
    assert_eq!(append_count(&mut bench, vec![record(1, None), record(2, None)]), Ok(2));
    let full = Err(AppendRefused::Full(LimitReached { key: "queue.max_records", is_share: false }));
    assert_eq!(append_count(&mut bench, vec![record(3, None), record(4, None)]), full, "all or nothing");
    assert_eq!(append_count(&mut bench, vec![record(3, None)]), Ok(1));
    assert_eq!(append_count(&mut bench, vec![record(4, None)]), full);
    assert_eq!(append_count(&mut bench, vec![record(1, None)]), Ok(0), "a known record needs no room");
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Synced(None));
    assert_eq!(append_count(&mut bench, vec![record(4, None)]), Ok(1));
    audit(bench.queue_mut());
}

#[test]
fn the_limit_on_bytes_is_exact() {
    let mut bench = QueueBench::new();
    bench.limits.max_bytes = 100;
    assert_eq!(append_count(&mut bench, vec![sized(1, 60)]), Ok(1));
    let full = Err(AppendRefused::Full(LimitReached { key: "queue.max_bytes", is_share: false }));
    assert_eq!(append_count(&mut bench, vec![sized(2, 41)]), full);
    assert_eq!(append_count(&mut bench, vec![sized(2, 40)]), Ok(1));
    assert_eq!(bench.queue_mut().read_backlog().unwrap().bytes, 100);
}

#[test]
fn the_limit_on_record_size_is_exact() {
    let mut bench = QueueBench::new();
    assert_eq!(append_count(&mut bench, vec![sized(1, 1000)]), Ok(1));
    let refused = AppendRefused::TooLarge { position: 2, bytes: 1001, limit: 1000 };
    assert_eq!(append_count(&mut bench, vec![sized(2, 1), sized(3, 1001)]), Err(refused));
    assert!(bench.find_entry(id(2)).is_none(), "nothing of a refused request stays");
}

#[test]
fn an_id_with_other_content_is_a_conflict_even_after_it_was_synced() {
    let mut bench = QueueBench::new();
    assert_eq!(append_count(&mut bench, vec![record(1, None), record(1, None)]), Ok(1));
    let conflict = Err(AppendRefused::Conflict { position: 2, id: id(1) });
    assert_eq!(append_count(&mut bench, vec![record(2, None), record(1, Some("key"))]), conflict);
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Synced(None));
    assert_eq!(append_count(&mut bench, vec![record(1, None)]), Ok(0));
    assert_eq!(append_count(&mut bench, vec![record(2, None), record(1, Some("key"))]), conflict);
}

#[test]
fn a_record_larger_than_a_batch_is_sent_alone() {
    let mut bench = QueueBench::new();
    for (number, bytes) in [(1, 10), (2, 500), (3, 10)] {
        append_count(&mut bench, vec![sized(number, bytes)]).unwrap();
    }
    let mut claim = || bench.run(Claim::new(claim_order(10, 100))).map(|batch| ids(&batch));
    assert_eq!(claim(), Some(vec![1]));
    assert_eq!(claim(), Some(vec![2]));
    assert_eq!(claim(), Some(vec![3]));
    assert_eq!(claim(), None);
}

fn sync_all(bench: &mut QueueBench) {
    while let Some(batch) = bench.claim(300) {
        bench.close_batch(batch.open.id, Outcome::Synced(None));
    }
}

#[test]
fn old_receipts_behind_new_ones_are_removed() {
    let mut bench = QueueBench::new();
    bench.append((1..=20).map(|number| record(number, None)).collect());
    sync_all(&mut bench);
    bench.now += HOUR_MS + 1;
    let urgent = |number| NewRecord { priority: 9, ..record(number, None) };
    bench.append((100..=350).map(urgent).collect());
    sync_all(&mut bench);
    for number in 400..410 {
        bench.append(vec![urgent(number)]);
        sync_all(&mut bench);
    }
    assert!(bench.find_entry(id(1)).is_none(), "kept for an hour");
    assert!(bench.find_entry(id(100)).is_some(), "not yet");
    assert_eq!(bench.queue_mut().read_backlog().unwrap().synced, 261);
    audit(bench.queue_mut());
}

#[test]
fn receipts_do_not_accumulate_faster_than_they_are_removed() {
    let mut bench = QueueBench::new();
    for round in 0..6u128 {
        bench.append((0..300).map(|number| record(round * 300 + number, None)).collect());
        sync_all(&mut bench);
        bench.now += HOUR_MS + 1;
    }
    assert!(bench.queue_mut().read_backlog().unwrap().synced <= 600);
}

#[test]
fn results_for_other_records_and_repeated_results_change_nothing() {
    let mut bench = QueueBench::new();
    bench.append((1..=3).map(|number| record(number, None)).collect());
    let batch = bench.claim(2).unwrap().open.id;
    let no = || Outcome::Quarantine(test_error("no"));
    let outcomes =
        vec![(id(1), Outcome::Synced(None)), (id(1), no()), (id(3), no()), (id(9), Outcome::Synced(None))];
    let disposition = Disposition::Close {
        outcomes,
        missing: Outcome::Retry(test_error("no result")),
        retry_after: Duration::ZERO,
    };
    let settled = bench.run(Settle {
        batch,
        disposition,
        retry: retry_config(),
        then: Some(Claim::new(claim_order(5, u64::MAX))),
        note: None,
    });
    let synced: Vec<RecordId> = settled.synced.iter().map(|record| record.id).collect();
    assert_eq!((synced, settled.quarantined.len(), settled.failed), (vec![id(1)], 0, 1));
    assert_eq!(ids(&settled.claimed.unwrap()), [3], "the next batch comes with the settlement");
    audit(bench.queue_mut());
}

#[test]
fn an_idle_queue_removes_old_receipts_in_steps() {
    let mut bench = QueueBench::new();
    bench.limits.max_records = 5000;
    bench.append((1..=2500).map(|number| record(number, None)).collect());
    sync_all(&mut bench);
    assert!(!bench.run_idle_maintenance(), "none is old yet");
    bench.now += HOUR_MS + 1;
    let mut steps = 0;
    while bench.run_idle_maintenance() {
        steps += 1;
    }
    assert_eq!(steps, 2, "1000, and the rest");
    assert_eq!(bench.queue_mut().read_backlog().unwrap().synced, 0);
    audit(bench.queue_mut());
}
