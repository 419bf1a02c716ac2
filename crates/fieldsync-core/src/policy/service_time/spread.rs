//! How far durations deviate from the forecast: the noise, the quantile that keeps late responses rare, and the
//! threshold beyond which a deviation is not noise.
//!
//! All values are logarithms: if the server is twice as slow, small and large batches deviate by the same amount.

use serde::{Deserialize, Serialize};

/// The noise assumed before anything was measured, its weight in batches, and the smallest noise that is assumed.
const INITIAL_NOISE: f64 = 0.2;
const INITIAL_NOISE_BATCHES: f64 = 6.0;
const NOISE_MIN: f64 = 0.05;
/// The smallest weight of a new batch in the estimate of the noise.
const NOISE_STEP: f64 = 0.03;
/// Larger deviations, in standard deviations, are clipped to this, and reported as more than noise.
const OUTLIER_DEVIATIONS: f64 = 3.0;
/// The quantile aims at one late batch in 20, and each batch moves it by this step. It starts above the 1.645 of a
/// normal distribution, because the noise itself is an estimate.
const LATE_SHARE: f64 = 0.05;
const INITIAL_QUANTILE: f64 = 1.7;
const QUANTILE_STEP: f64 = 0.15;
const QUANTILE_RANGE: (f64, f64) = (1.6, 3.5);
/// From "one in 20 is later" to "one in 100 is later", as in a normal distribution.
const TO_ONE_IN_100: f64 = 2.326 / 1.645;

/// The estimate of the noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    /// Variance of the logarithm.
    noise: f64,
    /// In standard deviations.
    quantile: f64,
    /// Durations seen.
    seen: u32,
}

impl Default for Spread {
    fn default() -> Self {
        let noise = INITIAL_NOISE * INITIAL_NOISE;
        Self { noise, quantile: INITIAL_QUANTILE, seen: 0 }
    }
}

impl Spread {
    /// Variance of the noise in the logarithm.
    pub(super) fn noise(&self) -> f64 {
        self.noise
    }

    /// The factor on the expected duration that one batch in 100 exceeds, where the expectation
    /// itself has the relative variance `model`.
    pub(super) fn factor(&self, model: f64) -> f64 {
        (self.deviations() * (self.noise + model).sqrt()).exp()
    }

    /// Standard deviations above the expectation that one batch in 100 exceeds.
    pub(super) fn deviations(&self) -> f64 {
        self.quantile * TO_ONE_IN_100
    }

    /// Takes a duration into account. `deviation`: the logarithm of measured by expected. `model`: the relative
    /// variance of the expectation. Returns whether the deviation is more than noise.
    pub(super) fn observe(&mut self, deviation: f64, model: f64) -> bool {
        let variance = self.noise + model;
        let standard = deviation / variance.sqrt();
        let late = if standard > self.quantile { 1.0 } else { 0.0 };
        let (low, high) = QUANTILE_RANGE;
        self.quantile = (self.quantile + QUANTILE_STEP * (late - LATE_SHARE)).clamp(low, high);
        let clipped = (deviation * deviation).min(OUTLIER_DEVIATIONS * OUTLIER_DEVIATIONS * variance);
        self.seen = self.seen.saturating_add(1);
        // Where the expectation itself is uncertain, little of the deviation is noise.
        let share = self.noise / variance;
        let step = share * NOISE_STEP.max(1.0 / (INITIAL_NOISE_BATCHES + f64::from(self.seen)));
        self.noise = (self.noise + step * (clipped - variance)).max(NOISE_MIN * NOISE_MIN);
        standard.abs() > OUTLIER_DEVIATIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deviations as a normal distribution of this deviation has them, in no order.
    fn normal(deviation: f64) -> impl FnMut() -> f64 {
        let mut rng = fastrand::Rng::with_seed(5);
        move || {
            let twelve: f64 = (0..12).map(|_| rng.f64()).sum();
            (twelve - 6.0) * deviation
        }
    }

    #[test]
    fn one_in_100_is_later_than_the_factor() {
        let (mut spread, mut draw) = (Spread::default(), normal(0.3));
        let (mut late, rounds) = (0, 4000);
        for round in 0..rounds {
            let deviation = draw();
            late += u32::from(round >= 1000 && deviation > spread.factor(0.0).ln());
            spread.observe(deviation, 0.0);
        }
        assert!((10..=90).contains(&late), "{late} of 3000");
        assert!((0.25..0.35).contains(&spread.noise().sqrt()), "{}", spread.noise().sqrt());
    }

    #[test]
    fn noise_is_not_an_outlier_and_a_changed_server_is() {
        let (mut spread, mut draw) = (Spread::default(), normal(0.15));
        let surprises = (0..500).filter(|_| spread.observe(draw(), 0.0)).count();
        assert!(surprises < 20, "{surprises} of 500");
        assert!(spread.observe(3f64.ln(), 0.0));
        assert!(spread.observe(-(3f64.ln()), 0.0), "a quick one is, too");
    }
}
