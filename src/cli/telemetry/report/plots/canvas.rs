//! A plot as an SVG element in the page: its size, its text and its frame with axes.

use std::io;

use plotters::chart::{ChartBuilder, ChartContext, LabelAreaPosition};
use plotters::coord::Shift;
use plotters::prelude::{Cartesian2d, DrawingArea, IntoDrawingArea, SVGBackend, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, TextStyle};

use super::axis::Axis;
use super::ink::{Ink, apply_classes};
use super::text_width::TEXT_PX;
use crate::cli::telemetry::report::html::escape;

/// Where labels would touch each other.
const SMALL_TEXT_PX: f64 = 11.5;
/// A label of an axis needs about so much space.
const LABEL_SPACE_PX: u32 = 60;
/// plotters multiplies a size by this when it writes SVG.
const FONT_SCALE: f64 = 1.24;
/// Space above the axes for the name of the vertical one.
const TITLE_HEIGHT: u32 = 30;
/// Space below for the labels and the name of the horizontal axis.
const BOTTOM_HEIGHT: u32 = 48;
/// Space on the right of the axes, if no label needs more.
const RIGHT_MARGIN: u32 = 4;

pub(crate) type PlotError = plotters::drawing::DrawingAreaErrorKind<io::Error>;
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// Each plot is drawn for the width at which it is shown, so that its text has the size of other text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// All of the page.
    Wide,
    /// Half of the page, or all of a phone.
    Narrow,
}

impl Width {
    pub(super) fn px(self) -> u32 {
        match self {
            Self::Wide => 800,
            Self::Narrow => 384,
        }
    }
}

/// Draws on an area of this size. `label` is read instead of the picture.
pub(super) fn draw_svg(
    (width, height): (u32, u32),
    label: &str,
    draw: impl FnOnce(&Area<'_>) -> Result<(), PlotError>,
) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    // What the style sheet decides is not repeated in each element.
    let body = apply_classes(body)
        .replace(" font-family=\"sans-serif\"", "")
        .replace(" opacity=\"1\"", "")
        .replace(" stroke=\"none\"", "")
        .replace(" \"/>", "\"/>")
        .replace("\n</text>", "</text>");
    let label = escape(label);
    Ok(format!("<svg role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {width} {height}\">{body}"))
}

/// The style of a text, anchored at a point.
pub(super) fn text_style(ink: Ink, h_pos: HPos, v_pos: VPos) -> TextStyle<'static> {
    sized_text_style(TEXT_PX, ink, h_pos, v_pos)
}

fn sized_text_style(px: f64, ink: Ink, h_pos: HPos, v_pos: VPos) -> TextStyle<'static> {
    TextStyle {
        font: ("sans-serif", px * FONT_SCALE).into_font(),
        color: ink.color().to_backend_color(),
        pos: Pos::new(h_pos, v_pos),
    }
}

/// Draws a text at a point of the area.
pub(super) fn draw_text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    style: TextStyle<'_>,
) -> Result<(), PlotError> {
    area.draw(&Text::new(text.to_owned(), at, style))
}

/// Draws axes with horizontal grid lines. The name of the vertical axis is above it, where it can be read.
pub(super) fn draw_axes<'a, 'b>(area: &'a Area<'b>, x: Axis, y: Axis) -> Result<Chart<'a, 'b>, PlotError> {
    let is_crowded =
        area.dim_in_pixel().0 < LABEL_SPACE_PX * u32::try_from(x.ticks.len()).unwrap_or(u32::MAX);
    let x_px = if is_crowded { SMALL_TEXT_PX } else { TEXT_PX };
    let (x_title, label_width) = (x.title.clone(), y.label_width_px());
    let plot_px = area.dim_in_pixel().0.saturating_sub(label_width);
    draw_text(area, &y.title, (0, 4), text_style(Ink::Muted, HPos::Left, VPos::Top))?;
    let mut chart = ChartBuilder::on(area)
        .margin_top(TITLE_HEIGHT)
        .margin_right(RIGHT_MARGIN.max(x.space_for_last_label_px(plot_px)))
        .set_label_area_size(LabelAreaPosition::Left, label_width)
        .set_label_area_size(LabelAreaPosition::Bottom, BOTTOM_HEIGHT)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(Ink::Grid.color().stroke_width(1))
        .light_line_style(Ink::Grid.color().mix(0.0))
        .axis_style(Ink::Axis.color().stroke_width(1))
        .set_all_tick_mark_size(4)
        .label_style(text_style(Ink::Text, HPos::Center, VPos::Top))
        .x_label_style(sized_text_style(x_px, Ink::Text, HPos::Center, VPos::Top))
        .x_desc(x_title)
        .axis_desc_style(text_style(Ink::Muted, HPos::Center, VPos::Top))
        .draw()?;
    Ok(chart)
}
