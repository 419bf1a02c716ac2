//! The page, and the telemetry report, in a real browser. Needs Chromium.

mod accessibility;
mod failing_daemon;
mod following;
mod impostors;
mod languages;
mod lists;
mod pictures;
mod report;
mod reviewing;

/// A 7-inch tablet, in both orientations.
const LANDSCAPE: (u32, u32) = (1024, 600);
const PORTRAIT: (u32, u32) = (600, 1024);
