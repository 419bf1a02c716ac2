//! What a record costs the flash over its whole life: taken in, sent, settled, forgotten.

use std::path::Path;

use crate::device::{Device, Done};
use crate::fieldsync::Store;
use crate::life::{BATCH, Life};
use crate::record::Record;
use crate::sqlite::Sqlite;
use crate::table;

/// Records that are taken in with one commit, and how many commits are counted.
const GROUPS: [(usize, usize); 3] = [(1, 1500), (16, 500), (64, 300)];
/// Batches settled in a measurement.
const TURNS: usize = 200;
/// As many before any is counted: from then on a receipt goes for each that comes.
const WARM_UP: usize = 300;
const LOADED_AT_ONCE: usize = 500;

pub(crate) fn measure(dir: &Path, preload: usize) {
    table::title("Device writes of a record");
    println!(
        "Bytes that reach the device for a record of 1 KiB, {} others waiting. \
         Its life is its append and its share of claim, settlement and pruning in batches of {BATCH}.\n",
        table::whole(preload)
    );
    // Every store copies pages before it frees the old ones.
    let size = (2 << 30) + 6 * 1024 * preload as u64;
    let device = match Device::new(dir, size) {
        Ok(device) => device,
        Err(reason) => return println!("skipped: {reason}"),
    };
    table::head(&[
        "store",
        "records of a commit",
        "append",
        "claim, settle, prune",
        "life",
        "commits of a batch",
        "flushes of a batch",
    ]);
    lead("fieldsync", &device, preload, Store::open);
    lead("SQLite", &device, preload, Sqlite::open);
}

#[expect(clippy::cast_precision_loss, reason = "small")]
fn lead<L: Life>(name: &str, device: &Device, preload: usize, open: impl FnOnce(&Path) -> L) {
    let dir = device.dir().join(name);
    std::fs::create_dir(&dir).expect("the device has room");
    let mut store = open(&dir);
    for _ in 0..(preload + WARM_UP * BATCH).div_ceil(LOADED_AT_ONCE) {
        store.append(Record::some(LOADED_AT_ONCE));
    }
    (0..WARM_UP).for_each(|_| store.turn());
    for (group, commits) in GROUPS {
        let append = count(device, || (0..commits).for_each(|_| store.append(Record::some(group))));
        let append = append.bytes as f64 / (group * commits) as f64;
        let before = store.commits();
        let turns = count(device, || (0..TURNS).for_each(|_| store.turn()));
        let turn = turns.bytes as f64 / (TURNS * BATCH) as f64;
        let each = |total: u64| format!("{:.2}", total as f64 / TURNS as f64);
        table::row(&[
            name.into(),
            group.to_string(),
            table::number(append),
            table::number(turn),
            format!("**{}**", table::number(append + turn)),
            each(store.commits() - before),
            each(turns.flushes),
        ]);
    }
}

fn count(device: &Device, work: impl FnOnce()) -> Done {
    let before = device.done();
    work();
    let after = device.done();
    Done { bytes: after.bytes - before.bytes, flushes: after.flushes - before.flushes }
}
