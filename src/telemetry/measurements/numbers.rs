//! Small numeric helpers of the measurements.

/// As a float.
#[expect(clippy::cast_precision_loss, reason = "statistics need no more than 52 bits")]
pub(super) fn to_float(number: u64) -> f64 {
    number as f64
}

/// A sum divided by how many it consists of.
pub(super) fn mean_of(sum: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum / to_float(count))
}

/// Microseconds as milliseconds.
pub(super) fn to_millis(micros: u64) -> f64 {
    to_float(micros) / 1000.0
}

/// A sum that stays at its largest value.
pub(super) fn add_to(sum: &mut u64, number: u64) {
    *sum = sum.saturating_add(number);
}

/// As a whole number; 0 if it is negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the conversion saturates")]
pub(super) fn to_whole(number: f64) -> u64 {
    number as u64
}
