//! The decisions about the link.

use super::*;

const INTERVALS: ProbeIntervals = ProbeIntervals {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(15),
    reopen_jitter: Duration::from_millis(500),
};

fn open(addresses: &[&str]) -> Uplink {
    Uplink::Up(addresses.iter().map(|address| address.parse().unwrap()).collect())
}

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(7)
}

#[test]
fn without_a_route_nothing_is_tried_until_there_is_one() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    assert_eq!(reach.update_uplink(Uplink::Down, &INTERVALS, &mut rng), LinkAction::Idle);
    assert_eq!(reach.state(), LinkState::Offline);
    assert_eq!(reach.on_records_waiting(&INTERVALS, &mut rng), LinkAction::Idle);
    assert_eq!(reach.record_evidence(Evidence::Unreachable, true, &INTERVALS, &mut rng), LinkAction::Idle);
    assert_eq!(reach.on_link_changed(&INTERVALS, &mut rng), LinkAction::KeepPlan);
    let LinkAction::Reopen(wait) = reach.update_uplink(open(&["10.0.0.2"]), &INTERVALS, &mut rng) else {
        panic!()
    };
    assert!(wait <= INTERVALS.reopen_jitter);
    assert_eq!((reach.state(), reach.reopenings()), (LinkState::Offline, 0), "not before the moment is over");
    reach.reopen();
    assert_eq!((reach.state(), reach.reopenings()), (LinkState::Unknown, 1));
}

#[test]
fn an_unreachable_server_behind_a_good_link_is_probed_at_growing_intervals_until_the_link_changes() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.update_uplink(open(&["10.0.0.2"]), &INTERVALS, &mut rng);
    assert_eq!(reach.state(), LinkState::Unknown);
    for probe in 1..20 {
        let next = reach.record_evidence(Evidence::Unreachable, true, &INTERVALS, &mut rng);
        assert_eq!(
            reach.record_evidence(Evidence::Unreachable, true, &INTERVALS, &mut rng),
            LinkAction::KeepPlan
        );
        match next {
            LinkAction::Probe(wait) if probe % PROBES_PER_BATCH != 0 => {
                assert!(probe < 5 || wait >= INTERVALS.longest / 10);
                reach.finish_probe();
            }
            LinkAction::Reopen(_) if probe % PROBES_PER_BATCH == 0 => reach.reopen(),
            other => panic!("{other:?}"),
        }
    }
    let returns = reach.reopenings();
    assert!(
        matches!(reach.on_link_changed(&INTERVALS, &mut rng), LinkAction::Reopen(wait) if wait <= INTERVALS.reopen_jitter)
    );
    reach.reopen();
    assert_eq!(
        reach.record_evidence(Evidence::Unreachable, false, &INTERVALS, &mut rng),
        LinkAction::Idle,
        "no record waits"
    );
    assert!(matches!(reach.on_records_waiting(&INTERVALS, &mut rng), LinkAction::Probe(_)));
    assert_eq!(
        reach.record_evidence(Evidence::ServerResponded, true, &INTERVALS, &mut rng),
        LinkAction::Idle
    );
    assert_eq!((reach.state(), reach.reopenings()), (LinkState::Online, returns + 2));
}

#[test]
fn a_flapping_link_that_never_reaches_the_server_is_tried_at_growing_intervals() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    let mut waits = Vec::new();
    for _ in 0..12 {
        reach.update_uplink(Uplink::Down, &INTERVALS, &mut rng);
        let LinkAction::Reopen(wait) = reach.update_uplink(open(&["10.0.0.2"]), &INTERVALS, &mut rng) else {
            panic!()
        };
        waits.push(wait);
        reach.reopen();
    }
    assert!(waits[0] <= INTERVALS.reopen_jitter && waits[11] >= INTERVALS.longest / 10, "{waits:?}");
    reach.record_evidence(Evidence::ServerResponded, true, &INTERVALS, &mut rng);
    reach.update_uplink(Uplink::Down, &INTERVALS, &mut rng);
    assert!(
        matches!(reach.update_uplink(open(&["10.0.0.2"]), &INTERVALS, &mut rng), LinkAction::Reopen(wait) if wait <= INTERVALS.reopen_jitter)
    );
}

