//! Any schedule of operations, crashes among them, against the model.

use proptest::prelude::*;

use super::steps::steps;
use super::world::World;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn no_schedule_of_operations_loses_doubles_or_strands_a_record(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.apply(step);
            world.check();
        }
        world.model.check_pages(&world.bench);
        world.drain();
        world.check();
    }
}
