//! The table of the figures, beside their aims and limits.

use comfy_table::{Table, presets};

use crate::limits::{Figure, ROWS, Row, Unit};

#[derive(Default)]
pub(crate) struct Report(Vec<(Figure, Option<u64>)>);

impl Report {
    /// A figure without a value could not be measured here.
    pub(crate) fn add(&mut self, figure: Figure, value: Option<u64>) {
        self.0.push((figure, value));
    }

    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_header(["figure", "measured", "aim", "limit", ""]);
        for (row, value) in self.rows() {
            let show = |value: Option<u64>| value.map_or_else(|| "–".into(), |value| row.unit.format(value));
            let verdict = match value {
                None => "needs root",
                Some(value) if row.limit.is_some_and(|limit| value > limit) => "**regressed**",
                Some(value) if row.aim.is_some_and(|aim| value > aim) => "above the aim",
                Some(_) => "",
            };
            table.add_row([
                row.name.to_owned(),
                show(value),
                show(row.aim),
                show(row.limit),
                verdict.to_owned(),
            ]);
        }
        println!("{table}");
    }

    pub(crate) fn exceeds_limits(&self) -> bool {
        self.rows().any(|(row, value)| row.limit.zip(value).is_some_and(|(limit, value)| value > limit))
    }

    /// The measured rows, in the order of the table.
    fn rows(&self) -> impl Iterator<Item = (&'static Row, Option<u64>)> {
        ROWS.iter().filter_map(|row| {
            self.0.iter().find(|(figure, _)| *figure == row.figure).map(|(_, value)| (row, *value))
        })
    }
}

impl Unit {
    fn format(self, value: u64) -> String {
        let mib = |kib: f64| format!("{:.2} MiB", kib / 1024.0);
        match self {
            Self::Bytes => mib(value as f64 / 1024.0),
            Self::Kibibytes => mib(value as f64),
            Self::Count => value.to_string(),
            Self::Milliseconds => format!("{value} ms"),
        }
    }
}
