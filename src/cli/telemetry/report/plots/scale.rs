//! Round numbers for axes, and the unit in which durations are shown.

use crate::cli::telemetry::words::group_digits;

/// A scale from zero has about so many steps.
const STEPS_WANTED: f64 = 4.0;
const MINUTE_MS: f64 = 60_000.0;

/// The unit of an axis with durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeUnit {
    Milliseconds,
    Seconds,
    Minutes,
}

impl TimeUnit {
    /// The unit in which the longest duration is a number of few digits.
    pub(crate) fn for_longest(ms: f64) -> Self {
        match ms {
            ms if ms < 2_000.0 => Self::Milliseconds,
            ms if ms < 3.0 * MINUTE_MS => Self::Seconds,
            _ => Self::Minutes,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "Milliseconds",
            Self::Seconds => "Seconds",
            Self::Minutes => "Minutes",
        }
    }

    pub(crate) fn convert(self, ms: f64) -> f64 {
        match self {
            Self::Milliseconds => ms,
            Self::Seconds => ms / 1000.0,
            Self::Minutes => ms / MINUTE_MS,
        }
    }
}

/// Positions from zero up to the first that is not below `max`, in steps of 1, 2 or 5, with their labels.
pub(crate) fn round_ticks(max: f64) -> Vec<(f64, String)> {
    let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
    let raw = max / STEPS_WANTED;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|one| one * power).find(|step| *step >= raw).unwrap_or(raw);
    let decimals = match step {
        step if step >= 1.0 => 0,
        step if step >= 0.1 => 1,
        _ => 2,
    };
    let mut ticks = Vec::new();
    let mut at = 0.0;
    loop {
        ticks.push((at, format_number(at, decimals)));
        if at >= max * 0.999 {
            return ticks;
        }
        at += step;
    }
}

/// `12,000`, `0.5`
fn format_number(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    group_digits(whole) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(max: f64) -> Vec<String> {
        round_ticks(max).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers_from_zero_to_beyond_the_highest_value() {
        assert_eq!(labels(3.9), ["0", "1", "2", "3", "4"]);
        assert_eq!(labels(2.9), ["0", "1", "2", "3"]);
        assert_eq!(labels(4_200.0), ["0", "2,000", "4,000", "6,000"]);
        assert_eq!(labels(0.9), ["0.0", "0.5", "1.0"]);
        assert_eq!(labels(0.0), labels(1.0));
        for max in [1e-3, 0.07, 1.0, 59.0, 1e9] {
            let ticks = round_ticks(max);
            assert!((2..=7).contains(&ticks.len()) && ticks.last().unwrap().0 >= max * 0.999, "{max}");
        }
    }

    #[test]
    fn the_unit_fits_the_longest_duration() {
        assert_eq!(
            [900.0, 2_500.0, 600_000.0].map(TimeUnit::for_longest),
            [TimeUnit::Milliseconds, TimeUnit::Seconds, TimeUnit::Minutes]
        );
        assert!((TimeUnit::Seconds.convert(2_500.0) - 2.5).abs() < f64::EPSILON);
    }
}
