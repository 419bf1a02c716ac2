//! An axis with labels at chosen positions.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::text_width::text_width_px;

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

    /// The space that the last label of a horizontal axis needs on the right of the axis, if the axis has this length.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of the width of the plot"
    )]
    pub(super) fn space_for_last_label_px(&self, axis_px: u32) -> u32 {
        let Some((at, label)) = self.ticks.last() else { return 0 };
        let behind_label = f64::from(axis_px) * (self.to - at) / (self.to - self.from);
        (f64::from(text_width_px(label)) / 2.0 - behind_label).max(0.0).ceil() as u32
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
