//! The plot: ratios to the first row over the backlog, and over the record size. Flat means 1.

use std::path::Path;

use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::element::Circle;
use plotters::prelude::{DrawingArea, IntoDrawingArea, IntoLogRange, PathElement, SVGBackend, Text};
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, RGBColor, TextStyle};

use crate::curves::Curves;

const WIDTH_PX: u32 = 860;
const PANEL_HEIGHT_PX: u32 = 340;
const LEGEND_WIDTH_PX: u32 = 200;
const LEGEND_LINE_PX: i32 = 22;
const TEXT_PX: f64 = 15.0;
const TITLE_PX: f64 = 17.0;
const TEXT_COLOR: RGBColor = RGBColor(60, 60, 67);
const GRID_COLOR: RGBColor = RGBColor(225, 225, 230);
/// Distinguishable for people who see few colours (Okabe and Ito).
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];

/// One diagram of the picture.
pub(crate) struct Panel<'a> {
    pub(crate) title: &'a str,
    pub(crate) x_title: &'a str,
    pub(crate) curves: &'a Curves,
    /// Names of the curves to show.
    pub(crate) names: &'a [&'static str],
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type DrawError = Box<dyn std::error::Error>;

/// Draws the panels below each other.
pub(crate) fn write_plot(file: &Path, panels: &[Panel<'_>]) {
    draw_panels(file, panels).expect("the picture is written");
}

fn draw_panels(file: &Path, panels: &[Panel<'_>]) -> Result<(), DrawError> {
    let count = u32::try_from(panels.len())?;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH_PX, PANEL_HEIGHT_PX * count)).into_drawing_area();
        area.fill(&RGBColor(255, 255, 255))?;
        for (panel, area) in panels.iter().zip(area.split_evenly((panels.len(), 1))) {
            panel.draw(&area)?;
        }
        area.present()?;
    }
    std::fs::write(file, svg.replace("\n</text>", "</text>"))?;
    Ok(())
}

impl Panel<'_> {
    fn draw(&self, area: &Area<'_>) -> Result<(), DrawError> {
        let (plot, legend) = area.split_horizontally(WIDTH_PX - LEGEND_WIDTH_PX);
        let rows = &self.curves.rows;
        let shown = || self.names.iter().filter_map(|name| self.curves.curve(name));
        let ratios: Vec<Vec<f64>> =
            shown().map(|curve| (0..rows.len()).map(|row| curve.ratio(row)).collect()).collect();
        let values = || ratios.iter().flatten().copied().filter(|ratio| ratio.is_finite());
        let (low, high) = (values().fold(0.5, f64::min), values().fold(2.0, f64::max));
        let x_of = |row: usize| rows.get(row).map_or(1.0, |(x, _)| *x);
        let (first, last) = (x_of(0), x_of(rows.len().saturating_sub(1)));

        let mut chart = ChartBuilder::on(&plot)
            .caption(self.title, style_text(TITLE_PX, HPos::Left, VPos::Top))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d((first..last * 1.05).log_scale(), (low * 0.9..high * 1.1).log_scale())?;
        chart
            .configure_mesh()
            .bold_line_style(GRID_COLOR.stroke_width(1))
            .light_line_style(GRID_COLOR.mix(0.0))
            .axis_style(TEXT_COLOR.mix(0.5).stroke_width(1))
            .x_labels(rows.len().max(2))
            .x_label_formatter(&|x| self.label_x(*x))
            .y_label_formatter(&|y| format!("{y}"))
            .label_style(style_text(TEXT_PX, HPos::Center, VPos::Top))
            .x_desc(self.x_title)
            .y_desc("ratio to the first row")
            .axis_desc_style(style_text(TEXT_PX, HPos::Center, VPos::Top))
            .draw()?;
        for (at, (curve, ratios)) in shown().zip(&ratios).enumerate() {
            let color = COLORS[at % COLORS.len()];
            let points = || {
                let points = ratios.iter().enumerate().map(|(row, ratio)| (x_of(row), *ratio));
                points.filter(|(_, ratio)| ratio.is_finite())
            };
            chart.draw_series(LineSeries::new(points(), color.stroke_width(2)))?;
            chart.draw_series(points().map(|point| Circle::new(point, 3, color.filled())))?;
            let y = 56 + LEGEND_LINE_PX * i32::try_from(at)?;
            legend.draw(&PathElement::new([(4, y), (26, y)], color.stroke_width(3)))?;
            let style = style_text(TEXT_PX, HPos::Left, VPos::Center);
            legend.draw(&Text::new(curve.name.to_owned(), (34, y), style))?;
        }
        Ok(())
    }

    fn label_x(&self, x: f64) -> String {
        let near = |row: &&(f64, String)| (row.0 / x).ln().abs() < 0.1;
        self.curves.rows.iter().find(near).map_or_else(String::new, |(_, label)| label.clone())
    }
}

fn style_text(px: f64, h_pos: HPos, v_pos: VPos) -> TextStyle<'static> {
    TextStyle {
        font: ("sans-serif", px).into_font(),
        color: TEXT_COLOR.to_backend_color(),
        pos: Pos::new(h_pos, v_pos),
    }
}
