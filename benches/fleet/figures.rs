//! Figures for people: medians, quantiles, ratios.

use std::time::Duration;

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Of values that are sorted; `part` is between 0 and 1.
pub(crate) fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let place = (sorted.len().saturating_sub(1) as f64 * part).round();
    sorted.get(place as usize).copied().unwrap_or_default()
}

/// The median of ratios within a round, with the lowest and the highest.
pub(crate) fn ratio_text(ratios: &[f64]) -> String {
    let (low, high) = ratios
        .iter()
        .fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), ratio| (low.min(*ratio), high.max(*ratio)));
    let middle = median(ratios.to_vec());
    if ratios.len() > 1 {
        format!("**{middle:.2}** ({low:.2}–{high:.2})")
    } else {
        format!("**{middle:.2}**")
    }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub(crate) fn mib(kib: u64) -> String {
    format!("{:.0}", kib as f64 / 1024.0)
}