#[test]
fn when_routes_are_no_longer_watched_no_route_is_waited_for() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.update_uplink(Uplink::Down, &INTERVALS, &mut rng);
    assert!(matches!(reach.update_uplink(Uplink::Unknown, &INTERVALS, &mut rng), LinkAction::Reopen(_)));
    reach.reopen();
    assert!(matches!(
        reach.record_evidence(Evidence::Unreachable, true, &INTERVALS, &mut rng),
        LinkAction::Probe(_)
    ));
}

#[test]
fn a_link_that_goes_down_within_the_delay_is_not_tried() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.update_uplink(Uplink::Down, &INTERVALS, &mut rng);
    reach.update_uplink(open(&["10.0.0.2"]), &INTERVALS, &mut rng);
    assert_eq!(reach.update_uplink(Uplink::Down, &INTERVALS, &mut rng), LinkAction::Idle);
    assert_eq!((reach.state(), reach.reopenings()), (LinkState::Offline, 0));
}

#[test]
fn connections_end_with_their_address_and_with_a_lasting_loss_of_the_route() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.update_uplink(open(&["10.0.0.2"]), &INTERVALS, &mut rng);
    reach.update_uplink(open(&["10.0.0.2", "10.1.0.2"]), &INTERVALS, &mut rng);
    assert_eq!((reach.address_changes(), reach.path_changes()), (0, 0), "one more does no harm");
    reach.update_uplink(open(&["10.1.0.2"]), &INTERVALS, &mut rng);
    assert_eq!((reach.address_changes(), reach.path_changes()), (1, 0));
    reach.invalidate_connections();
    assert_eq!(reach.path_changes(), 0, "it came back before");
    reach.update_uplink(Uplink::Down, &INTERVALS, &mut rng);
    reach.invalidate_connections();
    assert_eq!(reach.path_changes(), 1);
    reach.on_wake_up(&INTERVALS, &mut rng);
    assert_eq!(reach.path_changes(), 2);
}

#[test]
fn a_planned_reopening_is_not_postponed_by_further_changes() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.update_uplink(open(&["10.0.0.2"]), &INTERVALS, &mut rng);
    reach.record_evidence(Evidence::Unreachable, true, &INTERVALS, &mut rng);
    assert!(
        matches!(reach.on_link_changed(&INTERVALS, &mut rng), LinkAction::Reopen(_)),
        "it replaces a probe"
    );
    assert_eq!(reach.on_link_changed(&INTERVALS, &mut rng), LinkAction::KeepPlan);
    assert_eq!(reach.update_uplink(open(&["10.0.0.3"]), &INTERVALS, &mut rng), LinkAction::KeepPlan);
    reach.reopen();
    assert_eq!(reach.state(), LinkState::Unknown);
}

#[test]
fn a_response_counts_more_than_a_missing_route() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.update_uplink(Uplink::Down, &INTERVALS, &mut rng);
    reach.record_evidence(Evidence::ServerResponded, true, &INTERVALS, &mut rng);
    assert_eq!(reach.state(), LinkState::Online);
    assert_eq!(reach.update_uplink(Uplink::Down, &INTERVALS, &mut rng), LinkAction::KeepPlan);
    assert_eq!(reach.state(), LinkState::Online);
    let next = reach.record_evidence(Evidence::Unreachable, true, &INTERVALS, &mut rng);
    assert!(matches!(next, LinkAction::Probe(_)), "reports that were wrong are ignored: {next:?}");
    reach.update_uplink(open(&["10.0.0.2"]), &INTERVALS, &mut rng);
    assert_eq!(
        reach.update_uplink(Uplink::Down, &INTERVALS, &mut rng),
        LinkAction::Idle,
        "until it is right again"
    );
}

#[test]
fn a_person_does_not_wait_and_a_device_that_slept_tries_at_once() {
    let (mut reach, mut rng) = (Reach::default(), rng());
    reach.update_uplink(Uplink::Down, &INTERVALS, &mut rng);
    assert_eq!(reach.try_now(), LinkAction::Probe(Duration::ZERO));
    reach.finish_probe();
    reach.update_uplink(open(&["10.0.0.2"]), &INTERVALS, &mut rng);
    reach.record_evidence(Evidence::ServerResponded, true, &INTERVALS, &mut rng);
    let returns = reach.reopenings();
    assert_eq!(reach.on_wake_up(&INTERVALS, &mut rng), LinkAction::KeepPlan);
    assert_eq!(reach.reopenings(), returns + 1, "what waits may continue");
}
