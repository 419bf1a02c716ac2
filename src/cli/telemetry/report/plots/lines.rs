//! Lines over time. A period without data interrupts them.

use plotters::element::Circle;
use plotters::series::LineSeries;
use plotters::style::Color;

use super::axis::Axis;
use super::canvas::{PlotError, Width, draw_axes, draw_svg};
use super::ink::Ink;
use super::scale::{TimeUnit, round_ticks};

const HEIGHT_PX: u32 = 280;
const STROKE_PX: u32 = 2;
const POINT_RADIUS_PX: i32 = 3;
/// Points of longer lines are not marked.
const MARKED_POINTS_MAX: usize = 31;

/// Durations over periods of equal length.
pub(crate) struct Lines<'a> {
    pub(crate) label: &'a str,
    pub(crate) y_title: &'a str,
    pub(crate) x_title: &'a str,
    /// The periods that have a label.
    pub(crate) x_labels: Vec<(usize, String)>,
    /// The milliseconds of each period.
    pub(crate) series: Vec<(Ink, Vec<Option<f64>>)>,
}

impl Lines<'_> {
    pub(crate) fn draw(&self, width: Width) -> Result<String, PlotError> {
        let values = || self.series.iter().flat_map(|(_, values)| values).flatten();
        let longest = values().copied().fold(0.0, f64::max);
        let unit = TimeUnit::for_longest(longest);
        let ticks = round_ticks(unit.convert(longest));
        let periods = self.series.iter().map(|(_, values)| values.len()).max().unwrap_or_default();
        let x = Axis {
            title: self.x_title.to_owned(),
            from: -0.5,
            to: position(periods.max(1)) - 0.5,
            ticks: self.x_labels.iter().map(|(at, label)| (position(*at), label.clone())).collect(),
        };
        let y = Axis {
            title: format!("{} {}", unit.name(), self.y_title),
            from: 0.0,
            to: ticks.last().map_or(1.0, |(at, _)| *at),
            ticks,
        };
        draw_svg((width.px(), HEIGHT_PX), self.label, |area| {
            let mut chart = draw_axes(area, x, y)?;
            for (ink, values) in &self.series {
                let points = || {
                    values
                        .iter()
                        .enumerate()
                        .map(|(at, value)| value.map(|ms| (position(at), unit.convert(ms))))
                };
                for run in points().collect::<Vec<_>>().split(Option::is_none) {
                    let run: Vec<(f64, f64)> = run.iter().flatten().copied().collect();
                    // A single period is a point.
                    if run.len() > 1 {
                        chart.draw_series(LineSeries::new(
                            run.iter().copied(),
                            ink.color().stroke_width(STROKE_PX),
                        ))?;
                    }
                    if run.len() == 1 || values.len() <= MARKED_POINTS_MAX {
                        let points =
                            run.iter().map(|at| Circle::new(*at, POINT_RADIUS_PX, ink.color().filled()));
                        chart.draw_series(points)?;
                    }
                }
            }
            Ok(())
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "the number of periods is small")]
fn position(index: usize) -> f64 {
    index as f64
}
