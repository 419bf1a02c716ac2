//! Random schedules of operations and crashes, against the model.

use proptest::prelude::*;

use super::harness::ModelHarness;
use super::steps::any_steps;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn no_schedule_of_operations_loses_duplicates_or_strands_a_record(steps in any_steps()) {
        let mut harness = ModelHarness::new();
        for step in steps {
            harness.apply_step(step);
            harness.check_all();
        }
        harness.model.check_pages(&harness.bench);
        harness.drain_all();
        harness.check_all();
    }
}
