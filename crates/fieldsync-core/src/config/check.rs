//! Checks which values and combinations of values are allowed. Reports all mistakes at once.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use super::address::{read_collector_url, read_proxy_url, read_server_url};
use super::invalid_value::InvalidValue;
use super::level::read_log_filter;
use super::texts::check_texts;
use super::{CommandLine, Config, Reading};
use crate::model::DEVICE_NAME_LENGTH_MAX;

impl Config {
    /// Returns all values that are not allowed.
    pub fn validate(&self) -> Vec<InvalidValue> {
        let mut invalid = check_texts(self);
        let mut refuse = |bad: bool, key: &'static str, reason: &str| {
            // One reason for each key is enough: for an empty text, also reporting an invalid address is redundant.
            if bad && !invalid.iter().any(|value| value.key == key) {
                invalid.push(InvalidValue { key: key.to_owned(), reason: reason.to_owned() });
            }
        };
        self.check_server(&mut refuse);
        self.check_telemetry(&mut refuse);
        self.check_paths(&mut refuse);
        self.check_device(&mut refuse);
        self.check_web(&mut refuse);
        self.check_connections(&mut refuse);
        self.check_numbers(&mut refuse);
        self.check_alerts(&mut refuse);
        self.check_combinations(&mut refuse);
        invalid
    }

    fn check_server(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        if !self.server.url.is_empty()
            && let Err(reason) = read_server_url(&self.server.url)
        {
            refuse(true, "server.url", &reason);
        }
        if !matches!(self.server.proxy.as_str(), "auto" | "none")
            && let Err(reason) = read_proxy_url(&self.server.proxy)
        {
            refuse(true, "server.proxy", &reason);
        }
        let path = self.server.path.as_str();
        refuse(!path.starts_with('/'), "server.path", "must begin with /");
        // An outcome query appends the id of a batch to it.
        let as_path = path.parse::<http02::Uri>().ok().filter(|uri| uri.path() == path && path.is_ascii());
        refuse(
            as_path.is_none(),
            "server.path",
            "must be the path of a URL in ASCII, without a query or a fragment",
        );
        refuse(
            self.server.client_cert_file.is_some() != self.server.client_key_file.is_some(),
            "server.client_key_file",
            "a client certificate needs both client_cert_file and client_key_file",
        );
    }

    fn check_telemetry(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        if !self.telemetry.otlp_url.is_empty()
            && let Err(reason) = read_collector_url(&self.telemetry.otlp_url)
        {
            refuse(true, "telemetry.otlp_url", &reason);
        }
    }

    fn check_paths(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        let fits = |path: &Path| path.iter().all(|name| name.len() <= NAME_BYTES_MAX);
        refuse(
            self.queue.state_dir.as_deref().is_some_and(|path| !fits(path)),
            "queue.state_dir",
            &format!("must not contain a name with more than {NAME_BYTES_MAX} bytes"),
        );
        let socket = self.ipc.socket.as_deref().map_or(0, |path| path.as_os_str().as_bytes().len());
        refuse(
            socket > SOCKET_PATH_BYTES_MAX,
            "ipc.socket",
            &format!(
                "must have at most {SOCKET_PATH_BYTES_MAX} bytes: the kernel accepts no longer path for a socket"
            ),
        );
    }

    fn check_device(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        let name = self.device.name.as_deref().unwrap_or("unset");
        let is_printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        refuse(
            name.len() > DEVICE_NAME_LENGTH_MAX || !name.bytes().all(is_printable),
            "device.name",
            &format!("must have at most {DEVICE_NAME_LENGTH_MAX} characters, all of them printable ASCII"),
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
            "is \"token\", but web.token_file names no file, so that reading would be impossible",
        );
    }

    /// Each connection uses a file descriptor and some memory, so their number needs a limit.
    fn check_connections(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        let most = format!("must be at most {CONNECTIONS_MAX}: each takes a descriptor and some memory");
        for (key, connections, least) in [
            (
                "web.max_connections",
                self.web.max_connections,
                "must be at least 2: half of them may follow events",
            ),
            (
                "ipc.max_connections",
                self.ipc.max_connections,
                "must be at least 2: one to follow events, and one for calls",
            ),
        ] {
            refuse(connections < 2, key, least);
            refuse(connections > CONNECTIONS_MAX, key, &most);
        }
        refuse(self.ipc.max_event_streams > CONNECTIONS_MAX, "ipc.max_event_streams", &most);
    }

    fn check_numbers(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        for (key, duration) in [
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
            ("telemetry.otlp_interval", self.telemetry.otlp_interval),
        ] {
            refuse(duration.0 < DURATION_MIN, key, "must be at least 1ms");
        }
        let most = "must be at most 90 days: older measurements are not kept";
        refuse(self.telemetry.window.0 > TELEMETRY_WINDOW_MAX, "telemetry.window", most);
        for (key, number) in [
            ("server.max_answer_bytes", self.server.max_answer_bytes.0),
            ("queue.max_records", self.queue.max_records),
            ("queue.max_bytes", self.queue.max_bytes.0),
            ("queue.max_disk_bytes", self.queue.max_disk_bytes.0),
            ("queue.max_record_bytes", self.queue.max_record_bytes.0),
            ("batch.large_queue_batch", self.batch.large_queue_batch as u64),
            ("batch.large_payload_batch", self.batch.large_payload_batch as u64),
            ("batch.standard_batch", self.batch.standard_batch as u64),
            ("batch.micro_batch", self.batch.micro_batch as u64),
            ("batch.max_batch_records", self.batch.max_batch_records as u64),
            ("batch.max_batch_bytes", self.batch.max_batch_bytes.0),
            ("batch.max_in_flight", self.batch.max_in_flight as u64),
            ("retry.quarantine_after", u64::from(self.retry.quarantine_after)),
            ("breaker.micro_after", u64::from(self.breaker.micro_after)),
            ("breaker.open_after", u64::from(self.breaker.open_after)),
            ("breaker.close_after", u64::from(self.breaker.close_after)),
            ("ipc.max_event_streams", self.ipc.max_event_streams as u64),
            ("ipc.max_request_bytes", self.ipc.max_request_bytes.0),
        ] {
            refuse(number == 0, key, "must be at least 1");
        }
        let most = format!("must be at most {IN_FLIGHT_MAX}");
        refuse(self.batch.max_in_flight > IN_FLIGHT_MAX, "batch.max_in_flight", &most);
        for (key, percent) in [
            ("connectivity.min_battery_percent", self.connectivity.min_battery_percent),
            ("telemetry.alert_queue_percent", self.telemetry.alert_queue_percent),
            ("telemetry.alert_ambiguous_percent", self.telemetry.alert_ambiguous_percent),
        ] {
            refuse(percent > 100, key, "must be at most 100");
        }
    }

    fn check_alerts(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        let telemetry = &self.telemetry;
        for (key, duration) in [
            ("telemetry.alert_oldest_pending", telemetry.alert_oldest_pending),
            ("telemetry.alert_breaker_open", telemetry.alert_breaker_open),
            ("telemetry.alert_no_contact", telemetry.alert_no_contact),
            ("telemetry.alert_clock_offset", telemetry.alert_clock_offset),
            ("telemetry.alert_credential_expiry", telemetry.alert_credential_expiry),
        ] {
            let is_too_short = !duration.0.is_zero() && duration.0 < DURATION_MIN;
            refuse(is_too_short, key, "must be at least 1ms, or 0s for no alert");
        }
        let most = format!("must be at most {ALERT_RESTARTS_MAX}");
        refuse(telemetry.alert_restarts > ALERT_RESTARTS_MAX, "telemetry.alert_restarts", &most);
        let timeout = telemetry.alert_command_timeout.0;
        refuse(timeout < DURATION_MIN, "telemetry.alert_command_timeout", "must be at least 1ms");
        refuse(
            timeout > ALERT_COMMAND_TIMEOUT_MAX,
            "telemetry.alert_command_timeout",
            "must be at most 1h: other alerts wait meanwhile",
        );
        if let Some(Err(reason)) = telemetry.alert_command.as_ref().map(CommandLine::check) {
            refuse(true, "telemetry.alert_command", &reason);
        }
    }

    fn check_combinations(&self, refuse: &mut impl FnMut(bool, &'static str, &str)) {
        for (key, size) in [
            ("batch.standard_batch", self.batch.standard_batch),
            ("batch.large_queue_batch", self.batch.large_queue_batch),
            ("batch.large_payload_batch", self.batch.large_payload_batch),
            ("batch.max_batch_records", self.batch.max_batch_records),
        ] {
            refuse(size > BATCH_RECORDS_MAX, key, "must be at most 10000");
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
            self.queue.max_record_bytes > self.queue.max_disk_bytes,
            "queue.max_record_bytes",
            "must not be larger than queue.max_disk_bytes",
        );
        refuse(
            !(self.queue.max_user_share > 0.0 && self.queue.max_user_share <= 1.0),
            "queue.max_user_share",
            "must be above 0 and at most 1",
        );
        refuse(
            self.queue.max_record_bytes > self.ipc.max_request_bytes,
            "queue.max_record_bytes",
            "must not be larger than ipc.max_request_bytes",
        );
        if let Err(error) = read_log_filter(&self.log.level) {
            refuse(true, "log.level", &error.to_string());
        }
    }
}

