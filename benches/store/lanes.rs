//! What many records of one key cost: a claim by its size, a page of the manifest, an append.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use fieldsync::clock::Clock;
use tempfile::TempDir;

use crate::disk;
use crate::fieldsync::Store;
use crate::record::Record;
use crate::table;

const SIZES: [usize; 3] = [100, 1_000, 10_000];
const ROUNDS: usize = 7;
/// Records that wait while a page is read, and entries of the page.
const WAITING: usize = 200_000;
const PAGE: usize = 500;
/// Records under review, those behind them, and appends that follow.
const UNDER_REVIEW: usize = 300;
const BEHIND: usize = 3_000;
const APPENDS: usize = 300;
const LOADED_AT_ONCE: usize = 500;
const KEY: Option<&str> = Some("account 4711");

pub(crate) fn measure(dir: &Path) {
    table::title("Claim by size");
    println!("With its commit, of records that nothing holds; medians of {ROUNDS}.\n");
    table::head(&["records", "without a key", "of one key", "ratio", "settle, of one key"]);
    for size in SIZES {
        let ((free, _), (keyed, settled)) = (claims(dir, size, None), claims(dir, size, KEY));
        let times = [table::time(free), table::time(keyed), ratio(keyed, free), table::time(settled)];
        table::row(&[vec![table::whole(size)], times.to_vec()].concat());
    }
    disk::rest(dir);
    table::title("A key that is held");
    println!(
        "A page of {PAGE} entries with {} records of one key that wait; an append of one record to a key with {} behind.\n",
        table::whole(WAITING),
        table::whole(BEHIND)
    );
    table::head(&["", "none under review", "some under review", "ratio"]);
    let (free, held) = (pages(dir, false), pages(dir, true));
    table::row(&["page, 1 under review".into(), table::time(free), table::time(held), ratio(held, free)]);
    let (free, held) = appends(dir);
    let what = format!("append, {UNDER_REVIEW} under review");
    table::row(&[what, table::time(free), table::time(held), ratio(held, free)]);
}

fn ratio(of: Duration, to: Duration) -> String {
    format!("{:.2}", of.as_secs_f64() / to.as_secs_f64())
}

fn timed(work: impl FnOnce()) -> Duration {
    let clock = Clock::start();
    work();
    clock.now()
}

fn load(store: &mut Store, records: usize, key: Option<&str>) {
    for loaded in (0..records).step_by(LOADED_AT_ONCE) {
        store.append_of(Record::some(LOADED_AT_ONCE.min(records - loaded)), key);
    }
}

/// The times of a claim and of its settlement.
fn claims(dir: &Path, size: usize, key: Option<&str>) -> (Duration, Duration) {
    let home = TempDir::new_in(dir).expect("the directory takes another");
    let mut store = Store::open(home.path());
    let (mut claims, mut settlements) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        load(&mut store, size, key);
        claims.push(timed(|| store.claim_of(size)));
        settlements.push(timed(|| store.sync()));
    }
    store.end();
    (table::median_time(&claims), table::median_time(&settlements))
}

fn pages(dir: &Path, held: bool) -> Duration {
    let home = TempDir::new_in(dir).expect("the directory takes another");
    let mut store = Store::open(home.path());
    review(&mut store, usize::from(held));
    load(&mut store, WAITING, KEY);
    let expected = if held { PAGE } else { 0 };
    let page = || assert_eq!(black_box(store.page(WAITING as u64 / 2, PAGE)), expected, "as they are held");
    let times: Vec<Duration> = (0..ROUNDS).map(|_| timed(page)).collect();
    store.end();
    table::median_time(&times)
}

fn review(store: &mut Store, records: usize) {
    if records > 0 {
        store.append_of(Record::some(records), KEY);
        store.claim_of(records);
        store.quarantine();
    }
}

/// The times of an append where none is under review, and where some are: alternating, because
/// the duration of a sync drifts.
fn appends(dir: &Path) -> (Duration, Duration) {
    let homes = [(); 2].map(|()| TempDir::new_in(dir).expect("the directory takes another"));
    let [mut free, mut held] = homes.each_ref().map(|home| Store::open(home.path()));
    review(&mut held, UNDER_REVIEW);
    load(&mut free, BEHIND, KEY);
    load(&mut held, BEHIND, KEY);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..APPENDS {
        for (store, times) in [(&mut free, &mut without), (&mut held, &mut with)] {
            let record = Record::some(1);
            times.push(timed(|| store.append_of(record, KEY)));
        }
    }
    free.end();
    held.end();
    (table::median_time(&without), table::median_time(&with))
}
