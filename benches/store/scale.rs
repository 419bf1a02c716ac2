//! Measures whether opening, memory and the time of each step depend on the backlog.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use fieldsync::clock::Clock;
use tempfile::TempDir;

use crate::child::{Role, Work};
use crate::disk;
use crate::fieldsync::{FILE_NAME, Store};
use crate::lifecycle::RecordLifecycle;
use crate::record::Record;
use crate::table;

const LOAD_COMMIT_RECORDS: usize = 500;
/// Openings after a clean close, and after a kill while idle.
const OPENINGS_PER_CASE: usize = 5;
/// Batches to settle before the process is killed at work.
const BATCHES_BEFORE_KILL: usize = 20;

pub(crate) fn measure_scale(dir: &Path, sizes: &[usize]) {
    let mut openings = Vec::new();
    let mut works: Vec<(usize, Work)> = Vec::new();
    for &size in sizes {
        let home = TempDir::new_in(dir).expect("the directory takes another");
        load_store(home.path(), size);
        works.push((size, run_worker(home.path())));
        openings.push(measure_openings(home.path(), size));
        drop(home);
        disk::sync_disk(dir);
    }
    table::print_title("Opening");
    println!("With the file in the page cache / not there.\n");
    table::print_head(&["waiting", "closed cleanly", "killed in idle", "killed at work (repair)"]);
    for row in &openings {
        table::print_row(row);
    }
    table::print_title("Memory and time of each step");
    println!("Resident after all steps; medians. Claim and settlement each include their commit.\n");
    table::print_head(&[
        "waiting",
        "resident",
        "over the first row",
        "status",
        "claim 50",
        "settle 50, claim 50",
    ]);
    let first = works.first().map_or(0, |(_, work)| work.resident_kib);
    for (size, work) in &works {
        let over = work.resident_kib.cast_signed() - first.cast_signed();
        table::print_row(&[
            table::format_count(*size),
            format_mib(work.resident_kib.cast_signed()),
            format_mib(over),
            table::format_time(work.backlog),
            table::format_time(work.claim),
            table::format_time(work.settle),
        ]);
    }
}

#[expect(clippy::cast_precision_loss, reason = "small")]
fn format_mib(kib: i64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

fn load_store(dir: &Path, size: usize) {
    let mut store = Store::open(dir);
    for _ in 0..size.div_ceil(LOAD_COMMIT_RECORDS) {
        store.append(Record::new_batch(LOAD_COMMIT_RECORDS));
    }
    store.save_allocator_state();
    store.close_store();
}

fn run_worker(dir: &Path) -> Work {
    let output = spawn_child(Role::Work, dir).wait_with_output().expect("the process ends");
    Work::from_line(&String::from_utf8_lossy(&output.stdout)).expect("the process says what its work took")
}

fn measure_openings(dir: &Path, size: usize) -> Vec<String> {
    let many = |before: &dyn Fn()| time_openings(dir, OPENINGS_PER_CASE, before);
    let clean = many(&|| {});
    let idle = many(&|| kill_process(Role::Idle, dir, 1));
    let busy = time_openings(dir, 1, &|| kill_process(Role::Busy, dir, BATCHES_BEFORE_KILL));
    vec![table::format_count(size), clean, idle, busy]
}

/// The median times to open the store, with and without the page cache, after `before`.
fn time_openings(dir: &Path, times: usize, before: &dyn Fn()) -> String {
    let median = |cold: bool| {
        let times: Vec<Duration> = (0..times)
            .map(|_| {
                before();
                if cold {
                    disk::drop_page_cache(&dir.join(FILE_NAME));
                }
                let clock = Clock::start();
                let store = Store::open(dir);
                let took = clock.now();
                store.close_store();
                took
            })
            .collect();
        table::format_time(table::median_time(&times))
    };
    format!("{} / {}", median(false), median(true))
}

/// Kills a process after it has written this many lines.
fn kill_process(role: Role, dir: &Path, lines: usize) {
    let mut child = spawn_child(role, dir);
    let mut said = BufReader::new(child.stdout.take().expect("the process speaks")).lines();
    assert_eq!(said.by_ref().take(lines).count(), lines, "the process came so far");
    // With its output closed, it would end by itself.
    child.kill().expect("the process is killed");
    child.wait().expect("the process is gone");
}

fn spawn_child(role: Role, dir: &Path) -> Child {
    let role = role.to_possible_value().expect("every role has a name");
    Command::new(std::env::current_exe().expect("this program has a file"))
        .args(["--child", role.get_name(), "--dir"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the process starts")
}
