//! Columns for each category: beside each other, and each of segments on top of each other.

use plotters::element::{Rectangle, Text};
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::canvas::{PlotError, Width, draw_axes, draw_svg, text_style};
use super::ink::Ink;

const HEIGHT_PX: u32 = 270;
/// The part of a category's width that its columns fill.
const FILLED: f64 = 0.72;
/// Space above the columns for their notes, as a part of the height.
const NOTE_SPACE: f64 = 0.09;

/// One category, from left to right.
pub(crate) struct Category {
    pub(crate) name: String,
    /// Columns beside each other, each from its foot.
    pub(crate) columns: Vec<Vec<(Ink, f64)>>,
    /// A text above them.
    pub(crate) note: String,
}

pub(crate) struct Columns<'a> {
    pub(crate) label: String,
    pub(crate) y_title: String,
    pub(crate) x_title: &'a str,
    pub(crate) categories: Vec<Category>,
    pub(crate) y_ticks: Vec<(f64, String)>,
}

impl Columns<'_> {
    pub(crate) fn draw(&self, width: Width) -> Result<String, PlotError> {
        let highest = self.y_ticks.last().map_or(1.0, |(at, _)| *at);
        let x = Axis {
            title: self.x_title.to_owned(),
            from: -0.5,
            to: position(self.categories.len().max(1)) - 0.5,
            ticks: self
                .categories
                .iter()
                .enumerate()
                .map(|(n, one)| (position(n), one.name.clone()))
                .collect(),
        };
        let y = Axis {
            title: self.y_title.clone(),
            from: 0.0,
            to: highest * (1.0 + NOTE_SPACE),
            ticks: self.y_ticks.clone(),
        };
        draw_svg((width.px(), HEIGHT_PX), &self.label, |area| {
            let mut chart = draw_axes(area, x, y)?;
            for (n, category) in self.categories.iter().enumerate() {
                let each = FILLED / position(category.columns.len().max(1));
                let mut top: f64 = 0.0;
                for (m, column) in category.columns.iter().enumerate() {
                    let left = position(n) - FILLED / 2.0 + each * position(m);
                    let mut foot = 0.0;
                    for (ink, height) in column.iter().filter(|(_, height)| *height > 0.0) {
                        let corners = [(left, foot), (left + each, foot + height)];
                        chart.draw_series([Rectangle::new(corners, ink.color().filled())])?;
                        foot += height;
                    }
                    top = top.max(foot);
                }
                let style = text_style(Ink::Muted, HPos::Center, VPos::Bottom);
                let at = (position(n), top + highest * 0.01);
                chart.draw_series([Text::new(category.note.clone(), at, style)])?;
            }
            Ok(())
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are few categories")]
fn position(index: usize) -> f64 {
    index as f64
}
