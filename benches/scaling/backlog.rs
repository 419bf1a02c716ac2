//! Whether the cost of a record depends on how many others wait.
//!
//! There is a daemon for each row. All of them are filled, and in each round each of them takes in some records and sends
//! as many, one daemon after the other, in alternating order. Then they are started again, and send everything.

use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::curves::{Curves, Unit};
use crate::device::{BATCH_RECORDS, Device};
use crate::record::{Keys, Submitter};
use crate::report::{Calls, measure_calls};
use crate::server::Server;

/// The size of a small CRM record.
const PAYLOAD_BYTES: usize = 100;
const FILL_REQUEST_RECORDS: u64 = 1000;
/// Requests of one record in a round.
const LONE_RECORDS: u64 = 100;
/// Starts of each daemon.
const STARTS: usize = 3;
/// Maintenance follows 5 s after the last commit. Then the daemon is idle.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(8);
/// For one record. A queue of millions is sent in minutes.
const SEND_TIME_LIMIT: Duration = Duration::from_millis(20);
const SEND_TIME_MIN: Duration = Duration::from_mins(1);

/// What is measured.
pub(crate) struct BacklogScene<'a> {
    /// The daemon.
    pub(crate) program: &'a Path,
    pub(crate) dir: &'a Path,
    pub(crate) backlogs: &'a [u64],
    pub(crate) rounds: usize,
    pub(crate) keys: Keys,
    /// Whether the server keeps the order of a key. Otherwise, a batch has one record of a key.
    pub(crate) holds_keys: bool,
    /// Records that are taken in and sent in a round.
    pub(crate) turnover: u64,
    /// Whether the daemons are started again, and send everything at the end.
    pub(crate) is_complete: bool,
}

/// A daemon and the records for it.
struct Row {
    device: Device,
    backlog: u64,
    next: u64,
}

impl BacklogScene<'_> {
    pub(crate) fn measure(&self) -> Curves {
        let label = |backlog: &u64| (*backlog as f64, format_count(*backlog));
        let mut curves = Curves::new(self.backlogs.iter().map(label).collect());
        let server = Server::start(self.holds_keys);
        let mut rows = self.fill_queues(&server, &mut curves);
        thread::park_timeout(IDLE_TIME);
        for (at, row) in rows.iter().enumerate() {
            add_memory(&mut curves, at, ["filled: peak", "filled: idle"], &row.device);
            row.device.reset_peak();
        }
        // The first round only warms up.
        for round in 0..=self.rounds {
            for at in alternate_order(round, rows.len()) {
                let mut ignored = Curves::new(curves.rows.clone());
                let target = if round == 0 { &mut ignored } else { &mut curves };
                self.turn_over(&server, &mut rows[at], at, target);
            }
        }
        thread::park_timeout(IDLE_TIME);
        for (at, row) in rows.iter().enumerate() {
            add_memory(&mut curves, at, ["rounds: peak", "rounds: idle"], &row.device);
        }
        if self.is_complete {
            restart_daemons(&mut rows, &server, &mut curves);
            drain_queues(rows, &server, &mut curves);
        }
        curves
    }

    fn submitter(&self, row: &Row) -> Submitter {
        Submitter {
            caller: row.device.caller(),
            payload_bytes: PAYLOAD_BYTES,
            keys: self.keys,
            next: row.next,
        }
    }

    fn fill_queues(&self, server: &Server, curves: &mut Curves) -> Vec<Row> {
        let mut rows = Vec::new();
        for (at, backlog) in self.backlogs.iter().enumerate() {
            let device = Device::start(self.program, self.dir, server);
            let mut row = Row { device, backlog: *backlog, next: 0 };
            let before = row.device.usage();
            let mut submitter = self.submitter(&row);
            let filled = submitter.submit(*backlog, FILL_REQUEST_RECORDS);
            row.next = submitter.next;
            let used = row.device.usage() - before;
            let records = *backlog as f64;
            curves.add(at, "fill", Unit::Microseconds, filled.time.as_secs_f64() * 1e6 / records);
            curves.add(at, "fill: CPU", Unit::Microseconds, used.cpu.as_secs_f64() * 1e6 / records);
            curves.add(at, "fill: written", Unit::Bytes, used.bytes_beyond(filled.response_bytes) / records);
            curves.add(at, "file of a record", Unit::Bytes, row.device.file_bytes() as f64 / records);
            rows.push(row);
        }
        rows
    }

    /// Takes in as many records as are missing, and sends as many.
    fn turn_over(&self, server: &Server, row: &mut Row, at: usize, curves: &mut Curves) {
        let micros = |time: Duration, records: u64| time.as_secs_f64() * 1e6 / records as f64;
        let mut submitter = self.submitter(row);
        let lone = submitter.submit(LONE_RECORDS, 1);
        curves.add(at, "append alone", Unit::Microseconds, micros(lone.time, LONE_RECORDS));

        let missing = (row.backlog + self.turnover).saturating_sub(row.device.count_waiting());
        let before = row.device.usage();
        let appended = submitter.submit(missing, BATCH_RECORDS);
        row.next = submitter.next;
        let used = row.device.usage() - before;
        curves.add(at, "append 100", Unit::Microseconds, micros(appended.time, missing));
        curves.add(at, "append: CPU", Unit::Microseconds, micros(used.cpu, missing));
        let written = used.bytes_beyond(appended.response_bytes) / missing as f64;
        curves.add(at, "append: written", Unit::Bytes, written);

        let Calls { status, list, newest } = measure_calls(&row.device);
        curves.add(at, "status", Unit::Microseconds, status);
        curves.add(at, "first page", Unit::Microseconds, list);
        curves.add(at, "newest page", Unit::Microseconds, newest);

        let before = row.device.usage();
        row.device.send_records(server, self.turnover, SEND_TIME_MIN);
        let used = row.device.usage() - before;
        let sent = server.arrivals();
        curves.add(at, "send", Unit::Microseconds, sent.seconds_per_record() * 1e6);
        curves.add(at, "send: CPU", Unit::Microseconds, micros(used.cpu, sent.records));
        curves.add(at, "send: written", Unit::Bytes, used.written_bytes as f64 / sent.records as f64);
    }
}

