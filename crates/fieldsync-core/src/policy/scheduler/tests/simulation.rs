//! Simulations of the scheduler with every sequence of responses.

use proptest::prelude::*;

use super::behaviour::{
    Behaviour, EVERY_BEHAVIOUR, EVERY_QUERY_BEHAVIOUR, OUTAGE_BEHAVIOURS, QueryBehaviour, RECORD_FAULTS,
    SEARCHED_FAULTS,
};
use super::world::World;
use super::{HOUR, MINUTE, SECOND};

fn query_behaviour() -> impl Strategy<Value = QueryBehaviour> {
    prop::sample::select(EVERY_QUERY_BEHAVIOUR.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A firewall, a proxy or a worker denies requests with some records: the others never wait for longer than the
    /// longest back-off and the pause before an outcome query, for every response and every result of the queries.
    #[test]
    fn denied_records_do_not_delay_the_others(
        seed: u64, slots in 1usize..=4, queries in query_behaviour(), places in prop::collection::btree_set(0usize..120, 1..3),
        behaviour in prop::sample::select(vec![
                Behaviour::Locked, Behaviour::Moved, Behaviour::Portal, Behaviour::Throttled,
                Behaviour::Hurried
            ]),
    ) {
        let mut world = World::new(120, seed).with_slots(slots);
        (world.queries, world.arriving) = (queries, 200);
        world.poison = places.iter().map(|place| (*place, behaviour)).collect();
        let found = world.run();
        prop_assert_eq!(found, places.into_iter().collect::<Vec<_>>());
        let longest = world.config.retry.max_backoff.0;
        prop_assert!(world.longest_gap <= longest + longest / 3 + MINUTE, "{:?}", world.longest_gap);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_responses_loses_a_record_or_stalls_or_busy_loops(
        seed: u64, slots in 1usize..=4, records in 1usize..150, minutes in 0u32..120, queries in query_behaviour(), restarts in 0usize..4,
        behaviours in prop::sample::subsequence(EVERY_BEHAVIOUR.to_vec(), 1..=EVERY_BEHAVIOUR.len()),
    ) {
        let mut world = World::new(records, seed).with_slots(slots);
        (world.queries, world.restarts) = (queries, restarts);
        world.script = vec![(MINUTE * minutes, behaviours)];
        world.run();
    }

    #[test]
    fn an_outage_with_any_responses_and_of_any_length_quarantines_nothing(
        seed: u64, slots in 1usize..=4, records in 1usize..300, queries in query_behaviour(), before in 0u32..30, minutes in 1u32..600,
        restarts in 0usize..3,
        behaviour in prop::sample::subsequence(
            OUTAGE_BEHAVIOURS.to_vec(), 1..=11),
    ) {
        let mut world = World::new(records, seed).with_slots(slots);
        (world.queries, world.restarts) = (queries, restarts);
        let begin = SECOND * before;
        world.script = vec![(begin, vec![Behaviour::Fine]), (begin + MINUTE * minutes, behaviour)];
        prop_assert_eq!(world.run(), Vec::<usize>::new());
    }

    #[test]
    fn only_the_faulty_record_is_quarantined(
        seed: u64, slots in 1usize..=4, queries in query_behaviour(), place in 0usize..100,
        behaviour in prop::sample::select(RECORD_FAULTS.to_vec()),
    ) {
        let mut world = World::new(200, seed).with_slots(slots);
        (world.queries, world.arriving) = (queries, 50);
        world.poison.insert(place, behaviour);
        prop_assert_eq!(world.run(), vec![place]);
        // A server that keeps responding that it is still processing is asked again each time.
        let most = if behaviour == Behaviour::Busy { 3000 } else { 60 + 20 * slots };
        prop_assert!(world.requests <= most, "{} requests", world.requests);
    }

    #[test]
    fn several_faulty_records_do_not_block_the_others(
        seed: u64, slots in 1usize..=4, queries in query_behaviour(), places in prop::collection::btree_set(0usize..150, 1..12),
        behaviour in prop::sample::select(SEARCHED_FAULTS.to_vec()),
    ) {
        let mut world = World::new(250, seed).with_slots(slots);
        (world.queries, world.arriving) = (queries, 500);
        world.poison = places.iter().map(|place| (*place, behaviour)).collect();
        let found = world.run();
        prop_assert_eq!(found, places.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_retry_timer_never_stalls_after_any_behaviour_of_the_server() {
    for (behaviour, queries) in EVERY_BEHAVIOUR
        .into_iter()
        .flat_map(|behaviour| EVERY_QUERY_BEHAVIOUR.map(|queries| (behaviour, queries)))
    {
        for seed in 0..4 {
            let mut world = World::new(60, seed);
            let trouble = 2 * HOUR;
            (world.queries, world.script) = (queries, vec![(trouble, vec![behaviour])]);
            world.run();
            let longest = world.config.retry.max_backoff.0 + world.config.breaker.open_max.0;
            let late = world.now.saturating_sub(trouble);
            assert!(late <= 3 * longest, "{behaviour:?}, {queries:?}: {late:?} after the server recovered");
        }
    }
}

#[test]
fn a_restart_during_an_outage_quarantines_nothing() {
    for seed in 0..20 {
        let mut world = World::new(60, seed);
        world.script = vec![(20 * SECOND, vec![Behaviour::TimedOut, Behaviour::Lost, Behaviour::Late])];
        world.run();
        world.restart();
        assert_eq!(world.run(), Vec::<usize>::new());
    }
}

/// The server claims to process a record and then does not know it, while it fails at random.
#[test]
fn a_record_that_was_still_processed_while_others_failed_is_not_blamed() {
    let mut world = World::new(51, 12_623_766_441_662_504_279);
    (world.queries, world.restarts) = (QueryBehaviour::Good, 3);
    let behaviours = vec![Behaviour::Fine, Behaviour::TooLarge, Behaviour::Busy, Behaviour::Locked];
    world.script = vec![(25 * MINUTE, behaviours)];
    world.run();
}

/// While a canary was under way, another suspect was sent, so that no failure of either counted.
#[test]
fn several_records_that_fail_alone_are_tested_one_between_two_canaries() {
    let places = [22, 24, 29, 36, 77, 86, 97, 99];
    let mut world = World::new(250, 758_992_844_791_649_945).with_slots(2);
    world.arriving = 500;
    world.poison = places.into_iter().map(|place| (place, Behaviour::Refused)).collect();
    assert_eq!(world.run(), places);
    assert!(world.requests < 1000, "{} requests", world.requests);
}
