//! Charts in a line of text: a bar beside a number, and a line of columns over time.
//!
//! They are for terminals. A pipe gets numbers only, so that programs can read them.

use std::env;

use crate::cli::context::CommandContext;

/// Characters of the longest bar.
const BAR_WIDTH: usize = 10;
/// A narrower terminal has space for numbers only.
const TERMINAL_WIDTH_MIN: usize = 72;
/// A bar ends with one of these: eighths of a character.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Variables that name the character set of the terminal, in the order in which they count.
const LOCALE_VARIABLES: [&str; 3] = ["LC_ALL", "LC_CTYPE", "LANG"];

/// What the output can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChartStyle {
    None,
    Ascii,
    Blocks,
}

impl ChartStyle {
    /// For this output.
    pub(super) fn of(context: &CommandContext<'_>) -> Self {
        let locale =
            LOCALE_VARIABLES.iter().filter_map(|name| env::var(name).ok()).find(|value| !value.is_empty());
        Self::choose(context.width, locale.as_deref())
    }

    fn choose(width: Option<usize>, locale: Option<&str>) -> Self {
        if width.is_none_or(|width| width < TERMINAL_WIDTH_MIN) {
            return Self::None;
        }
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        if locale.contains("utf-8") || locale.contains("utf8") { Self::Blocks } else { Self::Ascii }
    }

    /// A bar of `part`, which is between 0 and 1. What is more than nothing is visible.
    pub(super) fn bar(self, part: f64) -> String {
        match self {
            Self::None => String::new(),
            Self::Ascii => "#".repeat(steps(part, BAR_WIDTH)),
            Self::Blocks => {
                let eighths = steps(part, BAR_WIDTH * EIGHTHS.len());
                "█".repeat(eighths / EIGHTHS.len()) + EIGHTHS[eighths % EIGHTHS.len()]
            }
        }
    }

    /// A column for each value, the highest as high as a line of text; `None` is a gap. Only with blocks.
    pub(super) fn sparkline(self, values: &[Option<f64>]) -> Option<String> {
        let highest = values.iter().flatten().copied().fold(0.0, f64::max);
        if self != Self::Blocks || highest <= 0.0 {
            return None;
        }
        let level = |value: f64| LEVELS[steps(value / highest, LEVELS.len()).max(1) - 1];
        let line: String = values.iter().map(|value| value.map_or(' ', level)).collect();
        Some(line.trim_end().to_owned())
    }
}

/// How many of `all` steps a part takes: at least one, if it is not zero.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small number of characters"
)]
fn steps(part: f64, all: usize) -> usize {
    if part > 0.0 { ((part.min(1.0) * all as f64).round() as usize).max(1) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_are_for_terminals_and_blocks_for_those_with_unicode() {
        for (width, locale, style) in [
            (None, Some("C.UTF-8"), ChartStyle::None),
            (Some(60), Some("C.UTF-8"), ChartStyle::None),
            (Some(80), Some("C.UTF-8"), ChartStyle::Blocks),
            (Some(80), Some("de_DE.utf8"), ChartStyle::Blocks),
            (Some(80), Some("C"), ChartStyle::Ascii),
            (Some(80), None, ChartStyle::Ascii),
        ] {
            assert_eq!(ChartStyle::choose(width, locale), style, "{width:?} {locale:?}");
        }
    }

    #[test]
    fn a_bar_is_as_long_as_its_part_and_the_least_part_is_visible() {
        let bars = |style: ChartStyle| [0.0, 0.001, 0.5, 0.56, 1.0, 7.0].map(|part| style.bar(part));
        assert_eq!(bars(ChartStyle::Ascii), ["", "#", "#####", "######", "##########", "##########"]);
        assert_eq!(bars(ChartStyle::Blocks), ["", "▏", "█████", "█████▋", "██████████", "██████████"]);
        assert_eq!(bars(ChartStyle::None), [""; 6]);
    }

    #[test]
    fn a_sparkline_has_a_column_for_each_value_and_gaps_without_data() {
        let values = [Some(0.0), Some(1.0), None, Some(50.0), Some(100.0)];
        assert_eq!(ChartStyle::Blocks.sparkline(&values).unwrap(), "▁▁ ▄█");
        assert_eq!(ChartStyle::Blocks.sparkline(&[None, Some(0.0)]), None);
        assert_eq!(ChartStyle::Ascii.sparkline(&values), None);
    }
}
