//! Measures the flash writes of a record over its life: append, claim, settlement and pruning.

use std::path::Path;

use crate::device::{Device, DeviceTotals};
use crate::fieldsync::Store;
use crate::lifecycle::{BATCH_RECORDS, RecordLifecycle};
use crate::record::Record;
use crate::sqlite::Sqlite;
use crate::table;

/// Records appended in one commit, and how many commits are counted.
const COMMIT_SIZES: [(usize, usize); 3] = [(1, 1500), (16, 500), (64, 300)];
/// Batches settled in a measurement.
const SETTLED_BATCHES: usize = 200;
/// Batches settled before the measurement: from then on, a receipt is removed for each new one.
const WARM_UP_BATCHES: usize = 300;
const LOAD_COMMIT_RECORDS: usize = 500;

pub(crate) fn measure_wear(dir: &Path, preload: usize) {
    table::print_title("Device writes of a record");
    println!(
        "Bytes that reach the device for a record of 1 KiB, {} others waiting. \
         Its life is its append and its share of claim, settlement and pruning in batches of {BATCH_RECORDS}.\n",
        table::format_count(preload)
    );
    // Every store copies pages before it frees the old ones.
    let size = (2 << 30) + 6 * 1024 * preload as u64;
    let device = match Device::new(dir, size) {
        Ok(device) => device,
        Err(reason) => return println!("skipped: {reason}"),
    };
    table::print_head(&[
        "store",
        "records of a commit",
        "append",
        "claim, settle, prune",
        "life",
        "commits of a batch",
        "flushes of a batch",
    ]);
    measure_store("fieldsync", &device, preload, Store::open);
    measure_store("SQLite", &device, preload, Sqlite::open);
}

#[expect(clippy::cast_precision_loss, reason = "small")]
fn measure_store<L: RecordLifecycle>(
    name: &str,
    device: &Device,
    preload: usize,
    open: impl FnOnce(&Path) -> L,
) {
    let dir = device.mount_dir().join(name);
    std::fs::create_dir(&dir).expect("the device has room");
    let mut store = open(&dir);
    for _ in 0..(preload + WARM_UP_BATCHES * BATCH_RECORDS).div_ceil(LOAD_COMMIT_RECORDS) {
        store.append(Record::new_batch(LOAD_COMMIT_RECORDS));
    }
    (0..WARM_UP_BATCHES).for_each(|_| store.settle_and_claim());
    for (group, commits) in COMMIT_SIZES {
        let append =
            count_writes(device, || (0..commits).for_each(|_| store.append(Record::new_batch(group))));
        let append = append.bytes as f64 / (group * commits) as f64;
        let before = store.commit_count();
        let turns = count_writes(device, || (0..SETTLED_BATCHES).for_each(|_| store.settle_and_claim()));
        let turn = turns.bytes as f64 / (SETTLED_BATCHES * BATCH_RECORDS) as f64;
        let each = |total: u64| format!("{:.2}", total as f64 / SETTLED_BATCHES as f64);
        table::print_row(&[
            name.into(),
            group.to_string(),
            table::format_number(append),
            table::format_number(turn),
            format!("**{}**", table::format_number(append + turn)),
            each(store.commit_count() - before),
            each(turns.flushes),
        ]);
    }
}

fn count_writes(device: &Device, work: impl FnOnce()) -> DeviceTotals {
    let before = device.read_totals();
    work();
    let after = device.read_totals();
    DeviceTotals { bytes: after.bytes - before.bytes, flushes: after.flushes - before.flushes }
}