/// Starts them again after a clean end, after a kill while idle, and after a kill at work.
fn restart_daemons(rows: &mut [Row], server: &Server, curves: &mut Curves) {
    for (name, signal) in
        [("start, clean end", Signal::SIGTERM), ("start, killed while idle", Signal::SIGKILL)]
    {
        for round in 0..STARTS {
            // The idle commit is made before the kill.
            thread::park_timeout(IDLE_TIME);
            for at in alternate_order(round, rows.len()) {
                let ready = rows[at].device.restart(signal);
                curves.add(at, name, Unit::Milliseconds, ready.as_secs_f64() * 1e3);
            }
        }
    }
    for (at, row) in rows.iter_mut().enumerate() {
        server.start_count();
        row.device.call("POST /v1/resume");
        assert!(server.wait_for_records(BATCH_RECORDS * 3, SEND_TIME_MIN), "nothing is sent");
        let ready = row.device.restart(Signal::SIGKILL);
        row.device.call("POST /v1/pause");
        curves.add(at, "start, killed at work", Unit::Milliseconds, ready.as_secs_f64() * 1e3);
        curves.add(at, "repair: peak", Unit::Mebibytes, row.device.resident().peak_kib as f64 / 1024.0);
    }
}

/// Sends everything that waits.
fn drain_queues(rows: Vec<Row>, server: &Server, curves: &mut Curves) {
    for (at, row) in rows.into_iter().enumerate() {
        let device = row.device;
        device.reset_peak();
        let waiting = device.count_waiting();
        let before = device.usage();
        let time_limit = SEND_TIME_MIN + SEND_TIME_LIMIT * u32::try_from(waiting).unwrap_or(u32::MAX);
        device.send_records(server, waiting, time_limit);
        let used = device.usage() - before;
        let sent = server.arrivals();
        let records = sent.records as f64;
        curves.add(at, "drain", Unit::Microseconds, sent.seconds_per_record() * 1e6);
        curves.add(at, "drain: CPU", Unit::Microseconds, used.cpu.as_secs_f64() * 1e6 / records);
        curves.add(at, "drain: written", Unit::Bytes, used.written_bytes as f64 / records);
        curves.add(at, "file of a receipt", Unit::Bytes, device.file_bytes() as f64 / records);
        thread::park_timeout(IDLE_TIME);
        add_memory(curves, at, ["drained: peak", "drained: idle"], &device);
    }
}

pub(crate) fn add_memory(curves: &mut Curves, at: usize, [peak, idle]: [&'static str; 2], device: &Device) {
    let resident = device.resident();
    curves.add(at, peak, Unit::Mebibytes, resident.peak_kib as f64 / 1024.0);
    curves.add(at, idle, Unit::Mebibytes, resident.now_kib as f64 / 1024.0);
}

/// Forwards, then backwards: noise that grows or falls does not favour one end.
pub(crate) fn alternate_order(round: usize, rows: usize) -> Vec<usize> {
    let forwards = 0..rows;
    if round.is_multiple_of(2) { forwards.collect() } else { forwards.rev().collect() }
}

/// In groups of three digits.
pub(crate) fn format_count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
