//! An axis with labels at chosen positions.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

const LABEL_CHAR_PX: u32 = 8;
/// Between the labels and the axis.
const LABEL_GAP_PX: u32 = 12;

pub(super) struct Axis {
    pub(super) title: String,
    pub(super) from: f64,
    pub(super) to: f64,
    /// Positions and their labels.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// The space that the labels of a vertical axis need.
    pub(super) fn label_width_px(&self) -> u32 {
        let longest = self.ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or_default();
        u32::try_from(longest).unwrap_or(u32::MAX).saturating_mul(LABEL_CHAR_PX).saturating_add(LABEL_GAP_PX)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    #[expect(clippy::cast_possible_truncation, reason = "a position within the plot")]
    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let part = (value - self.from) / (self.to - self.from);
        (f64::from(first) + part * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let nearest =
            self.ticks.iter().min_by(|(a, _), (b, _)| (a - value).abs().total_cmp(&(b - value).abs()));
        nearest.map(|(_, label)| label.clone()).unwrap_or_default()
    }
}
