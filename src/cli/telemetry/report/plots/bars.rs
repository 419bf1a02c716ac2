//! Horizontal bars with a name on the left and a number behind each.

use plotters::element::Rectangle;
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{PlotError, Width, draw_svg, draw_text, text_style};
use super::ink::Ink;
use super::text_width::{cut_to_width, text_width_px};

const ROW_PX: i32 = 30;
const BAR_PX: i32 = 18;
const TOP_PX: i32 = 30;
/// Names take at most this part of the width.
const NAME_PART: i32 = 3;
const NAME_GAP_PX: i32 = 10;
const NUMBER_GAP_PX: i32 = 8;

/// A bar by its name, its length and the text behind it.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) length: f64,
    pub(crate) number: String,
}

pub(crate) struct Bars<'a> {
    pub(crate) label: &'a str,
    /// What the length is, with its unit.
    pub(crate) x_title: &'a str,
    pub(crate) rows: Vec<Bar>,
}

impl Bars<'_> {
    pub(crate) fn draw(&self, width: Width) -> Result<String, PlotError> {
        let width_px = i32::try_from(width.px()).unwrap_or(i32::MAX);
        let names: Vec<String> =
            self.rows.iter().map(|bar| cut_to_width(&bar.name, width_px / NAME_PART)).collect();
        let widest = |texts: &mut dyn Iterator<Item = &String>| {
            texts.map(|text| text_width_px(text)).max().unwrap_or_default()
        };
        let left = widest(&mut names.iter()) + NAME_GAP_PX;
        let numbers = widest(&mut self.rows.iter().map(|bar| &bar.number));
        let longest_px = width_px - left - numbers - NUMBER_GAP_PX;
        let longest = self.rows.iter().map(|bar| bar.length).fold(0.0, f64::max);
        let rows = i32::try_from(self.rows.len()).unwrap_or(i32::MAX);
        let height = u32::try_from(TOP_PX + rows.saturating_mul(ROW_PX) + 4).unwrap_or_default();
        draw_svg((width.px(), height), self.label, |area| {
            let title_left = if width == Width::Wide { left } else { 0 };
            draw_text(area, self.x_title, (title_left, 4), text_style(Ink::Muted, HPos::Left, VPos::Top))?;
            for (n, (bar, name)) in (0..).zip(self.rows.iter().zip(&names)) {
                let middle = TOP_PX + n * ROW_PX + ROW_PX / 2;
                let end = left + scale_px(longest_px, bar.length, longest);
                let text = |h_pos| text_style(Ink::Text, h_pos, VPos::Center);
                draw_text(area, name, (left - NAME_GAP_PX, middle), text(HPos::Right))?;
                let corners = [(left, middle - BAR_PX / 2), (end, middle + BAR_PX / 2)];
                area.draw(&Rectangle::new(corners, Ink::Share.color().filled()))?;
                draw_text(area, &bar.number, (end + NUMBER_GAP_PX, middle), text(HPos::Left))?;
            }
            Ok(())
        })
    }
}

/// At least one pixel, so that a small share is not taken for none.
#[expect(clippy::cast_possible_truncation, reason = "a part of the width of the plot")]
fn scale_px(longest_px: i32, length: f64, longest: f64) -> i32 {
    if length > 0.0 { ((f64::from(longest_px) * length / longest).round() as i32).max(1) } else { 0 }
}
