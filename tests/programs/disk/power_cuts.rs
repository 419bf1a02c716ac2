//! The power fails while records are enqueued and sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{OfferedRecords, settings};
use crate::support::daemon::Daemon;
use crate::support::gateway::Gateway;
use crate::support::loop_disk::LoopDisk;
use crate::support::wait::{directory, wait_for};

const APPLIED: &str = "fieldsync_gateway_records_total{result=\"applied\"}";
const CUTS: u64 = 6;
const PRODUCERS: usize = 4;

/// Enqueues records, one request after the other, until the daemon no longer accepts them.
///
/// Responses during the power failure count as unknown: a file system that is being shut down may report a sync
/// as done that is not. Without power, the caller would have received no response. For the same reason a batch
/// that was claimed then may be sent twice.
fn producer(socket: PathBuf, records: usize, going: Arc<AtomicBool>) -> JoinHandle<OfferedRecords> {
    thread::spawn(move || {
        let mut offered = OfferedRecords::default();
        loop {
            let mut request = OfferedRecords::default();
            let response = request.enqueue(&socket, records, 300);
            if going.load(Ordering::SeqCst) {
                request.unknown.extend(request.acknowledged.drain());
            }
            offered.add(request);
            if response.is_none_or(|response| response.status != 201) {
                return offered;
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
    let mut offered = OfferedRecords::default();
    for cut in 1..=CUTS {
        let going = Arc::new(AtomicBool::new(false));
        let start = |records| producer(daemon.home.socket(), records, Arc::clone(&going));
        let producers: Vec<_> = (1..=PRODUCERS).map(start).collect();
        let before = gateway.metric(APPLIED);
        wait_for("records to be applied", || (gateway.metric(APPLIED) >= before + 60 * cut).then_some(()));
        // The moment of the cut differs: during a commit, between commits, during the response to a batch.
        thread::park_timeout(Duration::from_micros(1900 * cut));
        going.store(true, Ordering::SeqCst);
        let home = disk.cut_power_and_remount(daemon);
        for producer in producers {
            offered.add(producer.join().unwrap());
        }
        daemon = home.start();
    }
    daemon.wait_until_done();
    offered.assert_in_the_ledger_of(&gateway);
    let (sent, acknowledged) = (gateway.metric(APPLIED), offered.acknowledged.len());
    println!(
        "{CUTS} power cuts: {acknowledged} records acknowledged, {sent} applied, 0 lost, 0 applied twice"
    );
}
