//! The customer's present client: it sends the first fifty records, and repeats all of them every five seconds until
//! all are stored.

use std::time::Duration;

use fieldsync::policy::verdict::Verdict;

use crate::world::{ONLY_DEVICE, World};

const BATCH_RECORDS: usize = 50;
const RETRY_WAIT: Duration = Duration::from_secs(5);

pub(crate) fn run(world: &mut World) {
    while !world.is_done() && !world.is_past_horizon() {
        let members = world.devices[ONLY_DEVICE].take_waiting(BATCH_RECORDS);
        if members.is_empty() {
            let Some(arrival) = world.next_arrival(ONLY_DEVICE) else { return };
            world.wait_until(arrival);
            continue;
        }
        while !world.is_past_horizon() {
            let id = world.new_batch_id();
            let wait = match world.post(ONLY_DEVICE, id, &members, None).verdict {
                Verdict::Completed(results) if results.iter().all(|result| result.status.is_stored()) => {
                    world.settle_by(&results);
                    break;
                }
                Verdict::Throttled { retry_after, .. } => retry_after.unwrap_or(RETRY_WAIT),
                _ => RETRY_WAIT,
            };
            world.wait(wait);
        }
    }
}
