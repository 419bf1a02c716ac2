//! What the daemon reports: status, telemetry, batches, configuration, metrics and recent alerts. Fetched as they are,
//! with the fields of newer daemons, and redacted later.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::part::BundlePart;
use super::redaction::document::{redact_configuration, redact_document};
use super::redaction::field_names::is_command_setting;
use super::redaction::key_hash::KeyHasher;
use super::redaction::known_secrets::KnownStrings;
use super::redaction::text::{TextRedactor, redact_code};
use crate::api::Configuration;
use crate::client::{Client, ServerSentEvent, decode_json};
use crate::config_file::ConfigLocation;

/// A healthy daemon responds at once.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The stream of events has no end: what was stored arrives without a pause,
const EVENTS_PAUSE: Duration = Duration::from_millis(500);
/// and a daemon at work may send new events without a pause, too.
const EVENTS_TIMEOUT: Duration = Duration::from_secs(5);
const EVENTS_MAX: usize = 20_000;
/// No event has this id, so that the daemon sends all that it keeps.
const BEFORE_ALL_EVENTS: &str = "00000000-0";
const ALERT_EVENT: &str = "alert";

/// Responses of the daemon, or why there is none.
pub(super) struct DaemonDocuments {
    pub(super) status: Result<Value, String>,
    telemetry: Result<Value, String>,
    batches: Result<Value, String>,
    configuration: Result<Value, String>,
    metrics: Result<String, String>,
    alert_events: Result<Vec<Value>, String>,
}

impl DaemonDocuments {
    /// Asks the daemon for all of them at once, so that their time limits do not add up.
    pub(super) async fn fetch(client: &Client) -> Self {
        let (status, telemetry, batches, configuration, metrics, alert_events) = tokio::join!(
            fetch_json(client, "/v1/status"),
            fetch_json(client, "/v1/telemetry"),
            fetch_json(client, "/v1/batches"),
            fetch_json(client, "/v1/configuration"),
            fetch_text(client, "/metrics"),
            fetch_alert_events(client),
        );
        Self { status, telemetry, batches, configuration, metrics, alert_events }
    }

    /// Without a daemon, the files of the configuration are left.
    pub(super) fn without_daemon(reason: &str, config: &ConfigLocation) -> Self {
        let missing = || Err(reason.to_owned());
        let loaded = config.load().map_err(|error| format!("{error}"));
        let configuration = loaded.and_then(|loaded| {
            serde_json::to_value(Configuration::new(&loaded.config, &loaded.sources, None))
                .map_err(|error| error.to_string())
        });
        Self {
            status: missing(),
            telemetry: missing(),
            batches: missing(),
            configuration,
            metrics: Err(reason.to_owned()),
            alert_events: Err(reason.to_owned()),
        }
    }

    /// What the server said of whole requests, the keys of records that block others, and the program's own words.
    pub(super) fn add_known_strings(&self, known: &mut KnownStrings) {
        for document in [&self.status, &self.batches].into_iter().flatten() {
            add_strings_of(document, known);
        }
        for event in self.alert_events.iter().flatten() {
            add_strings_of(event, known);
        }
        let documents = [&self.status, &self.telemetry, &self.batches, &self.configuration];
        documents.into_iter().flatten().for_each(|document| known.add_field_names(document));
        for setting in self.configuration.iter().flat_map(settings_of) {
            let name = setting["key"].as_str().unwrap_or_default();
            known.add_program_text(name);
            if is_command_setting(name) {
                known.add_command(&setting["value"]);
            }
        }
        // Comments describe the metrics; labels of the others may hold anything.
        for line in self.metrics.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with('#')) {
            known.add_program_text(line);
        }
    }

    pub(super) fn into_parts(self, hasher: &KeyHasher, texts: &TextRedactor) -> Vec<BundlePart> {
        let redacted = |document: Result<Value, String>| {
            document.map(|mut document| {
                redact_document(&mut document, hasher, texts);
                (indent(&document), None)
            })
        };
        let alerts = redacted(join_alerts(&self.status, self.alert_events));
        let configuration = self.configuration.map(|mut configuration| {
            redact_configuration(&mut configuration, texts);
            (indent(&configuration), None)
        });
        let with_texts = |reason: String| texts.redact(&reason);
        vec![
            BundlePart::new("status.json", "GET /v1/status: what the daemon does now", redacted(self.status)),
            BundlePart::new("alerts.json", "active alerts, and those of recent events", alerts),
            BundlePart::new(
                "telemetry.json",
                "GET /v1/telemetry: measurements of the last days",
                redacted(self.telemetry),
            ),
            BundlePart::new(
                "batches.json",
                "GET /v1/batches: recent batches and their outcomes",
                redacted(self.batches),
            ),
            BundlePart::new(
                "metrics.txt",
                "GET /metrics",
                self.metrics.map(|text| (texts.redact_metrics(&text), None)),
            ),
            BundlePart::new(
                "configuration.json",
                "every setting and its source; without a daemon, what the files say",
                configuration.map_err(with_texts),
            ),
        ]
    }
}

