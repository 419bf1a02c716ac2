//! Which batch sizes get through, and how many batches at once.

use super::{Figure, Section, head};
use crate::api::{Outcomes, TelemetryReport};
use crate::cli::telemetry::findings::{describe_in_flight, describe_sizes};
use crate::cli::telemetry::report::html::DataTable;
use crate::cli::telemetry::report::plots::{Category, Columns, Ink, round_ticks};
use crate::cli::telemetry::words::{number, percent_of, rate, to_f64};
use crate::hidden::replace_hidden;

const LEGEND: [(Ink, &str); 4] = [
    (Ink::Succeeded, "succeeded"),
    (Ink::TimedOut, "no response in time, or a 504"),
    (Ink::Refused, "refused"),
    (Ink::OtherFailure, "failed otherwise"),
];

type Bucket<'a> = (&'a str, &'a Outcomes);

pub(super) fn by_size(report: &TelemetryReport) -> Section<'_> {
    let buckets: Vec<Bucket<'_>> =
        report.by_batch_size.iter().map(|bucket| (bucket.size.as_str(), &bucket.outcomes)).collect();
    Section {
        id: "sizes",
        question: "Which batch sizes get through?",
        explanation: "The daemon sends records in batches. Each waits for a response, and the server has a time limit. The number above a bar says how many batches were sent. The speed includes the time of failed batches.",
        finding: describe_sizes(report),
        figures: figures("Records in a batch", &buckets),
        tables: vec![table("Batches by size", "Records in a batch", &buckets)],
    }
}

pub(super) fn by_in_flight(report: &TelemetryReport) -> Section<'_> {
    let buckets: Vec<Bucket<'_>> =
        report.by_in_flight.iter().map(|bucket| (bucket.in_flight.as_str(), &bucket.outcomes)).collect();
    let sent: u64 = buckets.iter().map(|(_, outcomes)| outcomes.batches).sum();
    let only_single = || "So far, there is too little data to compare.".to_owned();
    Section {
        id: "in-flight",
        question: "How many batches at once?",
        explanation: "The daemon may send a batch before the response to another one has come. More at once are faster, until the server or the network is busy.",
        finding: describe_in_flight(report).or_else(|| (sent > 0).then(only_single)),
        figures: figures("Batches under way at once", &buckets),
        tables: vec![table("Batches by number under way", "Batches under way", &buckets)],
    }
}

/// What became of the batches, and how fast they were.
fn figures<'a>(x_title: &'static str, buckets: &[Bucket<'a>]) -> Vec<Figure<'a>> {
    let (one, other) = (buckets.to_vec(), buckets.to_vec());
    vec![
        Figure {
            title: "What became of the batches".to_owned(),
            legend: LEGEND.to_vec(),
            is_half: true,
            draw: Box::new(move |width| outcome_columns(x_title, &one).draw(width)),
        },
        Figure {
            title: "How fast records got through".to_owned(),
            legend: Vec::new(),
            is_half: true,
            draw: Box::new(move |width| rate_columns(x_title, &other).draw(width)),
        },
    ]
}

fn outcome_columns<'a>(x_title: &'a str, buckets: &[Bucket<'_>]) -> Columns<'a> {
    let categories = buckets.iter().map(|(name, outcomes)| {
        let part = |number| 100.0 * to_f64(number) / to_f64(outcomes.batches.max(1));
        Category {
            name: clean(name),
            columns: vec![vec![
                (Ink::Succeeded, part(outcomes.succeeded)),
                (Ink::TimedOut, part(outcomes.timeouts)),
                (Ink::Refused, part(outcomes.refused)),
                (Ink::OtherFailure, part(outcomes.other_failures)),
            ]],
            note: if outcomes.batches == 0 { String::new() } else { number(outcomes.batches) },
        }
    });
    let texts = buckets.iter().filter(|(_, outcomes)| outcomes.batches > 0).map(|(name, outcomes)| {
        format!("{}: {} of {} succeeded", clean(name), outcomes.succeeded, outcomes.batches)
    });
    Columns {
        label: format!("Share of batches that succeeded. {x_title}: {}", join(texts)),
        y_title: "Share of batches (%)".to_owned(),
        x_title,
        categories: categories.collect(),
        y_ticks: [0.0, 25.0, 50.0, 75.0, 100.0].map(|at: f64| (at, format!("{at:.0}"))).to_vec(),
    }
}

fn rate_columns<'a>(x_title: &'a str, buckets: &[Bucket<'_>]) -> Columns<'a> {
    let rates = || buckets.iter().map(|(name, outcomes)| (clean(name), outcomes.records_per_s));
    let highest = rates().filter_map(|(_, rate)| rate).fold(0.0, f64::max);
    let categories = rates().map(|(name, per_s)| Category {
        name,
        columns: vec![vec![(Ink::Rate, per_s.unwrap_or_default())]],
        note: per_s.map_or_else(String::new, |per_s| rate(Some(per_s))),
    });
    let texts = rates().filter_map(|(name, per_s)| Some(format!("{name}: {}", rate(Some(per_s?)))));
    Columns {
        label: format!("Records per second. {x_title}: {}", join(texts)),
        y_title: "Records per second".to_owned(),
        x_title,
        categories: categories.collect(),
        y_ticks: round_ticks(highest),
    }
}

fn table(caption: &'static str, name: &str, buckets: &[Bucket<'_>]) -> DataTable {
    let names = [
        name,
        "Sent",
        "Succeeded",
        "Success",
        "No response",
        "Refused",
        "Other failures",
        "Records",
        "Records/s",
    ];
    let row = |(name, outcomes): &Bucket<'_>| {
        vec![
            clean(name),
            number(outcomes.batches),
            number(outcomes.succeeded),
            percent_of(outcomes.succeeded, outcomes.batches),
            number(outcomes.timeouts),
            number(outcomes.refused),
            number(outcomes.other_failures),
            number(outcomes.records),
            rate(outcomes.records_per_s),
        ]
    };
    DataTable { caption, head: head(&names), rows: buckets.iter().map(row).collect() }
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}

fn clean(text: &str) -> String {
    replace_hidden(text).into_owned()
}
