//! The power goes while records come and go.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Books, settings};
use crate::support::daemon::Daemon;
use crate::support::gateway::Gateway;
use crate::support::loop_disk::LoopDisk;
use crate::support::wait::{directory, wait_for};

const APPLIED: &str = "fieldsync_gateway_records_total{result=\"applied\"}";
const CUTS: u64 = 6;
const PRODUCERS: usize = 4;

/// Hands records over, one request after the other, until it hears something else than that they are kept.
///
/// What is answered once the power is going counts as unknown: a file system that is being shut
/// down may say of a sync under way that it is done when it is not. With the power gone nobody
/// would have been answered. For the same reason a batch that was claimed then may be sent twice.
fn producer(socket: PathBuf, records: usize, going: Arc<AtomicBool>) -> JoinHandle<Books> {
    thread::spawn(move || {
        let mut books = Books::default();
        loop {
            let mut request = Books::default();
            let answer = request.offer(&socket, records, 300);
            if going.load(Ordering::SeqCst) {
                request.unknown.extend(request.acknowledged.drain());
            }
            books.add(request);
            if answer.is_none_or(|answer| answer.status != 201) {
                return books;
            }
        }
    })
}

#[test]
#[ignore = "needs root and loop devices: cargo test --test programs disk:: -- --ignored"]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let disk = LoopDisk::new(128);
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let mut daemon = Daemon::start(&settings(&disk, &gateway.url()));
    let mut books = Books::default();
    for cut in 1..=CUTS {
        let going = Arc::new(AtomicBool::new(false));
        let start = |records| producer(daemon.home.socket(), records, Arc::clone(&going));
        let producers: Vec<_> = (1..=PRODUCERS).map(start).collect();
        let before = gateway.metric(APPLIED);
        wait_for("records to be applied", || (gateway.metric(APPLIED) >= before + 60 * cut).then_some(()));
        // The moment of the cut wanders: in a commit, beside one, while a batch is answered.
        thread::park_timeout(Duration::from_micros(1900 * cut));
        going.store(true, Ordering::SeqCst);
        let home = disk.cut_power_and_remount(daemon);
        for producer in producers {
            books.add(producer.join().unwrap());
        }
        daemon = home.start();
    }
    daemon.wait_until_done();
    books.assert_in_the_ledger_of(&gateway);
    let (sent, acknowledged) = (gateway.metric(APPLIED), books.acknowledged.len());
    println!(
        "{CUTS} power cuts: {acknowledged} records acknowledged, {sent} applied, 0 lost, 0 applied twice"
    );
}
