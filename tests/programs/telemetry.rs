//! What telemetry measures, through the built programs.

mod known_traffic;
mod questions;
