//! Exponential back-off with full jitter, so that a fleet does not return in step.
//! Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

/// The share of every wait that jitter leaves, so that no wait is zero.
const DELAY_SHARE_MIN: f64 = 0.1;

/// The wait after the `failures`-th failure in a row (from 1): uniform between a tenth and the
/// whole of `first · 2^(failures − 1)`, which is at most `longest`.
pub fn backoff_delay(first: Duration, longest: Duration, failures: u32, rng: &mut fastrand::Rng) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let ceiling = first.saturating_mul(1 << doublings).min(longest);
    uniform_between(ceiling.mul_f64(DELAY_SHARE_MIN), ceiling, rng)
}

/// Uniform between two durations.
pub fn uniform_between(low: Duration, high: Duration, rng: &mut fastrand::Rng) -> Duration {
    low + high.saturating_sub(low).mul_f64(rng.f64())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_lies_between_the_floor_and_the_ceiling(
            first in 1u64..100_000, factor in 1u64..1000, failures in 0u32..100, seed: u64,
        ) {
            let (first, longest) = (Duration::from_millis(first), Duration::from_millis(first * factor));
            let wait = backoff_delay(first, longest, failures, &mut fastrand::Rng::with_seed(seed));
            prop_assert!(wait >= first.mul_f64(DELAY_SHARE_MIN) && wait <= longest);
        }
    }

    #[test]
    fn the_ceiling_doubles_until_the_longest() {
        let longest_seen = |failures| {
            let mut rng = fastrand::Rng::with_seed(1);
            (0..1000)
                .map(|_| backoff_delay(Duration::from_secs(1), Duration::from_secs(10), failures, &mut rng))
                .max()
                .unwrap()
                .as_millis()
                .div_ceil(1000)
        };
        assert_eq!([1, 2, 3, 4, 5, 50].map(longest_seen), [1, 2, 4, 8, 10, 10]);
    }
}
