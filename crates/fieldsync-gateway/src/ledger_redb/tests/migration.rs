//! A file of the layout before, also if the conversion is cut short.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableHandle};

use super::super::RedbLedger;
use super::super::file::database_builder;
use super::super::migration::{begin_migration, move_rows};
use super::super::tables::META;
use crate::ledger::{ForwardTurn, Ledger, PageLimit};

const ALL: PageLimit = PageLimit { rows: 100, bytes: 1 << 20 };
const LISTED: u64 = 14;
const WAITING: [u64; 5] = [10, 11, 12, 13, 14];

fn unpack(directory: &Path) -> PathBuf {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/ledger-5d6b41c.redb.zst");
    let path = directory.join("ledger.redb");
    zstd::stream::copy_decode(File::open(packed).unwrap(), File::create(&path).unwrap()).unwrap();
    path
}

fn listed(ledger: &RedbLedger) -> Vec<u64> {
    ledger.applied_after(0, ALL).unwrap().iter().map(|record| record.seq).collect()
}

fn waiting(ledger: &RedbLedger) -> Vec<u64> {
    let ForwardTurn::ThisGateway { page, .. } = ledger.next_to_forward(ALL).unwrap() else {
        panic!("this gateway forwards");
    };
    page.iter().map(|entry| entry.record.seq).collect()
}

/// As if nothing had ever been forwarded.
fn forget_forwarding(path: &Path) {
    let database = database_builder().open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().remove("forwarded").unwrap();
    transaction.commit().unwrap();
}

/// The names of the tables, and of the facts about the file.
fn names_in(path: &Path) -> (Vec<String>, Vec<String>) {
    let database: Database = database_builder().open(path).unwrap();
    let transaction = database.begin_read().unwrap();
    let tables = transaction.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    let meta = transaction.open_table(META).unwrap();
    let facts = meta.iter().unwrap().map(|row| row.unwrap().0.value().to_owned()).collect();
    (tables, facts)
}

#[test]
fn a_file_with_payloads_is_converted_and_nothing_of_the_old_layout_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = unpack(directory.path());
    let ledger = RedbLedger::open(&path, false).unwrap();
    assert!(listed(&ledger).into_iter().eq(1..=LISTED));
    assert_eq!(waiting(&ledger), WAITING, "records were forwarded once");
    ledger.close().unwrap();
    let (tables, facts) = names_in(&path);
    assert!(!tables.contains(&"applied".to_owned()), "{tables:?}");
    assert_eq!(facts, ["forwards", "schema"]);
}

#[test]
fn payloads_are_kept_only_if_records_are_or_were_forwarded() {
    let directory = tempfile::tempdir().unwrap();
    let path = unpack(directory.path());
    forget_forwarding(&path);
    let copy = directory.path().join("copy.redb");
    fs::copy(&path, &copy).unwrap();
    let ledger = RedbLedger::open(&path, false).unwrap();
    assert!(listed(&ledger).into_iter().eq(1..=LISTED));
    assert!(waiting(&ledger).is_empty());
    let ledger = RedbLedger::open(&copy, true).unwrap();
    assert!(waiting(&ledger).into_iter().eq(1..=LISTED));
}

#[test]
fn a_conversion_that_was_cut_short_is_finished_at_the_next_start_as_it_was_begun() {
    let directory = tempfile::tempdir().unwrap();
    let path = unpack(directory.path());
    forget_forwarding(&path);
    let database = database_builder().open(&path).unwrap();
    begin_migration(&database, true).unwrap();
    assert_eq!(move_rows(&database, 5).unwrap(), 5);
    drop(database);
    // The gateway no longer forwards: what was to be kept is kept.
    let ledger = RedbLedger::open(&path, false).unwrap();
    assert!(listed(&ledger).into_iter().eq(1..=LISTED));
    assert!(waiting(&ledger).into_iter().eq(1..=LISTED));
}
