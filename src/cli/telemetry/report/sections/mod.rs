//! The sections of the page: a question, its answer in a sentence, plots, and the same numbers as tables.

mod durations;
mod estimates;
mod failures;
mod sizes;
mod types;

use super::html::{DataTable, escape, push, write_legend};
use super::plots::{Ink, PlotError, Width};
use crate::api::TelemetryReport;

/// How a plot is drawn for a width.
type Draw<'a> = Box<dyn Fn(Width) -> Result<String, PlotError> + 'a>;

/// A plot with its title and the names of its colours.
struct Figure<'a> {
    title: String,
    legend: Vec<(Ink, &'static str)>,
    /// Half of the page is enough for few categories.
    is_half: bool,
    draw: Draw<'a>,
}

struct Section<'a> {
    id: &'static str,
    question: &'static str,
    /// What the numbers are, for people who see them for the first time.
    explanation: &'static str,
    finding: Option<String>,
    figures: Vec<Figure<'a>>,
    tables: Vec<DataTable>,
}

/// All sections.
pub(super) fn write_sections(out: &mut String, report: &TelemetryReport) -> Result<(), PlotError> {
    for section in [
        durations::section(report),
        sizes::by_size(report),
        sizes::by_in_flight(report),
        types::section(report),
        failures::section(report),
        estimates::section(report),
    ] {
        section.write(out)?;
    }
    Ok(())
}

impl Section<'_> {
    fn write(&self, out: &mut String) -> Result<(), PlotError> {
        let id = self.id;
        push(
            out,
            format_args!(
                "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{}</h2>\n",
                escape(self.question)
            ),
        );
        push(out, format_args!("<p class=\"explanation\">{}</p>\n", escape(self.explanation)));
        let Some(finding) = &self.finding else {
            out.push_str("<p class=\"empty\">No data yet.</p>\n</section>\n");
            return Ok(());
        };
        push(out, format_args!("<p class=\"finding\">{}</p>\n", escape(finding)));
        out.push_str("<div class=\"figures\">\n");
        for figure in &self.figures {
            figure.write(out)?;
        }
        out.push_str("</div>\n");
        for table in &self.tables {
            table.write(out);
        }
        out.push_str("</section>\n");
        Ok(())
    }
}

impl Figure<'_> {
    fn write(&self, out: &mut String) -> Result<(), PlotError> {
        let class = if self.is_half { "half" } else { "whole" };
        push(
            out,
            format_args!("<figure class=\"{class}\">\n<figcaption>{}</figcaption>\n", escape(&self.title)),
        );
        if !self.legend.is_empty() {
            write_legend(out, &self.legend);
        }
        if self.is_half {
            out.push_str(&(self.draw)(Width::Narrow)?);
        } else {
            for (class, width) in [("wide", Width::Wide), ("narrow", Width::Narrow)] {
                push(out, format_args!("<div class=\"{class}\">{}</div>\n", (self.draw)(width)?));
            }
        }
        out.push_str("</figure>\n");
        Ok(())
    }
}

/// Names of columns.
fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
