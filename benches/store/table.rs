//! Prints Markdown tables, and computes their figures.

use std::time::Duration;

use fieldsync::clock::Clock;

pub(crate) fn print_title(text: &str) {
    println!("\n### {text}\n");
}

pub(crate) fn print_head(columns: &[&str]) {
    println!("| {} |", columns.join(" | "));
    println!("|{}", "---:|".repeat(columns.len()));
}

pub(crate) fn print_row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// The duration of some work.
pub(crate) fn time_of(work: impl FnOnce()) -> Duration {
    let clock = Clock::start();
    work();
    clock.now()
}

/// The median: other load on the machine spoils a round, not the result.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median_time(times: &[Duration]) -> Duration {
    Duration::from_secs_f64(median(times.iter().map(Duration::as_secs_f64).collect()))
}

/// The median, the lowest and the highest value.
pub(crate) fn format_spread(values: Vec<f64>) -> String {
    let (low, high) =
        values.iter().fold((f64::INFINITY, 0.0), |(low, high), value| (value.min(low), value.max(high)));
    format!("**{:.2}** ({low:.2}–{high:.2})", median(values))
}

pub(crate) fn format_time(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms {
        ..1.0 => format!("{ms:.3} ms"),
        ..100.0 => format!("{ms:.1} ms"),
        ..10_000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1e3),
    }
}

pub(crate) fn format_number(value: f64) -> String {
    group_digits(&format!("{value:.0}"))
}

pub(crate) fn format_count(value: usize) -> String {
    group_digits(&value.to_string())
}

/// In groups of three digits.
fn group_digits(digits: &str) -> String {
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
