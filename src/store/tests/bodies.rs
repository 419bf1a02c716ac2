//! Payloads of every size are returned unchanged, and leave nothing behind when they are removed.

use super::audit::audit;
use super::support::{QueueBench, discard, id, record, test_error};
use crate::model::NewRecord;
use crate::policy::scheduler::Outcome;
use crate::store::{ReplacePayload, Review, ReviewSelection};

fn payload_of(bytes: usize) -> Box<str> {
    // Letters of two bytes: a part may end in the middle of one.
    let text: String = "aé".chars().cycle().take(bytes * 2 / 3).collect();
    format!("{{\"x\":\"{text}\"}}").into()
}

#[test]
fn large_payloads_are_stored_sent_replaced_and_removed() {
    let mut bench = QueueBench::new();
    bench.limits.max_record_bytes = 2 << 20;
    bench.limits.max_bytes = 64 << 20;
    let sizes = [0, 3000, 3800, 3900, 4000, 4100, 8000, 70_000, 1_048_000];
    let records: Vec<NewRecord> = sizes
        .iter()
        .zip(1..)
        .map(|(size, number)| NewRecord { payload: payload_of(*size), ..record(number, Some("key")) })
        .collect();
    bench.append(records.clone());
    for end in [QueueBench::crash_process, QueueBench::reopen_queue] {
        end(&mut bench);
        for new in &records {
            assert_eq!(bench.with_view(|view| view.read_payload(new.id)).unwrap().0, new.payload);
        }
    }
    let batch = bench.claim(100).unwrap();
    let sent: Vec<&str> = batch.records.iter().map(|record| &*record.payload).collect();
    assert!(sent.iter().zip(&records).all(|(sent, new)| *sent == &*new.payload));
    bench.close_batch(batch.open.id, Outcome::Quarantine(test_error("no")));
    audit(bench.queue_mut());
    for (number, size) in [(9, 10), (1, 500_000), (8, 70_001)] {
        bench.run(ReplacePayload { id: id(number), payload: payload_of(size) }).unwrap();
        assert_eq!(bench.with_view(|view| view.read_payload(id(number))).unwrap().0, payload_of(size));
    }
    audit(bench.queue_mut());
    bench.run(Review { selected: ReviewSelection::After(None), action: discard(), submitter: None });
    let batch = bench.claim(100).unwrap().open.id;
    bench.close_batch(batch, Outcome::Synced(None));
    audit(bench.queue_mut());
    assert_eq!(bench.queue_mut().read_backlog().unwrap().bytes, 0);
}

#[test]
fn a_replaced_payload_counts_against_the_limit() {
    let mut bench = QueueBench::new();
    bench.limits.max_bytes = 100;
    bench.append(vec![record(1, None)]);
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Quarantine(test_error("no")));
    let replace_by = |bytes: usize| ReplacePayload { id: id(1), payload: "x".repeat(bytes).into() };
    assert!(bench.run(replace_by(101)).is_err());
    assert_eq!(bench.queue_mut().read_backlog().unwrap().quarantined, 1);
    assert!(bench.run(replace_by(100)).is_ok());
}

#[test]
fn a_mostly_unused_file_is_compacted_when_nothing_waits() {
    let mut bench = QueueBench::new();
    bench.limits.max_record_bytes = 2 << 20;
    bench.limits.max_bytes = 64 << 20;
    let records = (1..=20).map(|number| NewRecord { payload: payload_of(1 << 20), ..record(number, None) });
    bench.append(records.collect());
    let size = |bench: &mut QueueBench| bench.queue_mut().read_backlog().unwrap().storage.file_bytes;
    let full = size(&mut bench);
    assert!(full > 16 << 20, "{full}");
    for _ in 0..19 {
        let batch = bench.claim(1).unwrap().open.id;
        bench.close_batch(batch, Outcome::Synced(None));
    }
    bench.run_idle_maintenance();
    assert!(size(&mut bench) >= full, "one record waits to be claimed");
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Synced(None));
    bench.run_idle_maintenance();
    assert!(size(&mut bench) < full / 8, "{} of {full}", size(&mut bench));
    audit(bench.queue_mut());
    bench.crash_process();
    audit(bench.queue_mut());
}
