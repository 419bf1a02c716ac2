//! Runs this program in another process, which has its own memory and can be killed.
//!
//! It writes its results to standard output, a line at a time, and ends when its input or output is closed.

use std::hint::black_box;
use std::io::{Read, stdin};
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;

use crate::fieldsync::Store;
use crate::lifecycle::{BATCH_RECORDS, RecordLifecycle};
use crate::record::Record;
use crate::table;

/// What the process does.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    /// Does a day's work, and prints what it took
    Work,
    /// Does nothing
    Idle,
    /// Works until it is killed
    Busy,
}

/// Each appends as many records as it settles, so that the backlog stays the same.
const SETTLED_BATCHES: usize = 200;

pub(crate) fn run_role(role: Role, dir: &Path) {
    let mut store = Store::open(dir);
    match role {
        Role::Work => println!("{}", do_work(store).to_line()),
        Role::Idle => {
            store.append(Record::new_batch(BATCH_RECORDS));
            store.save_allocator_state();
            println!("idle");
            stdin().read_to_end(&mut Vec::new()).expect("the input ends");
        }
        Role::Busy => loop {
            store.append(Record::new_batch(BATCH_RECORDS));
            store.settle_and_claim();
            println!("busy");
        },
    }
}

/// Memory and time of the work.
pub(crate) struct Work {
    pub(crate) resident_kib: u64,
    pub(crate) backlog: Duration,
    pub(crate) claim: Duration,
    pub(crate) settle: Duration,
}

fn do_work(mut store: Store) -> Work {
    let (mut backlogs, mut claims, mut settles) = (Vec::new(), Vec::new(), Vec::new());
    store.append(Record::new_batch(2 * BATCH_RECORDS));
    store.settle_and_claim();
    for _ in 0..SETTLED_BATCHES {
        store.append(Record::new_batch(BATCH_RECORDS));
        backlogs.push(table::time_of(|| _ = black_box(store.read_backlog())));
        settles.push(table::time_of(|| store.settle_batch(true)));
        // A claim without a settlement is rare: only the first one after a pause.
        store.append(Record::new_batch(BATCH_RECORDS));
        store.settle_batch(false);
        claims.push(table::time_of(|| store.claim_batch()));
    }
    let work = Work {
        resident_kib: resident_kib(),
        backlog: table::median_time(&backlogs),
        claim: table::median_time(&claims),
        settle: table::median_time(&settles),
    };
    store.close_store();
    work
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process knows itself");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory is counted");
    line.trim().trim_end_matches(" kB").parse().expect("in KiB")
}

impl Work {
    fn to_line(&self) -> String {
        let [backlog, claim, settle] =
            [self.backlog, self.claim, self.settle].map(|time| time.as_secs_f64().to_string());
        format!("{} {backlog} {claim} {settle}", self.resident_kib)
    }

    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let resident_kib = fields.next()?.parse().ok()?;
        let mut time = || fields.next()?.parse().ok().map(Duration::from_secs_f64);
        Some(Self { resident_kib, backlog: time()?, claim: time()?, settle: time()? })
    }
}
