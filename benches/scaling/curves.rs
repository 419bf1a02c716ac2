//! What was measured: values of each round for each row, and their ratios to the first row.

use comfy_table::{Table, presets};

/// What a value is, for people.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Microseconds,
    Milliseconds,
    Bytes,
    Mebibytes,
    /// Of other values.
    Times,
}

/// Values of one kind.
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    unit: Unit,
    /// Of each row, by round.
    values: Vec<Vec<f64>>,
}

/// A table of all rows.
pub(crate) struct Curves {
    /// Where each row is on the logarithmic axis, and its label.
    pub(crate) rows: Vec<(f64, String)>,
    curves: Vec<Curve>,
}

impl Curves {
    pub(crate) fn new(rows: Vec<(f64, String)>) -> Self {
        Self { rows, curves: Vec::new() }
    }

    /// Adds a value of a round. Rounds are added in order.
    pub(crate) fn add(&mut self, row: usize, name: &'static str, unit: Unit, value: f64) {
        let at = self.curves.iter().position(|curve| curve.name == name).unwrap_or_else(|| {
            self.curves.push(Curve { name, unit, values: vec![Vec::new(); self.rows.len()] });
            self.curves.len() - 1
        });
        self.curves[at].values[row].push(value);
    }

    pub(crate) fn curve(&self, name: &str) -> Option<&Curve> {
        self.curves.iter().find(|curve| curve.name == name)
    }

    /// Prints the tables: one of values, one of ratios. They have a column for each row of the measurement, because
    /// there are more kinds of values.
    pub(crate) fn print(&self, title: &str, row_name: &str) {
        println!("\n#### {title}\n");
        self.print_table(row_name, Curve::format_value);
        println!("\nRatios to the first column, median (lowest–highest) of the rounds.\n");
        self.print_table(row_name, Curve::format_ratio);
    }

    fn print_table(&self, row_name: &str, cell: impl Fn(&Curve, usize) -> String) {
        let mut table = Table::new();
        let labels = self.rows.iter().map(|(_, label)| label.as_str());
        table.load_style(presets::ASCII_MARKDOWN).set_header([row_name].into_iter().chain(labels));
        for curve in &self.curves {
            let cells = (0..self.rows.len()).map(|row| cell(curve, row));
            table.add_row([curve.name.to_owned()].into_iter().chain(cells));
        }
        println!("{table}");
    }
}

impl Curve {
    /// The ratio to the first row within each round.
    fn ratios(&self, row: usize) -> Vec<f64> {
        let first = self.values.first().into_iter().flatten();
        self.values[row].iter().zip(first).map(|(value, first)| value / first).collect()
    }

    /// The median ratio to the first row.
    pub(crate) fn ratio(&self, row: usize) -> f64 {
        median(self.ratios(row))
    }

    fn format_ratio(&self, row: usize) -> String {
        let ratios = self.ratios(row);
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ratios.iter().copied().fold(0.0, f64::max);
        match ratios.len() {
            0 => "–".to_owned(),
            1 => format!("**{:.2}**", median(ratios)),
            _ => format!("**{:.2}** ({low:.2}–{high:.2})", median(ratios)),
        }
    }

    fn format_value(&self, row: usize) -> String {
        let values = &self.values[row];
        if values.is_empty() {
            return "–".to_owned();
        }
        let value = median(values.clone());
        match self.unit {
            Unit::Microseconds => format!("{} µs", round_value(value)),
            Unit::Milliseconds => format!("{} ms", round_value(value)),
            Unit::Bytes => format!("{value:.0}"),
            Unit::Mebibytes => format!("{value:.1} MiB"),
            Unit::Times => format!("{value:.2}"),
        }
    }
}

/// The median: other load on the machine spoils a round, not the result.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// With as many digits as say something.
fn round_value(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
