//! What a run must reach. The bench fails if a figure misses its aim.

use comfy_table::{Table, presets};

/// The aims of all tables of a run, with the figures that were found.
#[derive(Default)]
pub(crate) struct Aims(Vec<Aim>);

struct Aim {
    name: String,
    required: String,
    found: String,
    is_reached: bool,
}

impl Aims {
    /// A figure that is not a number misses its aim.
    pub(crate) fn require_at_least(&mut self, name: impl Into<String>, least: f64, found: f64) {
        self.add(name.into(), format!("≥ {least}"), found, found >= least);
    }

    pub(crate) fn require_at_most(&mut self, name: impl Into<String>, most: f64, found: f64) {
        self.add(name.into(), format!("≤ {most}"), found, found <= most);
    }

    fn add(&mut self, name: String, required: String, found: f64, is_reached: bool) {
        self.0.push(Aim { name, required, found: format!("{found:.2}"), is_reached });
    }

    pub(crate) fn print(&self) {
        if self.0.is_empty() {
            return;
        }
        println!("\n#### Aims\n");
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_header(["aim", "required", "found", "reached"]);
        for Aim { name, required, found, is_reached } in &self.0 {
            let reached = if *is_reached { "yes" } else { "**no**" };
            table.add_row([name, required, found, reached]);
        }
        println!("{table}");
    }

    /// The names of the aims that were missed.
    pub(crate) fn missed(&self) -> Vec<&str> {
        self.0.iter().filter(|aim| !aim.is_reached).map(|aim| aim.name.as_str()).collect()
    }
}
