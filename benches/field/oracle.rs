//! The client that knows what nobody can know: what the server will take, which records are at
//! fault, when an outage or a time of being up ends. The others are measured by it.

use std::time::Duration;

use fieldsync::model::BatchId;
use fieldsync::policy::outcome_reply::OutcomeReply;
use fieldsync::policy::verdict::Verdict;

use crate::server_spec::LookUps;
use crate::world::World;

const BATCH_RECORDS_MAX: usize = 1000;
const BATCH_BYTES_MAX: u64 = 4 << 20;
/// A batch may take this share of the time limit, and may be late so often.
const TIME_LIMIT_SHARE: f64 = 0.75;
const LATE_SHARE_MAX: f64 = 0.01;
/// Standard deviations that are kept to the end of a time of being up.
const LINK_END_DEVIATIONS: f64 = 2.33;
const QUERY_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn run(world: &mut World) {
    while !world.is_done() && !world.is_past_horizon() {
        set_faulty_aside(world);
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
        let count = size(world);
        if count == 0 {
            world.wait_until(up.until);
            continue;
        }
        let members = world.take_waiting(count);
        let id = world.new_batch_id();
        if !settled(world, id, &members) {
            world.put_back(&members);
        }
    }
}

fn set_faulty_aside(world: &mut World) {
    let faulty = |member: &usize| world.records[*member].fault.is_some();
    let faulty: Vec<usize> = world.waiting().iter().copied().filter(faulty).collect();
    for member in faulty {
        world.quarantine(member);
    }
}

/// The size with the least overhead for a record among those that are safe; 0: the link will not last.
fn size(world: &mut World) -> usize {
    let (now, up, rtt) = (world.now, world.link_up(), world.rtt());
    let spec = world.spec();
    let limit = spec.limit.as_secs_f64();
    let left = up.until.saturating_sub(now).as_secs_f64();
    let members: Vec<usize> = world.waiting().iter().copied().take(BATCH_RECORDS_MAX).collect();
    // The server needs no link to work: an answer that is lost can be looked up.
    let answered = |mean: f64| {
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
        let lasts = upload + answered(mean) + 2.0 * rtt.as_secs_f64() < left;
        let overhead = (spec.overhead(now, count) + 2.0 * rtt.as_secs_f64()) / count as f64;
        // A record that no size makes safe goes alone.
        if (safe || count == 1) && lasts && overhead < best.1 {
            best = (count, overhead);
        }
    }
    best.0
}

/// Sends the batch until it is known what became of it; false when the server does not have it.
fn settled(world: &mut World, id: BatchId, members: &[usize]) -> bool {
    loop {
        match world.post(id, members, None).verdict {
            Verdict::Completed(results) => {
                world.settle_by(&results);
                return true;
            }
            Verdict::Ambiguous(_) => match outcome(world, id) {
                Some(known) => return known,
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

/// Whether the server has it; none where it cannot be asked.
fn outcome(world: &mut World, id: BatchId) -> Option<bool> {
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
