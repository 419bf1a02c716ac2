//! Reads metrics, as `OpenMetrics` or as the text format of Prometheus, and checks them by the conventions of Prometheus.

use std::collections::{BTreeMap, BTreeSet};

/// Series that one family may have: more would mean a label that senders choose.
const SERIES_MAX: usize = 150;
/// Labels that a family may have. Their values come from lists in the programs.
const ALLOWED_LABELS: [&str; 35] = [
    "le",
    "quantile",
    "status",
    "status_class",
    "route",
    "result",
    "outcome",
    "reason",
    "limit",
    "kind",
    "condition",
    "version",
    "name",
    "id",
    "state",
    "class",
    "phase",
    "alert",
    "rule",
    "mode",
    "severity",
    "interface",
    "size",
    "type",
    "in_flight",
    "event",
    "priority",
    "cause",
    "device",
    "device_name",
    "device_id",
    "window",
    "hour",
    "in_flight_rule",
    "key",
];
/// Units that are not base units, at the end of a name.
const OTHER_UNITS: [&str; 12] = [
    "_ms",
    "_milliseconds",
    "_us",
    "_micros",
    "_minutes",
    "_hours",
    "_days",
    "_kib",
    "_mib",
    "_kb",
    "_mb",
    "_percent",
];

/// A family of metrics.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    help: String,
    /// Names of samples, without labels.
    pub(crate) samples: BTreeSet<String>,
    labels: BTreeSet<String>,
    series: usize,
}

/// The families by their names.
#[derive(Debug)]
pub(crate) struct MetricsText {
    pub(crate) families: BTreeMap<String, Family>,
}

impl MetricsText {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                help.clone_into(&mut families.entry(name.to_owned()).or_default().help);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                kind.clone_into(&mut families.entry(name.to_owned()).or_default().kind);
            } else if !line.starts_with('#') {
                let series = line.rsplit_once(' ').unwrap().0;
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                let family = family_of(name, &mut families);
                family.samples.insert(name.to_owned());
                family.labels.extend(label_names(labels));
                family.series += 1;
            }
        }
        Self { families }
    }

    /// What is wrong by the conventions.
    pub(crate) fn lint(&self, prefix: &str) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, family) in &self.families {
            let mut problem = |what: &str| problems.push(format!("{name}: {what}"));
            let is_plain =
                |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
            if !(name.starts_with(prefix) || name.starts_with("process_")) || !name.chars().all(is_plain) {
                problem("the name");
            }
            if family.help.is_empty() || family.kind.is_empty() {
                problem("no help or no type");
            }
            if family.kind == "counter" && family.samples.iter().any(|sample| !sample.ends_with("_total")) {
                problem("a counter without _total");
            }
            if family.kind != "counter" && name.ends_with("_total") {
                problem("_total without a counter");
            }
            if ["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)) {
                problem("a reserved ending");
            }
            if OTHER_UNITS.iter().any(|unit| name.ends_with(unit)) {
                problem("not a base unit");
            }
            if family.kind == "histogram" && !family.samples.is_empty() {
                let expected = ["_bucket", "_count", "_sum"].map(|end| format!("{name}{end}"));
                if !family.samples.iter().eq(&expected) {
                    problem("samples of a histogram are missing");
                }
            }
            if let Some(label) = family.labels.iter().find(|label| !ALLOWED_LABELS.contains(&label.as_str()))
            {
                problem(&format!("the label {label}"));
            }
            if family.series > SERIES_MAX {
                problem("too many series");
            }
        }
        problems
    }

    /// The names that queries and texts use.
    pub(crate) fn query_names(&self) -> BTreeSet<String> {
        let of_family = |(name, family): (&String, &Family)| -> Vec<String> {
            let ends: &[&str] = match family.kind.as_str() {
                "counter" if name.ends_with("_total") => &[""],
                "counter" => &["_total"],
                "info" => &["_info"],
                // Texts name the family.
                "histogram" => &["", "_bucket", "_sum", "_count"],
                _ => &[""],
            };
            ends.iter().map(|end| format!("{name}{end}")).collect()
        };
        self.families.iter().flat_map(of_family).collect()
    }
}

fn family_of<'a>(sample: &str, families: &'a mut BTreeMap<String, Family>) -> &'a mut Family {
    let ends = ["", "_total", "_info", "_bucket", "_sum", "_count", "_created"];
    let name =
        ends.iter().find_map(|end| sample.strip_suffix(end).filter(|name| families.contains_key(*name)));
    let name = name.unwrap_or(sample).to_owned();
    families.entry(name).or_default()
}

/// The names in `route="batch",le="1"}`.
fn label_names(labels: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = labels.trim_end_matches('}');
    while let Some((name, after)) = rest.split_once("=\"") {
        names.push(name.trim_start_matches(',').to_owned());
        let mut end = 0;
        while let Some(quote) = after[end..].find('"') {
            end += quote + 1;
            if !after[..end - 1].ends_with('\\') {
                break;
            }
        }
        rest = &after[end..];
    }
    names
}
