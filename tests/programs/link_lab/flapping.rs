//! A link with a loose contact: it fails and returns repeatedly, at any point of a batch.

use std::collections::HashSet;

use super::{all_synced, settings, start};
use crate::support::gateway::Gateway;
use crate::support::netns::{Lab, SERVER};
use crate::support::wait::directory;

const DUPLICATES: &str = "fieldsync_gateway_records_total{result=\"duplicate\"}";
const FLAPS: usize = 30;

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_link_that_flaps_loses_and_duplicates_nothing_and_causes_no_storm() {
    let (lab, directory) = (Lab::new(), directory());
    let gateway = Gateway::start_at(directory.path(), SERVER, &["--record-cost", "1ms"]);
    let daemon = start(&lab, &settings().with("server.request_timeout", "2s"));
    let mut ids = Vec::new();
    for _ in 0..FLAPS {
        ids.extend(daemon.enqueue_many(10));
        lab.down();
        ids.extend(daemon.enqueue_many(10));
        lab.up();
    }
    let ids = all_synced(&daemon, &[&ids]);
    let applied: Vec<String> = gateway.applied_ids().iter().map(ToString::to_string).collect();
    assert_eq!(applied.len(), ids.len());
    assert_eq!(applied.iter().collect::<HashSet<_>>(), ids.iter().collect());
    assert_eq!(gateway.metric(DUPLICATES), 0, "sent in a second batch although the first was applied");
    // A new connection each time, a probe or an outcome query each time, and twice as many in total.
    let tried = Lab::connections_tried(&daemon);
    assert!(tried <= 4 * FLAPS, "{tried} connections in {FLAPS} flaps\n{}", daemon.log());
}
