//! The customer's rules exactly as they were written.
//!
//! - Batches have 25, 30 or 50 records. They have fewer if, by the average time per record, less than a quarter of the
//!   time limit would be left.
//! - A failed batch is split into halves, then into micro-batches of ten.
//! - After three failed sends, a record is quarantined. After three consecutive failures, micro-batches are sent.
//!
//! Where the rules are incomplete, the more favourable reading counts: the average covers the last batches, and a lost
//! link does not count as a failure.

use std::collections::VecDeque;
use std::time::Duration;

use fieldsync::policy::verdict::{Ambiguity, Verdict};

use crate::world::{ONLY_DEVICE, World};

const MICRO_BATCH_RECORDS: usize = 10;
const QUARANTINE_FAILURES: u32 = 3;
const MICRO_BATCH_FAILURES: u32 = 3;
const OFFLINE_WAIT: Duration = Duration::from_secs(15);
const TIME_LIMIT_SHARE: f64 = 0.75;
/// Number of batches in the average.
const AVERAGE_BATCHES: usize = 20;
const BACKOFF_MAX: Duration = Duration::from_mins(15);

struct Part {
    members: Vec<usize>,
    /// Whether it is already a half or smaller.
    halved: bool,
}

struct Client {
    parts: VecDeque<Part>,
    failed_sends: Vec<u32>,
    /// Consecutive failures.
    failures: u32,
    /// Records and seconds of the last batches that succeeded.
    measured: VecDeque<(f64, f64)>,
}

pub(crate) fn run(world: &mut World) {
    let failed_sends = vec![0; world.records.len()];
    let mut client = Client { parts: VecDeque::new(), failed_sends, failures: 0, measured: VecDeque::new() };
    while !world.is_done() && !world.is_past_horizon() {
        if let Some(part) = client.next_part(world) {
            client.send(world, part);
        } else if let Some(arrival) = world.next_arrival(ONLY_DEVICE) {
            world.wait_until(arrival);
        } else {
            return;
        }
    }
}

impl Client {
    fn next_part(&mut self, world: &mut World) -> Option<Part> {
        let micro = self.failures >= MICRO_BATCH_FAILURES;
        if let Some(part) = self.parts.pop_front() {
            if micro && part.members.len() > MICRO_BATCH_RECORDS {
                self.cut(&part.members, MICRO_BATCH_RECORDS);
                return self.parts.pop_front();
            }
            return Some(part);
        }
        let (records, bytes) = world.devices[ONLY_DEVICE].open_totals();
        let size = match (records, bytes) {
            _ if micro => MICRO_BATCH_RECORDS,
            (101.., _) => 25,
            (_, 1_048_577..) => 30,
            _ => 50,
        };
        let size = size.min(self.records_in_time(world));
        let members = world.devices[ONLY_DEVICE].take_waiting(size);
        (!members.is_empty()).then_some(Part { members, halved: micro })
    }

    /// The number of records that the average time per record allows.
    fn records_in_time(&self, world: &World) -> usize {
        let (records, seconds) =
            self.measured.iter().fold((0.0, 0.0), |sum, batch| (sum.0 + batch.0, sum.1 + batch.1));
        if records == 0.0 {
            return usize::MAX;
        }
        let budget = TIME_LIMIT_SHARE * world.configured_limit().as_secs_f64();
        ((budget * records / seconds) as usize).max(1)
    }

    fn send(&mut self, world: &mut World, part: Part) {
        let id = world.new_batch_id();
        let exchange = world.post(ONLY_DEVICE, id, &part.members, None);
        match exchange.verdict {
            Verdict::Completed(results) => {
                self.failures = 0;
                self.measured.push_back((part.members.len() as f64, exchange.elapsed.as_secs_f64()));
                if self.measured.len() > AVERAGE_BATCHES {
                    self.measured.pop_front();
                }
                world.settle_by(&results);
            }
            Verdict::Unreachable | Verdict::Ambiguous(Ambiguity::ConnectionLost) => {
                self.parts.push_front(part);
                world.wait(OFFLINE_WAIT);
            }
            Verdict::Throttled { retry_after: Some(wait), .. } => {
                self.parts.push_front(part);
                world.wait(wait);
            }
            _ => {
                self.handle_failure(world, part);
                let doublings = (self.failures - 1).min(20);
                world.wait(Duration::from_secs(1 << doublings).min(BACKOFF_MAX));
            }
        }
    }

    fn handle_failure(&mut self, world: &mut World, Part { mut members, halved }: Part) {
        self.failures += 1;
        members.retain(|member| {
            self.failed_sends[*member] += 1;
            let is_faulty = self.failed_sends[*member] >= QUARANTINE_FAILURES;
            if is_faulty {
                world.quarantine(*member);
            }
            !is_faulty
        });
        let size = if halved { MICRO_BATCH_RECORDS } else { members.len().div_ceil(2).max(1) };
        self.cut(&members, size);
    }

    fn cut(&mut self, members: &[usize], size: usize) {
        for part in members.rchunks(size) {
            self.parts.push_front(Part { members: part.to_vec(), halved: true });
        }
    }
}
