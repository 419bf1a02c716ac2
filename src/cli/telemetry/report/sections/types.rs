//! Which record types cause delays.

use super::{Figure, Section, head};
use crate::api::{TelemetryReport, TypeReport};
use crate::cli::telemetry::findings::describe_types;
use crate::cli::telemetry::report::html::DataTable;
use crate::cli::telemetry::report::plots::{Bar, Bars};
use crate::cli::telemetry::words::{measured_duration, number, share, short_duration};

/// The plot shows at most so many types, and the table so many.
const TYPES_PLOTTED_MAX: usize = 12;
const TYPES_LISTED_MAX: usize = 200;

pub(super) fn section(report: &TelemetryReport) -> Section<'_> {
    let mut types: Vec<&TypeReport> = report.by_type.iter().take(TYPES_LISTED_MAX).collect();
    types.sort_by(|a, b| b.delay_share.total_cmp(&a.delay_share));
    let plotted = types.iter().take(TYPES_PLOTTED_MAX);
    let title = if types.len() > TYPES_PLOTTED_MAX {
        format!(
            "Share of the time, and time per record: the {TYPES_PLOTTED_MAX} types with the largest share"
        )
    } else {
        "Share of the time, and time per record".to_owned()
    };
    let figure = Figure {
        title,
        legend: Vec::new(),
        is_half: false,
        draw: Box::new(draw_shares(plotted.copied().collect())),
    };
    Section {
        id: "types",
        question: "Which types of records cause delays?",
        explanation: "The time of each batch is shared out among its records, by what a record of each type usually costs. Failed attempts count. Where the cost of a type cannot be separated from that of others, each record of a batch gets the same share.",
        finding: describe_types(report),
        figures: vec![figure],
        tables: vec![table(&types)],
    }
}

fn draw_shares(types: Vec<&TypeReport>) -> impl Fn(super::Width) -> Result<String, super::PlotError> {
    move |width| {
        let bars = types.iter().map(|one| Bar {
            name: one.record_type.clone(),
            length: one.delay_share,
            number: format!("{} · {}", share(one.delay_share), short_duration(one.ms_per_record)),
        });
        let texts = types.iter().map(|one| format!("{} {}", one.record_type, share(one.delay_share)));
        let label = format!("Share of the time by type: {}", texts.collect::<Vec<_>>().join(", "));
        Bars { label: &label, x_title: "Share of the time (%) · time per record", rows: bars.collect() }
            .draw(width)
    }
}

fn table(types: &[&TypeReport]) -> DataTable {
    let names = [
        "Type",
        "Records",
        "Per record",
        "Cost separated",
        "Median in its batches",
        "95 of 100 in its batches",
        "Time",
        "Share",
        "In failed attempts",
        "Failed attempts",
        "Need review",
    ];
    let row = |one: &&TypeReport| {
        vec![
            one.record_type.clone(),
            number(one.records),
            short_duration(one.ms_per_record),
            if one.is_separated { "yes" } else { "no" }.to_owned(),
            measured_duration(one.per_record.p50_ms, one.per_record.records),
            measured_duration(one.per_record.p95_ms, one.per_record.records),
            short_duration(one.delay_ms),
            share(one.delay_share),
            short_duration(one.failed_ms),
            number(one.failures),
            number(one.quarantined),
        ]
    };
    DataTable { caption: "Record types", head: head(&names), rows: types.iter().map(row).collect() }
}
