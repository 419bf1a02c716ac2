//! Progress bars for large inputs, on standard error if it is a terminal: reading a pipe, checking, storing.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Smaller inputs need no bar.
const BAR_BYTES_MIN: u64 = 8 << 20;
/// Fewer records need no bar.
const BAR_RECORDS_MIN: u64 = 1000;

/// For a pipe, whose length is not known.
pub(super) fn reading_bar(name: &str) -> ProgressBar {
    styled_bar(None, "Reading {msg}: {bytes}").with_message(name.to_owned())
}

/// For so many bytes.
pub(super) fn checking_bar(bytes: u64) -> ProgressBar {
    if bytes < BAR_BYTES_MIN {
        return ProgressBar::hidden();
    }
    styled_bar(Some(bytes), "Checking {wide_bar} {percent} % of {total_bytes}")
}

/// For so many records.
pub(super) fn storing_bar(records: u64) -> ProgressBar {
    if records < BAR_RECORDS_MIN {
        return ProgressBar::hidden();
    }
    styled_bar(Some(records), "Enqueued {pos} of {len} records {wide_bar} {percent} %")
}

fn styled_bar(length: Option<u64>, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
