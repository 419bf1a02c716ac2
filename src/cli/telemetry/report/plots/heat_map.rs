//! A row of 24 cells for each kind of failure: the hours of the day.

use plotters::element::Rectangle;
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{PlotError, Width, draw_svg, draw_text, text_style};
use super::ink::Ink;
use super::text_width::{cut_to_width, text_width_px};

pub(crate) const HOURS: usize = 24;
const ROW_PX: i32 = 30;
const GAP_PX: i32 = 2;
const TOP_PX: i32 = 30;
const BOTTOM_PX: i32 = 46;
/// Half of the last label.
const RIGHT_PX: i32 = 10;
/// Half of the first label.
const LEFT_PX: i32 = 10;
const NAME_PX_MAX: i32 = 220;
const NAME_GAP_PX: i32 = 10;
/// A line for the name.
const NAME_PX: i32 = 22;
/// Every so many hours there is a label.
const LABEL_HOURS: usize = 3;

pub(crate) struct HeatMap<'a> {
    pub(crate) label: &'a str,
    pub(crate) title: &'a str,
    pub(crate) x_title: &'a str,
    /// A name, and the number for each hour.
    pub(crate) rows: Vec<(String, [u64; HOURS])>,
}

impl HeatMap<'_> {
    pub(crate) fn draw(&self, width: Width) -> Result<String, PlotError> {
        let is_wide = width == Width::Wide;
        let width_px = i32::try_from(width.px()).unwrap_or(i32::MAX);
        let names: Vec<String> = self.rows.iter().map(|(name, _)| cut_to_width(name, NAME_PX_MAX)).collect();
        let longest_px = names.iter().map(|name| text_width_px(name)).max().unwrap_or_default();
        // On a narrow plot, the names are above the cells.
        let (left, name_px) = if is_wide { (longest_px + NAME_GAP_PX, 0) } else { (LEFT_PX, NAME_PX) };
        let cell = (width_px - left - RIGHT_PX) / 24;
        let highest = self.rows.iter().flat_map(|(_, hours)| hours).copied().max().unwrap_or_default();
        let row_px = ROW_PX + name_px;
        let bottom = TOP_PX + i32::try_from(self.rows.len()).unwrap_or_default() * row_px;
        let height = u32::try_from(bottom + BOTTOM_PX).unwrap_or_default();
        draw_svg((width.px(), height), self.label, |area| {
            draw_text(area, self.title, (0, 4), text_style(Ink::Muted, HPos::Left, VPos::Top))?;
            for (n, ((_, hours), name)) in (0..).zip(self.rows.iter().zip(&names)) {
                let top = TOP_PX + n * row_px + name_px;
                let middle = top + (ROW_PX - GAP_PX) / 2;
                if is_wide {
                    let style = text_style(Ink::Text, HPos::Right, VPos::Center);
                    draw_text(area, name, (left - NAME_GAP_PX, middle), style)?;
                } else {
                    draw_text(area, name, (left, top - 6), text_style(Ink::Text, HPos::Left, VPos::Bottom))?;
                }
                for (m, count) in (0..).zip(hours) {
                    let x = left + m * cell;
                    let corners = [(x, top), (x + cell - GAP_PX, top + ROW_PX - GAP_PX)];
                    let (ink, text) = heat(*count, highest);
                    area.draw(&Rectangle::new(corners, ink.color().filled()))?;
                    if *count > 0 && is_wide {
                        let style = text_style(text, HPos::Center, VPos::Center);
                        draw_text(area, &count.to_string(), (x + (cell - GAP_PX) / 2, middle), style)?;
                    }
                }
            }
            for (m, hour) in (0..).zip(0..=HOURS).filter(|(_, hour)| hour % LABEL_HOURS == 0) {
                let at = (left + m * cell - GAP_PX / 2, bottom + 4);
                draw_text(area, &format!("{hour:02}"), at, text_style(Ink::Text, HPos::Center, VPos::Top))?;
            }
            let at = (left + 12 * cell, bottom + 26);
            draw_text(area, self.x_title, at, text_style(Ink::Muted, HPos::Center, VPos::Top))
        })
    }
}

/// The colour of a cell, and of the number in it.
fn heat(count: u64, highest: u64) -> (Ink, Ink) {
    match count.saturating_mul(4).div_ceil(highest.max(1)) {
        0 => (Ink::Heat0, Ink::Text),
        1 => (Ink::Heat1, Ink::Text),
        2 => (Ink::Heat2, Ink::Text),
        3 => (Ink::Heat3, Ink::OnHeat),
        _ => (Ink::Heat4, Ink::OnHeat),
    }
}