async fn fetch_text(client: &Client, path: &str) -> Result<String, String> {
    let response = timeout(RESPONSE_TIMEOUT, client.get(path)).await;
    let body = response
        .map_err(|_| format!("the daemon did not respond within {} s", RESPONSE_TIMEOUT.as_secs()))?
        .map_err(|error| error.to_string())?;
    String::from_utf8(body.into()).map_err(|_| "the response is not text".to_owned())
}

pub(super) async fn fetch_json(client: &Client, path: &str) -> Result<Value, String> {
    let text = fetch_text(client, path).await?;
    decode_json(text.as_bytes()).map_err(|error| error.to_string())
}

async fn fetch_alert_events(client: &Client) -> Result<Vec<Value>, String> {
    let opened = timeout(RESPONSE_TIMEOUT, client.events_after(Some(BEFORE_ALL_EVENTS))).await;
    let mut events = opened
        .map_err(|_| "the daemon did not respond in time".to_owned())?
        .map_err(|error| error.to_string())?;
    Ok(collect_alerts(async || events.next().await.ok().flatten(), EVENTS_TIMEOUT).await)
}

/// Ends at the first pause, or after the limit.
async fn collect_alerts(
    mut next: impl AsyncFnMut() -> Option<ServerSentEvent>,
    limit: Duration,
) -> Vec<Value> {
    let deadline = Instant::now() + limit;
    let mut alerts = Vec::new();
    for _ in 0..EVENTS_MAX {
        let pause_end = deadline.min(Instant::now() + EVENTS_PAUSE);
        let Ok(Some(event)) = timeout_at(pause_end, next()).await else { break };
        if event.name == ALERT_EVENT {
            alerts.extend(serde_json::from_str::<Value>(&event.data).ok());
        }
        // An event that is ready counts as in time.
        if Instant::now() >= deadline {
            break;
        }
    }
    alerts
}

/// Active alerts are known from the status, recent ones from events.
fn join_alerts(status: &Result<Value, String>, events: Result<Vec<Value>, String>) -> Result<Value, String> {
    let status = status.as_ref().map_err(Clone::clone)?;
    let (recent, missing) = match events {
        Ok(events) => (events, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    Ok(json!({"active": status["alerts"], "recent": recent, "recent_missing": missing}))
}

fn indent(document: &Value) -> String {
    format!("{document:#}\n")
}

fn settings_of(configuration: &Value) -> impl Iterator<Item = &Value> {
    configuration["values"].as_array().into_iter().flatten()
}

/// Finds keys and messages at every depth.
fn add_strings_of(value: &Value, known: &mut KnownStrings) {
    match value {
        Value::Object(fields) => {
            add_strings_of_record(fields, known);
            fields.values().for_each(|value| add_strings_of(value, known));
        }
        Value::Array(values) => values.iter().for_each(|value| add_strings_of(value, known)),
        _ => {}
    }
}

/// The key of a record, and the message and code of an error.
pub(super) fn add_strings_of_record(fields: &Map<String, Value>, known: &mut KnownStrings) {
    if let Some(key) = fields.get("key").and_then(Value::as_str) {
        known.add_key(key);
    }
    for error in ["last_error", "error"].iter().filter_map(|name| fields.get(*name)) {
        // Messages of the daemon itself have no status: they name files and addresses, and quote no record.
        let is_of_server = !error["http_status"].is_null();
        if let Some(message) = error["message"].as_str().filter(|_| is_of_server) {
            known.add_message(message);
        }
        if let Some(code) = error["code"].as_str().filter(|code| redact_code(code) != *code) {
            known.add_message(code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_of_events_that_never_pauses_is_read_until_the_deadline() {
        let alert = || ServerSentEvent { name: ALERT_EVENT.to_owned(), id: None, data: "{}".to_owned() };
        let alerts = collect_alerts(async || Some(alert()), Duration::ZERO).await;
        assert_eq!(alerts.len(), 1);
        let mut stored = vec![alert(), alert()];
        let alerts = collect_alerts(async || stored.pop(), EVENTS_TIMEOUT).await;
        assert_eq!(alerts.len(), 2);
    }
}
