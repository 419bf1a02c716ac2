//! Prints tables: the bytes and the time of each way to compress, and their total on links of several speeds.

use std::time::Duration;

use crate::contestants::Measured;

/// Links in bits per second, from the slowest in practice to one where the number of bytes hardly matters.
const LINKS: [(&str, f64); 4] =
    [("64 kbit/s", 64e3), ("256 kbit/s", 256e3), ("1 Mbit/s", 1e6), ("10 Mbit/s", 1e7)];
/// How many times slower the processor of a small device is.
const SLOWER: f64 = 10.0;

/// Prints the measurements of batches of `size` records.
pub(crate) fn print(size: usize, plain: usize, measured: &[Measured]) {
    println!("\n#### Batches of {size} records\n");
    println!("{plain} bytes each. Totals in ms, on a processor {SLOWER} times as slow.\n");
    let links: Vec<_> = LINKS.iter().map(|(name, _)| *name).collect();
    println!("| encoding | bytes | of plain | µs here | {} | most lost |", links.join(" | "));
    println!("|---|{}", "---:|".repeat(4 + LINKS.len()));
    for one in measured {
        let share = percent(one.bytes, plain);
        let totals: Vec<_> = LINKS.iter().map(|(_, rate)| ms(total(one, *rate, SLOWER))).collect();
        println!(
            "| {} | {} | {share} | {:.0} | {} | {} |",
            one.name,
            one.bytes,
            one.time.as_secs_f64() * 1e6,
            totals.join(" | "),
            most_lost(one, measured).map_or("–".into(), ms),
        );
    }
}

/// The largest loss against the best rival, over all links, with this processor and with a slow one.
fn most_lost(one: &Measured, measured: &[Measured]) -> Option<Duration> {
    let family = one.family?;
    let rivals = || measured.iter().filter(|rival| rival.family == Some(family));
    let lost = |(rate, slower)| {
        let best = rivals().map(|rival| total(rival, rate, slower)).min()?;
        Some(total(one, rate, slower).saturating_sub(best))
    };
    let places = LINKS.iter().flat_map(|(_, rate)| [(*rate, 1.0), (*rate, SLOWER)]);
    places.filter_map(lost).max()
}

/// The time to compress, and then to send.
fn total(one: &Measured, bits_per_second: f64, slower: f64) -> Duration {
    let bytes = f64::from(u32::try_from(one.bytes).unwrap_or(u32::MAX));
    one.time.mul_f64(slower) + Duration::from_secs_f64(bytes * 8.0 / bits_per_second)
}

fn percent(part: usize, whole: usize) -> String {
    format!("{} %", (100 * part + whole / 2) / whole)
}

fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 100.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}
