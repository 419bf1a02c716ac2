//! The cost of many records of one key: claims by size, a page of the manifest, and an append.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::disk;
use crate::fieldsync::Store;
use crate::record::Record;
use crate::table;

const LANE_RECORDS: [usize; 3] = [100, 1_000, 10_000];
const ROUNDS_PER_CASE: usize = 7;
/// Records that wait while a page is read, and entries of the page.
const WAITING_RECORDS: usize = 200_000;
const PAGE_RECORDS: usize = 500;
/// Quarantined records, records behind them, and appends that follow.
const QUARANTINED_RECORDS: usize = 300;
const BLOCKED_RECORDS: usize = 3_000;
const APPENDED_RECORDS: usize = 300;
const LOAD_COMMIT_RECORDS: usize = 500;
const KEY: Option<&str> = Some("account 4711");

pub(crate) fn measure_lanes(dir: &Path) {
    table::print_title("Claim by size");
    println!("With its commit, of records that nothing holds; medians of {ROUNDS_PER_CASE}.\n");
    table::print_head(&["records", "without a key", "of one key", "ratio", "settle, of one key"]);
    for size in LANE_RECORDS {
        let ((free, _), (keyed, settled)) = (measure_claims(dir, size, None), measure_claims(dir, size, KEY));
        let times = [
            table::format_time(free),
            table::format_time(keyed),
            format_ratio(keyed, free),
            table::format_time(settled),
        ];
        table::print_row(&[vec![table::format_count(size)], times.to_vec()].concat());
    }
    disk::sync_disk(dir);
    table::print_title("A key that is held");
    println!(
        "A page of {PAGE_RECORDS} entries with {} records of one key that wait; an append of one record to a key with {} behind.\n",
        table::format_count(WAITING_RECORDS),
        table::format_count(BLOCKED_RECORDS)
    );
    table::print_head(&["", "none under review", "some under review", "ratio"]);
    let (free, held) = (measure_pages(dir, false), measure_pages(dir, true));
    table::print_row(&[
        "page, 1 under review".into(),
        table::format_time(free),
        table::format_time(held),
        format_ratio(held, free),
    ]);
    let (free, held) = measure_appends(dir);
    let what = format!("append, {QUARANTINED_RECORDS} under review");
    table::print_row(&[what, table::format_time(free), table::format_time(held), format_ratio(held, free)]);
}

fn format_ratio(of: Duration, to: Duration) -> String {
    format!("{:.2}", of.as_secs_f64() / to.as_secs_f64())
}

fn load_records(store: &mut Store, records: usize, key: Option<&str>) {
    for loaded in (0..records).step_by(LOAD_COMMIT_RECORDS) {
        store.append_with_key(Record::new_batch(LOAD_COMMIT_RECORDS.min(records - loaded)), key);
    }
}

/// The times of a claim and of its settlement.
fn measure_claims(dir: &Path, size: usize, key: Option<&str>) -> (Duration, Duration) {
    let home = TempDir::new_in(dir).expect("the directory takes another");
    let mut store = Store::open(home.path());
    let (mut claims, mut settlements) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS_PER_CASE {
        load_records(&mut store, size, key);
        claims.push(table::time_of(|| store.claim_batch_of(size)));
        settlements.push(table::time_of(|| store.sync_batch()));
    }
    store.close_store();
    (table::median_time(&claims), table::median_time(&settlements))
}

fn measure_pages(dir: &Path, held: bool) -> Duration {
    let home = TempDir::new_in(dir).expect("the directory takes another");
    let mut store = Store::open(home.path());
    quarantine_first(&mut store, usize::from(held));
    load_records(&mut store, WAITING_RECORDS, KEY);
    let expected = if held { PAGE_RECORDS } else { 0 };
    let page = || {
        assert_eq!(
            black_box(store.read_page(WAITING_RECORDS as u64 / 2, PAGE_RECORDS)),
            expected,
            "as they are held"
        );
    };
    let times: Vec<Duration> = (0..ROUNDS_PER_CASE).map(|_| table::time_of(page)).collect();
    store.close_store();
    table::median_time(&times)
}

fn quarantine_first(store: &mut Store, records: usize) {
    if records > 0 {
        store.append_with_key(Record::new_batch(records), KEY);
        store.claim_batch_of(records);
        store.quarantine_batch();
    }
}

/// The times of an append with and without quarantined records. They alternate because the duration of a sync drifts.
fn measure_appends(dir: &Path) -> (Duration, Duration) {
    let homes = [(); 2].map(|()| TempDir::new_in(dir).expect("the directory takes another"));
    let [mut free, mut held] = homes.each_ref().map(|home| Store::open(home.path()));
    quarantine_first(&mut held, QUARANTINED_RECORDS);
    load_records(&mut free, BLOCKED_RECORDS, KEY);
    load_records(&mut held, BLOCKED_RECORDS, KEY);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..APPENDED_RECORDS {
        for (store, times) in [(&mut free, &mut without), (&mut held, &mut with)] {
            let record = Record::new_batch(1);
            times.push(table::time_of(|| store.append_with_key(record, KEY)));
        }
    }
    free.close_store();
    held.close_store();
    (table::median_time(&without), table::median_time(&with))
}
