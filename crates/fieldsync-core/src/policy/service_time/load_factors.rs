//! How much longer a batch takes while others are under way beside it: a factor for each number under way.
//!
//! Logarithms are learned, each with a variance. The model of a batch alone and the factor explain a duration together,
//! so each takes the share of the surprise that its own uncertainty has in it.

use serde::{Deserialize, Serialize};

/// How much a factor drifts from one batch to the next, as a standard deviation of the logarithm.
const FACTOR_DRIFT: f64 = 0.01;

/// A factor on durations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LoadFactor {
    /// Logarithm.
    pub(super) ln: f64,
    /// Variance of the logarithm.
    pub(super) variance: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct KnownFactor {
    under_way: u32,
    ln: f64,
    variance: f64,
}

/// The factors of all numbers under way that were measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct LoadFactors {
    /// By the number under way.
    known: Vec<KnownFactor>,
}

impl LoadFactors {
    /// The factor for so many under way, on average over the flight of a batch. A number beyond all that were
    /// measured is assumed half way between "more cost nothing" and "more gain nothing".
    pub(super) fn factor(&self, under_way: f64) -> LoadFactor {
        if under_way <= 1.0 {
            return LoadFactor::default();
        }
        let alone = KnownFactor { under_way: 1, ln: 0.0, variance: 0.0 };
        let is_above = |known: &&KnownFactor| f64::from(known.under_way) >= under_way;
        let above = self.known.iter().find(is_above);
        let below = self.known.iter().rev().find(|known| !is_above(known)).unwrap_or(&alone);
        let distance = (under_way / f64::from(below.under_way)).ln();
        let Some(above) = above else {
            let half = distance / 2.0;
            return LoadFactor { ln: below.ln + half, variance: below.variance + half * half };
        };
        let share = distance / (f64::from(above.under_way) / f64::from(below.under_way)).ln();
        LoadFactor {
            ln: below.ln + share * (above.ln - below.ln),
            variance: below.variance + share * (above.variance - below.variance),
        }
    }

    /// A batch took longer than expected by the logarithm `surprise`, of which the factor explains `share`.
    pub(super) fn learn(&mut self, under_way: f64, surprise: f64, share: f64) {
        let number = nearest_number(under_way);
        if number < 2 {
            return;
        }
        let LoadFactor { ln, variance } = self.factor(f64::from(number));
        let learned = KnownFactor {
            under_way: number,
            ln: ln + share * surprise,
            variance: variance * (1.0 - share) + FACTOR_DRIFT * FACTOR_DRIFT,
        };
        let at = self.known.partition_point(|known| known.under_way < number);
        if self.known.get(at).is_some_and(|known| known.under_way == number) {
            self.known.remove(at);
        }
        self.known.insert(at, learned);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small count, and not negative"
)]
fn nearest_number(under_way: f64) -> u32 {
    under_way.round().max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_unknown_number_is_half_way_between_no_cost_and_no_gain() {
        let mut factors = LoadFactors::default();
        let two = factors.factor(2.0);
        assert!((two.ln - 2f64.ln() / 2.0).abs() < 1e-9 && (two.variance.sqrt() - two.ln).abs() < 1e-9);
        factors.learn(2.0, -two.ln, 1.0);
        assert!(factors.factor(2.0).ln.abs() < 1e-9, "two cost nothing");
        assert!((factors.factor(4.0).ln - 2f64.ln() / 2.0).abs() < 1e-9);
        assert!(factors.factor(1.0).ln.abs() < 1e-9 && factors.factor(0.5).ln.abs() < 1e-9);
    }

    #[test]
    fn numbers_between_two_known_ones_are_interpolated() {
        let mut factors = LoadFactors::default();
        for _ in 0..50 {
            factors.learn(4.0, 4f64.ln() - factors.factor(4.0).ln, 0.5);
        }
        let (two, four) = (factors.factor(2.0).ln, factors.factor(4.0).ln);
        assert!((four - 4f64.ln()).abs() < 0.01 && (two - four / 2.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn no_measurement_makes_a_factor_unusable(
            measured in prop::collection::vec((1.0f64..70.0, -20.0f64..20.0, 0.0f64..=1.0), 1..100),
            under_way in 1.0f64..70.0,
        ) {
            let mut factors = LoadFactors::default();
            for (under_way, surprise, share) in measured {
                factors.learn(under_way, surprise, share);
            }
            let LoadFactor { ln, variance } = factors.factor(under_way);
            prop_assert!(ln.is_finite() && variance.is_finite() && variance >= 0.0);
        }
    }
}
