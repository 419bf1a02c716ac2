//! Bars for large inputs, on standard error, where somebody watches it: reading a pipe, checking, storing.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// From this many bytes on, a bar is worth its place.
const BYTES: u64 = 8 << 20;
/// Or from this many records on.
const RECORDS: u64 = 1000;

/// A pipe, whose length nobody knows.
pub(super) fn reading(name: &str) -> ProgressBar {
    styled(None, "Reading {msg}: {bytes}").with_message(name.to_owned())
}

/// So many bytes.
pub(super) fn checking(bytes: u64) -> ProgressBar {
    if bytes < BYTES {
        return ProgressBar::hidden();
    }
    styled(Some(bytes), "Checking {wide_bar} {percent} % of {total_bytes}")
}

/// So many records.
pub(super) fn storing(records: u64) -> ProgressBar {
    if records < RECORDS {
        return ProgressBar::hidden();
    }
    styled(Some(records), "Enqueued {pos} of {len} records {wide_bar} {percent} %")
}

fn styled(length: Option<u64>, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