/// More than the file descriptors of a process.
const CONNECTIONS_MAX: usize = 65_536;

/// The daemon remembers no more starts than this needs.
const ALERT_RESTARTS_MAX: u32 = 100;
/// Alerts are handed over one at a time.
const ALERT_COMMAND_TIMEOUT_MAX: Duration = Duration::from_hours(1);

/// Telemetry keeps this many days.
const TELEMETRY_WINDOW_MAX: Duration = Duration::from_hours(90 * 24);
/// The resolution of timers.
const DURATION_MIN: Duration = Duration::from_millis(1);
/// The limit of file systems (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;
/// The limit of a socket's address (`sun_path`) without the final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Keeps rows of the store small: one row names all records of a batch.
const BATCH_RECORDS_MAX: usize = 10_000;

/// Each batch under way takes a connection, and up to twice `max_batch_bytes` of memory.
const IN_FLIGHT_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;

    #[test]
    fn a_window_of_telemetry_beyond_the_days_that_are_kept_is_refused() {
        let mut config = Config::default();
        for (days, is_refused) in [(7, false), (90, false), (91, true), (365, true)] {
            config.telemetry.window = Span::secs(days * 24 * 3600);
            let invalid = config.validate();
            let found = invalid.iter().find(|value| value.key == "telemetry.window");
            assert_eq!(found.is_some_and(|value| value.reason.contains("90 days")), is_refused, "{days}");
        }
    }
}
