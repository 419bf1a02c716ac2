//! The page, the telemetry report and the operator's page of the gateway in a real browser. Needs Chromium.

mod accessibility;
mod failing_daemon;
mod following;
mod impostors;
mod languages;
mod lists;
mod operators_page;
mod pictures;
mod report;
mod reviewing;

/// A 7-inch tablet, in both orientations.
const LANDSCAPE: (u32, u32) = (1024, 600);
const PORTRAIT: (u32, u32) = (600, 1024);
