//! Alert rules and dashboard use only metrics and label values that the programs have, rules name a remedy, and the
//! recipe for the textfile collector works.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::gateway::Gateway;
use crate::support::metrics::MetricsText;
use crate::support::process::run;
use crate::support::settings::Settings;
use crate::support::wait::directory;

const RULES: &str = "docs/monitoring/alerts.yml";
const DASHBOARD: &str = "docs/monitoring/dashboard.json";
/// Beginnings of the names of metrics of both programs.
const PREFIXES: [&str; 2] = ["fieldsync_", "process_"];

/// Where metrics come from, and what only the reader of the dashboard knows.
const LABELS_OF_SCRAPES: [&str; 4] = ["instance", "job", "file", "le"];
const GUIDE: &str = "docs/monitoring/README.md";
const RECIPE_START: &str = "```sh\nfile=";
const RECIPE_FILE: &str = "/var/lib/prometheus/node-exporter/fieldsync.prom";
/// Stands in for curl: writes METRICS to its output, or fails without it.
const CURL: &str = r#"#!/bin/sh
while [ "$1" != --output ]; do shift; done
[ -n "$METRICS" ] || exit 7
printf '%s\n' "$METRICS" >"$2"
"#;

/// Only a gateway with a destination or with TLS has them, as other tests show.
const CONDITIONAL: [&str; 2] =
    ["fieldsync_gateway_destination_condition", "fieldsync_gateway_tls_certificate_expiry_timestamp_seconds"];

pub(crate) fn repository_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A daemon that has sent records to a gateway.
pub(crate) struct Traffic {
    daemon: Daemon,
    gateway: Gateway,
    _directory: tempfile::TempDir,
}

impl Traffic {
    pub(crate) fn produce() -> Self {
        let directory = directory();
        let gateway = Gateway::start(directory.path(), &[]);
        let daemon = Daemon::start(&Settings::for_server(&gateway.url()));
        daemon.enqueue(&[
            json!({"type": "Visits", "key": "k", "payload": {}}),
            json!({"type": "T", "payload": {"n": 1}}),
        ]);
        daemon.wait_until_done();
        gateway.get("/no/such/path");
        Self { daemon, gateway, _directory: directory }
    }

    pub(crate) fn device_metrics(&self) -> String {
        let response = self.daemon.get("/metrics");
        assert_eq!(response.status, 200);
        response.text()
    }

    pub(crate) fn gateway_metrics(&self) -> String {
        self.gateway.get("/metrics").text()
    }
}

/// The names of metrics in a query.
fn metric_names(text: &str) -> BTreeSet<String> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter: char| !is_name(letter))
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

/// Every query of the dashboard, of its panels and variables.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(query) if name == "expr" || name == "definition" => {
                        found.push(query.clone());
                    }
                    value => queries(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

/// A condition on a label: the metric, the label and one value of it.
type LabelValue = (String, String, String);

/// The conditions on labels in queries, each alternative of a pattern by itself.
fn label_values(text: &str) -> BTreeSet<LabelValue> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices('{') {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let metric = text[..at].rsplit(|letter| !is_name(letter)).next().unwrap_or_default();
        let Some((conditions, _)) = text[at + 1..].split_once('}') else { continue };
        if !PREFIXES.iter().any(|prefix| metric.starts_with(prefix)) {
            continue;
        }
        for condition in conditions.split("\",").filter(|condition| condition.contains('"')) {
            let (label, values) = condition.split_once('"').unwrap();
            let label = label.trim_matches(|letter| !is_name(letter));
            let values = values.trim_end_matches('"').split('|').filter(|value| !value.starts_with('$'));
            if !LABELS_OF_SCRAPES.contains(&label) {
                found.extend(values.map(|value| (metric.to_owned(), label.to_owned(), value.to_owned())));
            }
        }
    }
    found
}

fn read_file(name: &str) -> String {
    fs::read_to_string(repository_file(name)).unwrap()
}

#[test]
fn every_metric_of_the_rules_and_the_dashboard_exists() {
    let traffic = Traffic::produce();
    let mut known = MetricsText::parse(&traffic.device_metrics()).query_names();
    known.extend(MetricsText::parse(&traffic.gateway_metrics()).query_names());
    known.extend(CONDITIONAL.map(str::to_owned));
    let dashboard: Value = serde_json::from_str(&read_file(DASHBOARD)).unwrap();
    let mut of_dashboard = Vec::new();
    queries(&dashboard, &mut of_dashboard);
    let used: BTreeSet<String> =
        metric_names(&read_file(RULES)).union(&metric_names(&of_dashboard.join("\n"))).cloned().collect();
    assert!(used.len() >= 30, "{used:?}");
    let missing: Vec<&String> = used.difference(&known).collect();
    assert!(missing.is_empty(), "no program has {missing:?}; there are {known:?}");
}

#[test]
fn every_rule_has_a_summary_a_severity_and_a_remedy() {
    let rules = read_file(RULES);
    let rules: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(rules.len() >= 15);
    for rule in rules {
        for part in ["expr:", "severity:", "summary:", "remedy:"] {
            assert!(rule.contains(part), "{part} is missing: {rule}");
        }
    }
}

#[test]
fn the_dashboard_chooses_its_data_source_and_its_panels_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(&read_file(DASHBOARD)).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!(variables[0]["type"], "datasource");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut cells = BTreeSet::new();
    for panel in panels {
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(x < 24 && cells.insert((x, y)), "{} overlaps", panel["title"]);
            }
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
}

#[test]
fn every_label_value_of_the_rules_and_the_dashboard_exists() {
    let traffic = Traffic::produce();
    let known = traffic.device_metrics() + &traffic.gateway_metrics();
    let dashboard: Value = serde_json::from_str(&read_file(DASHBOARD)).unwrap();
    let mut queries_of_dashboard = Vec::new();
    queries(&dashboard, &mut queries_of_dashboard);
    let used = label_values(&(read_file(RULES) + &queries_of_dashboard.join("\n")));
    assert!(used.len() >= 20, "{used:?}");
    let is_known = |(metric, label, value): &&LabelValue| {
        let label = format!("{label}=\"{value}\"");
        CONDITIONAL.contains(&metric.as_str())
            || known.lines().any(|line| line.starts_with(&format!("{metric}{{")) && line.contains(&label))
    };
    let missing: Vec<&LabelValue> = used.iter().filter(|one| !is_known(one)).collect();
    assert!(missing.is_empty(), "no program has {missing:?}");
}

#[test]
fn the_recipe_of_the_textfile_collector_removes_the_file_when_the_daemon_does_not_respond() {
    let guide = read_file(GUIDE);
    let recipe = &guide[guide.find(RECIPE_START).unwrap() + "```sh\n".len()..];
    let recipe = &recipe[..recipe.find("```").unwrap()];
    let directory = directory();
    let (file, curl) = (directory.path().join("fieldsync.prom"), directory.path().join("curl"));
    fs::write(&curl, CURL).unwrap();
    fs::set_permissions(&curl, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(recipe.contains(RECIPE_FILE));
    let recipe = recipe.replace(RECIPE_FILE, file.to_str().unwrap());
    let path = format!("{}:/usr/bin:/bin", directory.path().display());
    let write = |metrics: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &recipe]).env("PATH", &path).env("METRICS", metrics);
        let ran = run(&mut shell, b"");
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    };
    write("# TYPE process_open_fds gauge\nprocess_open_fds 9\nfieldsync_queue_bytes 3");
    assert_eq!(fs::read_to_string(&file).unwrap(), "fieldsync_queue_bytes 3\n");
    write("");
    let left: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["curl"]);
}
