//! Measures durable appends per second. Each producer submits a record, waits until it is on disk, and submits the
//! next.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use actix::System;
use fieldsync::clock::Clock;
use futures_util::future::join_all;
use tempfile::TempDir;

use crate::disk;
use crate::fieldsync::LiveStore;
use crate::group::Writer;
use crate::log::RawLog;
use crate::record::Record;
use crate::sqlite::Sqlite;
use crate::table;

#[derive(Clone, Copy)]
enum Kind {
    Fieldsync,
    Sqlite,
    RawLog,
}

const KINDS: [Kind; 3] = [Kind::Fieldsync, Kind::Sqlite, Kind::RawLog];

enum Contestant {
    LiveStore(LiveStore),
    Writer(Writer),
}

impl Contestant {
    fn open(kind: Kind, dir: &Path) -> Self {
        match kind {
            Kind::Fieldsync => Self::LiveStore(LiveStore::start(dir)),
            Kind::Sqlite => Self::Writer(Writer::start(Sqlite::open(dir))),
            Kind::RawLog => Self::Writer(Writer::start(RawLog::open(dir))),
        }
    }

    async fn append_record(&self, record: Record) {
        match self {
            Self::LiveStore(store) => store.append(record).await,
            Self::Writer(writer) => writer.append_record(record).await,
        }
    }

    async fn close_store(self) {
        match self {
            Self::LiveStore(store) => store.close().await,
            Self::Writer(writer) => writer.join_thread(),
        }
    }
}

pub(crate) fn measure_appends(
    dir: &Path,
    delay: Duration,
    rounds: usize,
    producers: &[usize],
    records: usize,
) {
    if delay.is_zero() {
        table::print_title("Durable appends");
    } else {
        table::print_title(&format!("Durable appends, each sync {delay:?} longer"));
    }
    // Slower syncs make longer rounds. With too few records, the growth of a new file would be measured.
    let records = if delay.is_zero() { records } else { records / 2 };
    println!("Records of 1 KiB a second; ratios within each round, median (lowest–highest) of {rounds}.\n");
    table::print_head(&[
        "producers",
        "fieldsync",
        "SQLite",
        "raw log",
        "fieldsync / raw log",
        "fieldsync / SQLite",
    ]);
    let system = System::new();
    for &producers in producers {
        let mut rates = KINDS.map(|_| Vec::with_capacity(rounds));
        for round in 0..rounds {
            // No contestant always runs after the same one.
            for turn in 0..KINDS.len() {
                let which = (round + turn) % KINDS.len();
                let (Some(kind), Some(rates)) = (KINDS.get(which), rates.get_mut(which)) else { continue };
                rates.push(system.block_on(measure_rate(
                    *kind,
                    dir,
                    producers,
                    records_of_round(producers, records),
                )));
            }
        }
        let [ours, sqlite, log] = rates;
        let ratio =
            |to: &[f64]| table::format_spread(ours.iter().zip(to).map(|(ours, to)| ours / to).collect());
        let (to_log, to_sqlite) = (ratio(&log), ratio(&sqlite));
        let [ours, sqlite, log] = [ours, sqlite, log].map(|rates| table::format_number(table::median(rates)));
        table::print_row(&[producers.to_string(), ours, sqlite, log, to_log, to_sqlite]);
    }
}

/// All measurements take about the same time.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small"
)]
fn records_of_round(producers: usize, records: usize) -> usize {
    (records as f64 * (producers as f64).sqrt()) as usize
}

#[expect(clippy::cast_precision_loss, reason = "small")]
async fn measure_rate(kind: Kind, dir: &Path, producers: usize, records: usize) -> f64 {
    let home = TempDir::new_in(dir).expect("the directory takes another");
    let contestant = Rc::new(Contestant::open(kind, home.path()));
    // Created before the clock starts, and submitted in the order of their ids, as in practice.
    let work = Rc::new(RefCell::new(Record::new_batch(records).into_iter()));
    disk::sync_disk(dir);
    let clock = Clock::start();
    let tasks = (0..producers).map(|_| {
        let (contestant, work) = (Rc::clone(&contestant), Rc::clone(&work));
        let next = move || work.borrow_mut().next();
        actix_rt::spawn(async move {
            while let Some(record) = next() {
                contestant.append_record(record).await;
            }
        })
    });
    let ended = join_all(tasks).await;
    let took = clock.now();
    assert!(ended.iter().all(Result::is_ok), "every producer came to its end");
    Rc::into_inner(contestant).expect("the producers are gone").close_store().await;
    drop(home);
    disk::sync_disk(dir);
    records as f64 / took.as_secs_f64()
}
