//! The random distributions of the scenes. They are seeded, so that each result can be reproduced.

use std::f64::consts::{SQRT_2, TAU};
use std::ops::Range;

use fastrand::Rng;

/// A standard normal value, by one half of the Box-Muller transform.
pub(crate) fn gaussian(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (TAU * rng.f64()).cos()
}

pub(crate) fn uniform(low: f64, high: f64, rng: &mut Rng) -> f64 {
    low + (high - low) * rng.f64()
}

pub(crate) fn log_uniform(low: f64, high: f64, rng: &mut Rng) -> f64 {
    uniform(low.ln(), high.ln(), rng).exp()
}

/// Times between independent events.
pub(crate) fn exponential(mean: f64, rng: &mut Rng) -> f64 {
    -mean * (1.0 - rng.f64()).ln()
}

/// The probability that a standard normal exceeds `z`: Abramowitz and Stegun 7.1.26, within 1e-7.
pub(crate) fn exceeds(z: f64) -> f64 {
    let x = z.abs() / SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = t
        * (0.254_829_592
            + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let upper = 0.5 * series * (-x * x).exp();
    if z < 0.0 { 1.0 - upper } else { upper }
}

/// `count` different positions in the range.
pub(crate) fn places(count: usize, within: Range<usize>, rng: &mut Rng) -> Vec<usize> {
    rng.choose_multiple(within, count)
}
