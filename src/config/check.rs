//! What is impossible together, or would hurt. Every finding at once, so that a file is mended in one go.

use std::fmt;
use std::time::Duration;

use super::{Config, Reading};

/// One key that cannot be as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `section.key`
    pub key: &'static str,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

impl Config {
    /// Every impossible value.
    pub fn validate(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut refuse = |bad: bool, key: &'static str, reason: &str| {
            if bad {
                findings.push(Finding { key, reason: reason.to_owned() });
            }
        };
        self.check_server(&mut refuse);
        self.check_web(&mut refuse);
        self.check_connections(&mut refuse);
        self.check_numbers(&mut refuse);
        self.check_together(&mut refuse);
        findings
    }

    fn check_server(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        let url = self.server.url.as_str();
        if !url.is_empty() {
            match url::Url::parse(url) {
                Ok(parsed) => {
                    refuse(
                        !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host(),
                        "server.url",
                        "must be http://HOST or https://HOST",
                    );
                    refuse(
                        !parsed.username().is_empty() || parsed.password().is_some(),
                        "server.url",
                        "must not hold a user or password: use server.token_file",
                    );
                    refuse(
                        parsed.query().is_some() || parsed.fragment().is_some(),
                        "server.url",
                        "must not hold a query or a fragment",
                    );
                }
                Err(error) => refuse(true, "server.url", &format!("is no URL: {error}")),
            }
        }
        self.check_proxy(refuse);
        refuse(!self.server.path.starts_with('/'), "server.path", "must begin with /");
        refuse(self.server.path.parse::<awc::http::Uri>().is_err(), "server.path", "is no path of a URL");
        refuse(
            self.server.client_cert_file.is_some() != self.server.client_key_file.is_some(),
            "server.client_key_file",
            "a client certificate needs both client_cert_file and client_key_file",
        );
    }

    fn check_proxy(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        if matches!(self.server.proxy.as_str(), "auto" | "none") {
            return;
        }
        let Ok(proxy) = url::Url::parse(&self.server.proxy) else {
            return refuse(true, "server.proxy", "must be auto, none, or a URL such as http://HOST:PORT");
        };
        refuse(
            !matches!(proxy.scheme(), "http" | "https") || !proxy.has_host(),
            "server.proxy",
            "must be http://HOST:PORT or https://HOST:PORT: other kinds of proxies cannot be used",
        );
        refuse(
            !proxy.username().is_empty() || proxy.password().is_some(),
            "server.proxy",
            "must not hold a user or password: use server.proxy_credential_file",
        );
        refuse(
            proxy.path() != "/" || proxy.query().is_some() || proxy.fragment().is_some(),
            "server.proxy",
            "must not hold more than a scheme, a host and a port",
        );
    }

    fn check_web(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        let web = &self.web;
        refuse(
            !web.listen.is_empty() && web.address().is_none(),
            "web.listen",
            "must be an address and a port such as 127.0.0.1:7077, or empty for no page",
        );
        refuse(
            web.address().is_some_and(|address| !address.ip().is_loopback()),
            "web.listen",
            "must be an address of this device alone, 127.0.0.1 or [::1]: the page is not encrypted",
        );
        refuse(
            web.reading == Reading::Token && web.token_file.is_none(),
            "web.reading",
            "is \"token\", and nobody could read: web.token_file names no file",
        );
    }

    /// Every connection may take a place, a descriptor and some memory: more than these are no limit.
    fn check_connections(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        let most = format!("must be at most {MAX_CONNECTIONS}: each takes a descriptor and some memory");
        for (key, connections, least) in [
            (
                "web.max_connections",
                self.web.max_connections,
                "must be at least 2: half of them may follow what happens",
            ),
            (
                "ipc.max_connections",
                self.ipc.max_connections,
                "must be at least 2: one that follows what happens, and one for calls",
            ),
        ] {
            refuse(connections < 2, key, least);
            refuse(connections > MAX_CONNECTIONS, key, &most);
        }
        refuse(self.ipc.max_event_streams > MAX_CONNECTIONS, "ipc.max_event_streams", &most);
    }

    fn check_numbers(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        for (key, span) in [
            ("server.connect_timeout", self.server.connect_timeout),
            ("server.stall_timeout", self.server.stall_timeout),
            ("server.send_timeout", self.server.send_timeout),
            ("server.request_timeout", self.server.request_timeout),
            ("server.answer_timeout", self.server.answer_timeout),
            ("retry.initial_backoff", self.retry.initial_backoff),
            ("breaker.open_min", self.breaker.open_min),
            ("connectivity.probe_interval", self.connectivity.probe_interval),
            ("ipc.stall_timeout", self.ipc.stall_timeout),
            ("telemetry.window", self.telemetry.window),
        ] {
            refuse(span.0 == Duration::ZERO, key, "must be longer than nothing");
        }
        for (key, number) in [
            ("server.max_answer_bytes", self.server.max_answer_bytes.0),
            ("queue.max_records", self.queue.max_records),
            ("queue.max_bytes", self.queue.max_bytes.0),
            ("queue.max_record_bytes", self.queue.max_record_bytes.0),
            ("batch.large_queue_batch", self.batch.large_queue_batch as u64),
            ("batch.large_payload_batch", self.batch.large_payload_batch as u64),
            ("batch.standard_batch", self.batch.standard_batch as u64),
            ("batch.micro_batch", self.batch.micro_batch as u64),
            ("batch.max_batch_records", self.batch.max_batch_records as u64),
            ("batch.max_batch_bytes", self.batch.max_batch_bytes.0),
            ("retry.quarantine_after", u64::from(self.retry.quarantine_after)),
            ("breaker.micro_after", u64::from(self.breaker.micro_after)),
            ("breaker.open_after", u64::from(self.breaker.open_after)),
            ("breaker.close_after", u64::from(self.breaker.close_after)),
            ("ipc.max_event_streams", self.ipc.max_event_streams as u64),
            ("ipc.max_request_bytes", self.ipc.max_request_bytes.0),
        ] {
            refuse(number == 0, key, "must be at least 1");
        }
        for (key, percent) in [
            ("connectivity.min_battery_percent", self.connectivity.min_battery_percent),
            ("telemetry.alert_queue_percent", self.telemetry.alert_queue_percent),
        ] {
            refuse(percent > 100, key, "must be at most 100");
        }
    }

    fn check_together(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        for (key, size) in [
            ("batch.standard_batch", self.batch.standard_batch),
            ("batch.large_queue_batch", self.batch.large_queue_batch),
            ("batch.large_payload_batch", self.batch.large_payload_batch),
            ("batch.max_batch_records", self.batch.max_batch_records),
        ] {
            refuse(size > MAX_BATCH_RECORDS, key, "must be at most 10000");
            refuse(
                self.batch.micro_batch > size,
                "batch.micro_batch",
                &format!("must not be larger than {key}"),
            );
        }
        refuse(
            !(0.0..1.0).contains(&self.batch.safety_margin),
            "batch.safety_margin",
            "must be at least 0 and below 1",
        );
        refuse(
            self.retry.max_backoff < self.retry.initial_backoff,
            "retry.max_backoff",
            "must not be shorter than retry.initial_backoff",
        );
        refuse(
            self.breaker.open_max < self.breaker.open_min,
            "breaker.open_max",
            "must not be shorter than breaker.open_min",
        );
        refuse(
            self.queue.max_record_bytes > self.queue.max_bytes,
            "queue.max_record_bytes",
            "must not be larger than queue.max_bytes",
        );
        refuse(
            self.queue.max_record_bytes > self.ipc.max_request_bytes,
            "queue.max_record_bytes",
            "must not be larger than ipc.max_request_bytes",
        );
        refuse(
            self.log.level.parse::<tracing_subscriber::filter::Targets>().is_err(),
            "log.level",
            "must be error, warn, info, debug or trace, or a filter such as \"info,fieldsync::store=debug\"",
        );
    }
}

/// More than a process has descriptors for, and less than what counts them can take.
const MAX_CONNECTIONS: usize = 65_536;

/// A batch's members are named in one row of the store, which should stay small.
const MAX_BATCH_RECORDS: usize = 10_000;
