//! How much of the duration of a batch counts for the model of what records cost.
//!
//! One stall of seconds (a network that retransmits, a server that pauses) would decide the least squares of a whole
//! week. So what exceeds a multiple of the expected duration is cut off before it is added to the sums: the idea of
//! P. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35 (1964) 73–101.

use std::collections::BTreeMap;

/// A batch that takes more than this many times what was expected says nothing about its records beyond that.
const STALL_FACTOR: f64 = 3.0;

/// What records usually cost.
#[derive(Clone, Debug, Default)]
pub(super) struct UsualCosts {
    pub(super) overhead_ms: f64,
    /// By the name of the type.
    pub(super) each_ms: BTreeMap<String, f64>,
}

impl UsualCosts {
    /// How long a batch of these types usually takes; none if one of them is new.
    fn expected_ms(&self, types: &[(String, u64)]) -> Option<f64> {
        let mut expected_ms = self.overhead_ms;
        for (name, count) in types {
            expected_ms += super::numbers::to_float(*count) * self.each_ms.get(name)?;
        }
        Some(expected_ms)
    }
}

/// Whether a batch may have stalled: it took far longer than the sender had expected.
pub(super) fn may_have_stalled(elapsed_ms: u64, expected_ms: Option<u64>) -> bool {
    let expected_ms = expected_ms.map(super::numbers::to_float);
    expected_ms.is_some_and(|expected_ms| super::numbers::to_float(elapsed_ms) > STALL_FACTOR * expected_ms)
}

/// What the model uses of the duration of a batch that may have stalled. All of it, unless the costs that are known
/// do not explain it either: the sender knows no types, and a slow one may be in the batch.
pub(super) fn modelled_ms(
    elapsed_ms: u64,
    expected_ms: u64,
    types: &[(String, u64)],
    known: &[Option<UsualCosts>],
) -> u64 {
    let usual = known.iter().flatten().filter_map(|costs| costs.expected_ms(types));
    let Some(usual_ms) = usual.reduce(f64::max) else { return elapsed_ms };
    let limit = STALL_FACTOR * usual_ms.max(super::numbers::to_float(expected_ms)).max(1.0);
    elapsed_ms.min(super::numbers::to_whole(limit))
}
