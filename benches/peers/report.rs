//! Prints a table for each scene: a contestant a row, medians of the rounds.

use comfy_table::{Table, presets};

use crate::run::{Ending, Figures};
use crate::scene::Scene;

const HEAD: [&str; 14] = [
    "",
    "synced",
    "accepted",
    "drained",
    "records/s",
    "ratio",
    "CPU s",
    "peak MiB",
    "written MiB",
    "arrived again",
    "applied twice",
    "held up",
    "lost",
    "requests (504s)",
];

/// A contestant, with its figures in each round.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) is_synced: bool,
    pub(crate) rounds: Vec<Figures>,
}

/// The first row is the one to which the others are compared.
pub(crate) fn print_scene(scene: &Scene, rows: &[Row]) {
    println!("\n#### {}: {} records\n", scene.title, group_digits(scene.records as f64));
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(HEAD);
    for row in rows {
        table.add_row(cells(row, rows.first()));
    }
    println!("{table}");
}

fn cells(row: &Row, reference: Option<&Row>) -> Vec<String> {
    let rounds = &row.rounds;
    let number = |figure: &dyn Fn(&Figures) -> f64| median(rounds.iter().map(figure).collect());
    let count = |figure: &dyn Fn(&Figures) -> usize| group_digits(number(&|round| figure(round) as f64));
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    vec![
        row.name.clone(),
        if row.is_synced { "yes" } else { "no" }.to_owned(),
        accepted(rounds),
        drained(rounds),
        rate(rounds),
        reference.map_or_else(String::new, |reference| ratio(rounds, &reference.rounds)),
        format!("{:.2}", number(&|round| round.usage.cpu.as_secs_f64())),
        format!("{:.0}", mib(number(&|round| round.usage.memory_kib as f64) * 1024.0)),
        format!("{:.0}", mib(number(&|round| round.usage.written_bytes as f64))),
        count(&|round| round.arrived_again),
        count(&|round| round.applied_twice),
        count(&|round| round.held_up),
        lost(rounds),
        format!("{} ({})", count(&|round| round.requests), count(&|round| round.timeouts)),
    ]
}

fn accepted(rounds: &[Figures]) -> String {
    let times: Vec<f64> =
        rounds.iter().filter_map(|round| round.accepted).map(|time| time.as_secs_f64()).collect();
    if times.len() < rounds.len() { "not in time".to_owned() } else { seconds(median(times)) }
}

/// How the first round ended that was not drained, else the median.
fn drained(rounds: &[Figures]) -> String {
    let mut times = Vec::new();
    for round in rounds {
        match round.ending {
            Ending::Drained(time) => times.push(time.as_secs_f64()),
            Ending::Stuck(time) => return format!("stuck after {}", seconds(time.as_secs_f64())),
            Ending::OutOfTime(time) => return format!("> {}", seconds(time.as_secs_f64())),
        }
    }
    seconds(median(times))
}

fn lost(rounds: &[Figures]) -> String {
    let lost: Option<Vec<f64>> = rounds.iter().map(|round| Some(round.lost? as f64)).collect();
    lost.map_or_else(|| "–".to_owned(), |lost| group_digits(median(lost)))
}

fn rate(rounds: &[Figures]) -> String {
    let rates: Option<Vec<f64>> = rounds.iter().map(Figures::rate).collect();
    rates.map_or_else(|| "–".to_owned(), |rates| group_digits(median(rates)))
}

/// Of the rates within each round.
fn ratio(rounds: &[Figures], reference: &[Figures]) -> String {
    let ratios: Option<Vec<f64>> =
        rounds.iter().zip(reference).map(|(round, other)| Some(round.rate()? / other.rate()?)).collect();
    let Some(ratios) = ratios else { return "–".to_owned() };
    let (low, high) = ratios
        .iter()
        .fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), ratio| (low.min(*ratio), high.max(*ratio)));
    let middle = median(ratios.clone());
    if ratios.len() > 1 {
        format!("**{middle:.2}** ({low:.2}–{high:.2})")
    } else {
        format!("**{middle:.2}**")
    }
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.2} s")
}

/// In groups of three digits.
fn group_digits(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
