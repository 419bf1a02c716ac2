//! What a record costs by its size. Each row has about the same bytes in all, in fewer records the larger they are.

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::backlog::{IDLE_TIME, add_memory, alternate_order};
use crate::curves::{Curves, Unit};
use crate::device::{BATCH_RECORDS, Device};
use crate::record::{Keys, Submitter};
use crate::report::{Calls, measure_calls};
use crate::server::Server;

const KIB: u64 = 1024;
/// The largest is the limit of the API.
pub(crate) const SIZES: [u64; 5] = [100, KIB, 10 * KIB, 100 * KIB, KIB * KIB];
/// Payload bytes of a row in a round.
const ROUND_BYTES: u64 = 32 << 20;
const ROUND_RECORDS_MAX: u64 = 10_000;
const LONE_RECORDS: u64 = 10;
const SEND_TIME_LIMIT: Duration = Duration::from_mins(5);

pub(crate) fn measure_record_sizes(program: &Path, dir: &Path, rounds: usize) -> Curves {
    let rows = SIZES.iter().map(|size| (*size as f64, format_size(*size)));
    let mut curves = Curves::new(rows.collect());
    let server = Server::start(true);
    let devices: Vec<Device> = SIZES.iter().map(|_| Device::start(program, dir, &server)).collect();
    // The first round only warms up.
    for round in 0..=rounds {
        for at in alternate_order(round, SIZES.len()) {
            let mut ignored = Curves::new(curves.rows.clone());
            let target = if round == 0 { &mut ignored } else { &mut curves };
            fill_and_send(&server, &devices[at], SIZES[at], at, target);
        }
    }
    thread::park_timeout(IDLE_TIME);
    for (at, device) in devices.iter().enumerate() {
        add_memory(&mut curves, at, ["peak", "idle"], device);
    }
    curves
}

fn fill_and_send(server: &Server, device: &Device, size: u64, at: usize, curves: &mut Curves) {
    let records = (ROUND_BYTES / size).min(ROUND_RECORDS_MAX);
    let per_record = |value: f64| value / records as f64;
    let payload_bytes = usize::try_from(size).expect("a size fits");
    let mut submitter = Submitter { caller: device.caller(), payload_bytes, keys: Keys::None, next: 0 };
    let lone = submitter.submit(LONE_RECORDS, 1);
    let lone = lone.time.as_secs_f64() * 1e6 / LONE_RECORDS as f64;
    curves.add(at, "append alone", Unit::Microseconds, lone);

    let before = device.usage();
    let appended = submitter.submit(records, BATCH_RECORDS);
    let used = device.usage() - before;
    let (time, written) = (appended.time, used.bytes_beyond(appended.response_bytes));
    curves.add(at, "append", Unit::Microseconds, per_record(time.as_secs_f64() * 1e6));
    curves.add(at, "append: CPU", Unit::Microseconds, per_record(used.cpu.as_secs_f64() * 1e6));
    curves.add(at, "append: written", Unit::Bytes, per_record(written));
    curves.add(at, "written / payload", Unit::Times, per_record(written) / size as f64);

    let Calls { status, list, .. } = measure_calls(device);
    curves.add(at, "status", Unit::Microseconds, status);
    curves.add(at, "first page", Unit::Microseconds, list);

    let before = device.usage();
    device.send_records(server, records + LONE_RECORDS, SEND_TIME_LIMIT);
    let used = device.usage() - before;
    let send = server.arrivals().seconds_per_record() * 1e6;
    curves.add(at, "send", Unit::Microseconds, send);
    curves.add(at, "send: CPU", Unit::Microseconds, per_record(used.cpu.as_secs_f64() * 1e6));
    curves.add(at, "send: written", Unit::Bytes, per_record(used.written_bytes as f64));
    let kib = size as f64 / KIB as f64;
    curves.add(at, "append of 1 KiB", Unit::Microseconds, per_record(time.as_secs_f64() * 1e6) / kib);
    curves.add(at, "send of 1 KiB", Unit::Microseconds, send / kib);
}

fn format_size(bytes: u64) -> String {
    match bytes {
        ..KIB => format!("{bytes} B"),
        KIB..0x10_0000 => format!("{} KiB", bytes / KIB),
        _ => format!("{} MiB", bytes / KIB / KIB),
    }
}
