//! How far durations stray from what was expected of them: the noise, the quantile that keeps late
//! answers rare, and what is no noise any more.
//!
//! All in logarithms: a server that is twice as slow is as far off for a small batch as for a large one.

use serde::{Deserialize, Serialize};

/// Noise before anything was measured, as if that many batches had shown it; the least that is ever believed.
const FIRST_NOISE: f64 = 0.2;
const FIRST_WEIGHT: f64 = 6.0;
const LEAST_NOISE: f64 = 0.05;
/// What one more batch moves the noise by, at least.
const NOISE_STEP: f64 = 0.03;
/// A deviation beyond so many standard deviations counts as no more, and is a surprise: no noise any more.
const OUTLIER: f64 = 3.0;
/// The quantile aims at one late batch in 20, and moves by this much a batch. It starts above
/// the 1.645 of a normal distribution, because the noise itself is an estimate.
const LATE_SHARE: f64 = 0.05;
const FIRST_QUANTILE: f64 = 1.7;
const QUANTILE_STEP: f64 = 0.15;
const QUANTILE_RANGE: (f64, f64) = (1.6, 3.5);
/// From "one in 20 is later" to "one in 100 is later", as in a normal distribution.
const TO_ONE_IN_100: f64 = 2.326 / 1.645;

/// What is known of the noise.
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
        let noise = FIRST_NOISE * FIRST_NOISE;
        Self { noise, quantile: FIRST_QUANTILE, seen: 0 }
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

    /// Takes note of a duration: `deviation` is the logarithm of seen by expected, `model` the
    /// relative variance of the expectation. True when it is no noise any more.
    pub(super) fn observe(&mut self, deviation: f64, model: f64) -> bool {
        let variance = self.noise + model;
        let standard = deviation / variance.sqrt();
        let late = if standard > self.quantile { 1.0 } else { 0.0 };
        let (least, most) = QUANTILE_RANGE;
        self.quantile = (self.quantile + QUANTILE_STEP * (late - LATE_SHARE)).clamp(least, most);
        let clipped = (deviation * deviation).min(OUTLIER * OUTLIER * variance);
        self.seen = self.seen.saturating_add(1);
        // Where the expectation itself is uncertain, little of the deviation is noise.
        let share = self.noise / variance;
        let step = share * NOISE_STEP.max(1.0 / (FIRST_WEIGHT + f64::from(self.seen)));
        self.noise = (self.noise + step * (clipped - variance)).max(LEAST_NOISE * LEAST_NOISE);
        standard.abs() > OUTLIER
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
    fn noise_is_no_surprise_and_a_server_that_changed_is() {
        let (mut spread, mut draw) = (Spread::default(), normal(0.15));
        let surprises = (0..500).filter(|_| spread.observe(draw(), 0.0)).count();
        assert!(surprises < 20, "{surprises} of 500");
        assert!(spread.observe(3f64.ln(), 0.0));
        assert!(spread.observe(-(3f64.ln()), 0.0), "a quick one is, too");
    }
}
