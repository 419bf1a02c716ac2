//! The client that knows what no real client can know: how long the server takes, which records are faulty, and when
//! an outage or the link ends. The other clients are compared with it.

use std::time::Duration;

use fieldsync::model::BatchId;
use fieldsync::policy::outcome_reply::OutcomeReply;
use fieldsync::policy::verdict::Verdict;

use crate::server_spec::LookUps;
use crate::world::World;

const BATCH_RECORDS_MAX: usize = 1000;
const BATCH_BYTES_MAX: u64 = 4 << 20;
/// The share of the time limit that a batch may take, and the share of batches that may be late.
const TIME_LIMIT_SHARE: f64 = 0.75;
const LATE_SHARE_MAX: f64 = 0.01;
/// The margin before the link goes down, in standard deviations.
const LINK_END_DEVIATIONS: f64 = 2.33;
const QUERY_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn run(world: &mut World) {
    while !world.is_done() && !world.is_past_horizon() {
        quarantine_faulty(world);
        if world.waiting().is_empty() {
            let Some(arrival) = world.next_arrival() else { return };
            world.wait_until(arrival);
            continue;
        }
        if let Some(until) = world.spec().outage(world.now).map(|outage| outage.until) {
            world.wait_until(until);
            continue;
        }
        let up = world.link_up();
        if world.now < up.from {
            world.wait_until(up.from);
            continue;
        }
        let count = choose_size(world);
        if count == 0 {
            world.wait_until(up.until);
            continue;
        }
        let members = world.take_waiting(count);
        let id = world.new_batch_id();
        if !send_until_settled(world, id, &members) {
            world.put_back(&members);
        }
    }
}

fn quarantine_faulty(world: &mut World) {
    let faulty = |member: &usize| world.records[*member].fault.is_some();
    let faulty: Vec<usize> = world.waiting().iter().copied().filter(faulty).collect();
    for member in faulty {
        world.quarantine(member);
    }
}

/// The safe size with the least overhead per record; 0 if the link goes down too soon.
fn choose_size(world: &mut World) -> usize {
    let (now, up, rtt) = (world.now, world.link_up(), world.rtt());
    let spec = world.spec();
    let limit = spec.limit.as_secs_f64();
    let left = up.until.saturating_sub(now).as_secs_f64();
    let members: Vec<usize> = world.waiting().iter().copied().take(BATCH_RECORDS_MAX).collect();
    // The server continues without the link: the outcome query replaces a lost response.
    let response_time = |mean: f64| {
        if spec.look_ups == LookUps::Answered { 0.0 } else { mean * (LINK_END_DEVIATIONS * spec.sigma).exp() }
    };
    let mut best = (0, f64::INFINITY);
    for count in 1..=members.len() {
        let mean = spec.mean(now, members[..count].iter().map(|member| &world.records[*member]));
        let bytes = world.bytes(&members[..count]);
        let upload = up.upload(bytes).as_secs_f64();
        let safe = mean <= TIME_LIMIT_SHARE * limit
            && spec.late(mean, limit) <= LATE_SHARE_MAX
            && bytes <= BATCH_BYTES_MAX;
        let lasts = upload + response_time(mean) + 2.0 * rtt.as_secs_f64() < left;
        let overhead = (spec.overhead(now, count) + 2.0 * rtt.as_secs_f64()) / count as f64;
        // A record that is not safe in any size is sent alone.
        if (safe || count == 1) && lasts && overhead < best.1 {
            best = (count, overhead);
        }
    }
    best.0
}

/// Sends the batch until its outcome is known. Returns whether the server has it.
fn send_until_settled(world: &mut World, id: BatchId, members: &[usize]) -> bool {
    loop {
        match world.post(id, members, None).verdict {
            Verdict::Completed(results) => {
                world.settle_by(&results);
                return true;
            }
            Verdict::Ambiguous(_) => match query_until_known(world, id) {
                Some(has_it) => return has_it,
                None => world.wait(QUERY_INTERVAL),
            },
            Verdict::StillProcessing { .. } => world.wait(QUERY_INTERVAL),
            Verdict::Throttled { retry_after: Some(wait), .. } => world.wait(wait),
            _ => return false,
        }
        if world.is_past_horizon() {
            return true;
        }
    }
}

/// Queries the outcome until it is known. Returns whether the server has the batch; none without outcome queries.
fn query_until_known(world: &mut World, id: BatchId) -> Option<bool> {
    while !world.is_past_horizon() {
        match world.query_outcome(id).0 {
            OutcomeReply::Completed(results) => {
                world.settle_by(&results);
                return Some(true);
            }
            OutcomeReply::UnknownBatch => return Some(false),
            OutcomeReply::Unsupported => return None,
            OutcomeReply::Processing { .. } => world.wait(QUERY_INTERVAL),
            OutcomeReply::Failed | OutcomeReply::Throttled | OutcomeReply::Unreachable => {
                let up = world.link_up();
                world.wait_until(up.from.max(world.now + QUERY_INTERVAL));
            }
        }
    }
    Some(true)
}
