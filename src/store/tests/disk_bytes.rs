//! Compares the estimated disk space of records with the growth of the file.

use super::support::{QueueBench, id, record};
use crate::model::{NewRecord, RecordId};

/// The largest relative error of the estimate.
const TOLERANCE: f64 = 0.4;
/// Records in one commit.
const RECORDS_PER_APPEND: usize = 500;
/// Payload bytes in one commit.
const COMMIT_BYTES: usize = 10_000_000;

struct RecordShape {
    name: &'static str,
    record_type: usize,
    key: usize,
    payload: usize,
    records: usize,
}

const SHAPES: [RecordShape; 10] = [
    RecordShape { name: "tiny", record_type: 6, key: 0, payload: 2, records: 20_000 },
    RecordShape { name: "tiny with a key", record_type: 6, key: 10, payload: 2, records: 20_000 },
    RecordShape { name: "small", record_type: 10, key: 20, payload: 300, records: 20_000 },
    RecordShape { name: "half a page", record_type: 10, key: 20, payload: 1500, records: 8_000 },
    RecordShape { name: "a page", record_type: 10, key: 0, payload: 3500, records: 5_000 },
    RecordShape { name: "more than a page", record_type: 10, key: 20, payload: 5000, records: 4_000 },
    RecordShape { name: "large", record_type: 10, key: 20, payload: 60_000, records: 500 },
    RecordShape { name: "very large", record_type: 10, key: 0, payload: 1_000_000, records: 40 },
    RecordShape { name: "long names", record_type: 128, key: 512, payload: 2, records: 10_000 },
    RecordShape {
        name: "long names and half a page",
        record_type: 128,
        key: 512,
        payload: 1500,
        records: 8_000,
    },
];

fn new(shape: &RecordShape, number: usize, scattered: bool) -> NewRecord {
    let of = |length: usize| -> String { format!("{number:0>length$}").chars().take(length).collect() };
    let key = of(shape.key);
    let scatter = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    NewRecord {
        id: if scattered { id(scatter) } else { RecordId::new() },
        record_type: "t".repeat(shape.record_type),
        payload: "x".repeat(shape.payload).into(),
        ..record(0, Some(key.as_str()).filter(|key| !key.is_empty()))
    }
}

#[test]
fn the_estimated_disk_space_of_records_is_within_40_percent() {
    let mut wrong = Vec::new();
    for shape in &SHAPES {
        for scattered in [false, true] {
            let mut bench = QueueBench::new();
            let limits = &mut bench.limits;
            (limits.max_records, limits.max_bytes, limits.max_record_bytes) = (1 << 30, 1 << 40, 1 << 30);
            let before = bench.queue_mut().read_backlog().unwrap().storage.file_bytes;
            let numbers: Vec<usize> = (0..shape.records).collect();
            for some in numbers.chunks(RECORDS_PER_APPEND.min(COMMIT_BYTES / shape.payload)) {
                bench.append(some.iter().map(|number| new(shape, *number, scattered)).collect());
            }
            let backlog = bench.queue_mut().read_backlog().unwrap();
            let grown = backlog.storage.file_bytes - before;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let ratio = backlog.disk_bytes as f64 / grown as f64;
            let each = (grown / shape.records as u64, backlog.disk_bytes / shape.records as u64);
            println!(
                "{}, ids in order {}: grown by {}, estimated {}: {ratio:.2}",
                shape.name, !scattered, each.0, each.1
            );
            if (ratio - 1.0).abs() > TOLERANCE {
                wrong.push((shape.name, scattered, ratio));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
