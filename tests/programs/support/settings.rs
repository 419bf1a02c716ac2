//! Configuration files of the daemon, key by key.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Timings that suit tests; each can be overridden.
const SHORT: [(&str, &str); 18] = [
    // Longer than the delays of a busy machine.
    ("server.connect_timeout", "10s"),
    ("server.request_timeout", "2s"),
    ("server.compression", "none"),
    ("batch.learn", "false"),
    // Most tests follow one batch after the other.
    ("batch.max_in_flight", "1"),
    ("retry.initial_backoff", "20ms"),
    ("retry.max_backoff", "200ms"),
    ("breaker.open_min", "50ms"),
    ("breaker.open_max", "200ms"),
    ("connectivity.probe_interval", "100ms"),
    ("connectivity.return_jitter", "0s"),
    ("queue.disk_reserve", "1MiB"),
    ("log.target", "stderr"),
    ("log.level", "debug"),
    ("batch.micro_batch", "10"),
    ("retry.quarantine_after", "3"),
    ("telemetry.alert_quarantined", "1"),
    // Most tests count the requests that a server gets.
    ("fleet.heartbeat", "0s"),
];

/// The content of a configuration file.
#[derive(Clone)]
pub(crate) struct Settings(BTreeMap<String, String>);

impl Default for Settings {
    fn default() -> Self {
        Self(SHORT.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    }
}

impl Settings {
    /// Settings for this server.
    pub(crate) fn for_server(url: &str) -> Self {
        Self::default().with("server.url", url)
    }

    /// Sets `section.key`.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.0.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets `section.key` unless it is set.
    pub(crate) fn or(mut self, key: &str, value: &str) -> Self {
        self.0.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        self
    }

    /// Batches of exactly one size while nothing fails.
    pub(crate) fn batches_of(self, records: usize) -> Self {
        let size = records.to_string();
        let micro = records.min(10).to_string();
        self.with("batch.standard_batch", &size)
            .with("batch.large_queue_batch", &size)
            .with("batch.large_payload_batch", &size)
            .with("batch.micro_batch", &micro)
    }

    /// Writes the file.
    pub(crate) fn toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for (name, value) in &self.0 {
            let (of, key) = name.split_once('.').unwrap();
            if of != section {
                writeln!(text, "[{of}]").unwrap();
                section = of;
            }
            let plain = value.parse::<f64>().is_ok() || matches!(value.as_str(), "true" | "false");
            if plain {
                writeln!(text, "{key} = {value}").unwrap();
            } else {
                writeln!(text, "{key} = {value:?}").unwrap();
            }
        }
        text
    }
}
