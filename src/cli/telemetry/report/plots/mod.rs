//! The plots of the report, as SVG elements by plotters.

mod axis;
mod bars;
mod canvas;
mod columns;
mod heat_map;
mod ink;
mod lines;
mod scale;
mod text_width;

pub(super) use bars::{Bar, Bars};
pub(super) use canvas::{PlotError, Width};
pub(super) use columns::{Category, Columns};
pub(super) use heat_map::{HOURS, HeatMap};
pub(super) use ink::Ink;
pub(super) use lines::Lines;
pub(super) use scale::{TimeUnit, round_ticks};
