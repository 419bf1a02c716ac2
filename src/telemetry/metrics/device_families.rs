//! Families of the link, of the device, and of the process.

use super::family::{MetricFamily, MetricKind};
use super::sources::MetricSources;
use crate::model::{InterfaceKind, LinkState};
use crate::policy::alerts::facts::{CredentialExpiry, Validity};

const LINK_STATES: [LinkState; 4] =
    [LinkState::Unknown, LinkState::Online, LinkState::Offline, LinkState::CaptivePortal];
const INTERFACES: [InterfaceKind; 5] = [
    InterfaceKind::Ethernet,
    InterfaceKind::Wifi,
    InterfaceKind::Cellular,
    InterfaceKind::Loopback,
    InterfaceKind::Other,
];

pub(super) fn device_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let mut families = link_families(sources);
    families.extend(trust_families(sources));
    families.extend(information_families(sources));
    families.extend(process_families(sources));
    families
}

fn gauge(name: &'static str, help: &'static str) -> MetricFamily {
    MetricFamily::new(MetricKind::Gauge, name, help)
}

fn link_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let MetricSources { link, counters, .. } = sources;
    let network = counters.last_network;
    let interface = |kind: InterfaceKind| (kind.name(), link.interface == Some(kind));
    vec![
        gauge("fieldsync_online", "1 while the server can be reached").with(link.state == LinkState::Online),
        gauge("fieldsync_link_state", "1 for the state of the link to the server")
            .with_each("name", LINK_STATES.map(|state| (state.name(), link.state == state))),
        gauge("fieldsync_link_interface", "1 for the kind of the interface to the server")
            .with_each("name", INTERFACES.map(interface)),
        gauge("fieldsync_link_metered", "1 if the system says that traffic is metered")
            .with_known(link.metered),
        gauge("fieldsync_link_round_trip_seconds", "Round trip at the end of the last batch")
            .with_known(network.round_trip.map(|time| time.as_secs_f64())),
        gauge("fieldsync_link_signal_dbm", "Signal of the wireless network at the end of the last batch")
            .with_known(network.signal_dbm.map(f64::from)),
    ]
}

/// What ends trust: credentials that expire, and a clock that is wrong.
fn trust_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let CredentialExpiry { token, certificate } = sources.expiry;
    let end = |validity: Option<Validity>| validity.map(|validity| validity.ends / 1000);
    vec![
        gauge(
            "fieldsync_token_expiry_timestamp_seconds",
            "When the token expires, since 1970, if it says so",
        )
        .with_known(end(token)),
        gauge(
            "fieldsync_certificate_expiry_timestamp_seconds",
            "When the client certificate expires, since 1970",
        )
        .with_known(end(certificate)),
        gauge(
            "fieldsync_clock_offset_seconds",
            "Clock of the device minus that of the server, at the last response with a date",
        )
        .with_known(sources.clock_offset_ms.map(seconds_of)),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "an offset of years is exact")]
fn seconds_of(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn information_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let status = sources.status;
    let device = vec![("id", status.device_id.to_string()), ("name", status.device_name.clone())];
    let build = vec![("version", status.version.clone())];
    vec![
        MetricFamily::new(MetricKind::Info, "fieldsync_device", "The device").with_point(device, 1),
        MetricFamily::new(MetricKind::Info, "fieldsync_build", "The version of the daemon")
            .with_point(build, 1),
    ]
}

/// Under the names that the libraries of Prometheus use.
fn process_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let MetricSources { started_at, process, .. } = sources;
    vec![
        gauge("process_start_time_seconds", "When the process started, since 1970").with(*started_at / 1000),
        MetricFamily::new(MetricKind::Counter, "process_cpu_seconds", "User and system time of the process")
            .with_known(process.cpu.map(|time| time.as_secs_f64())),
        gauge("process_resident_memory_bytes", "Resident memory of the process")
            .with_known(process.resident_bytes),
        gauge("process_virtual_memory_bytes", "Virtual memory of the process")
            .with_known(process.virtual_bytes),
        gauge("process_open_fds", "Open file descriptors of the process").with_known(process.open_files),
        gauge("process_max_fds", "The limit of process_open_fds").with_known(process.open_files_max),
    ]
}
