//! What the page needs to say in its own language what is going on: `sync.text` and `sync.remedy` are English.
//!
//! The page has a text for each `sync.reason`, and for some reasons further ones for single causes: variants. The texts say
//! the same as [`crate::policy::advice`].

use serde::Serialize;

use crate::api::{BatchOutcome, Status, SyncReason};
use crate::clock::{as_rfc3339_option, wall_ms};
use crate::ipc::status::StatusSources;
use crate::model::{ConnectFailure, InterfaceKind, Phase};
use crate::policy::advice::{CredentialFacts, DeviceFacts, REVIEW, ServerName};

/// The keys of all variants. The text of a reason without a variant is for its other causes.
#[cfg(test)]
pub(super) const VARIANTS: [&str; 22] = [
    "nothing_to_send.all",
    "nothing_to_send.some",
    "server_down.refused",
    "server_down.no_response",
    "tls.expired",
    "tls.untrusted",
    "tls.explained",
    "login_page.wifi",
    "login_page.other_site",
    "server_busy.processing",
    "connection_lost.too_slow",
    "connection_lost.closed",
    "paused.by",
    "paused.until",
    "paused.by_until",
    "auth_required.local",
    "auth_required.none",
    "auth_required.token",
    "auth_required.certificate",
    "misconfigured.local",
    "misconfigured.not_http",
    "no_server.idle",
];

/// What the texts contain besides the numbers of the status.
#[derive(Serialize)]
pub(super) struct SituationFacts {
    variant: Option<&'static str>,
    /// `crm.example.com`
    host: Option<String>,
    /// `crm.example.com:443`
    address: Option<String>,
    url: Option<String>,
    /// Of the response because of which records wait.
    http_status: Option<u16>,
    /// Whether the remedy is to decide about records that need review.
    asks_for_review: bool,
    /// Records that the server confirmed in this run.
    synced: u64,
    #[serde(with = "as_rfc3339_option")]
    sent_at: Option<u64>,
    limit_s: u64,
    paused_by: Option<String>,
    #[serde(with = "as_rfc3339_option")]
    paused_until: Option<u64>,
    config_path: String,
}

impl SituationFacts {
    pub(super) fn new(sources: &StatusSources, status: &Status) -> Self {
        let snapshot = sources.snapshot();
        let device = snapshot.device_facts(wall_ms());
        let synced = snapshot.progress().synced;
        let reason = status.sync.reason.known();
        let server = device.server;
        Self {
            variant: reason.and_then(|reason| find_variant(reason, &device, status.sync.total, synced)),
            host: server.map(|server| server.host().to_owned()),
            address: server.map(ServerName::host_and_port),
            url: server.map(|server| server.url.to_owned()),
            http_status: device.planner.last_failure.and_then(|error| error.http_status),
            asks_for_review: status.sync.remedy.as_ref().is_some_and(|remedy| remedy.starts_with(REVIEW)),
            synced,
            sent_at: device.planner.sent_at,
            limit_s: device.planner.time_limit_ms.div_ceil(1000),
            paused_by: device.paused_by.map(str::to_owned),
            paused_until: device.backlog.pause.and_then(|pause| pause.until),
            config_path: device.config_path.display().to_string(),
        }
    }
}

fn find_variant(
    reason: SyncReason,
    device: &DeviceFacts<'_>,
    total: u64,
    synced: u64,
) -> Option<&'static str> {
    let failure = device.link.failure.unwrap_or_default();
    let failed_as = |outcome: BatchOutcome| {
        device.planner.last_failure.is_some_and(|error| error.class == outcome.to_string())
    };
    let is_local = device.planner.is_local_error;
    match reason {
        SyncReason::NothingToSend if total == 0 => None,
        SyncReason::NothingToSend if synced < total => Some("some"),
        SyncReason::NothingToSend => Some("all"),
        SyncReason::ServerDown => match failure {
            ConnectFailure::Refused => Some("refused"),
            ConnectFailure::NoResponse => Some("no_response"),
            _ => None,
        },
        SyncReason::Tls => match failure {
            ConnectFailure::CertificateExpired => Some("expired"),
            ConnectFailure::CertificateNotTrusted => Some("untrusted"),
            ConnectFailure::TlsExplained(_) => Some("explained"),
            _ => None,
        },
        SyncReason::LoginPage if device.planner.phase != Phase::Offline => Some("other_site"),
        SyncReason::LoginPage if matches!(device.link.interface, None | Some(InterfaceKind::Wifi)) => {
            Some("wifi")
        }
        SyncReason::ServerBusy if failed_as(BatchOutcome::Processing) => Some("processing"),
        SyncReason::ConnectionLost if failed_as(BatchOutcome::LinkTooSlow) => Some("too_slow"),
        SyncReason::ConnectionLost if failure == ConnectFailure::Closed => Some("closed"),
        SyncReason::Paused => {
            let until = device.backlog.pause.and_then(|pause| pause.until);
            match (device.paused_by, until) {
                (None, None) => None,
                (Some(_), None) => Some("by"),
                (None, Some(_)) => Some("until"),
                (Some(_), Some(_)) => Some("by_until"),
            }
        }
        SyncReason::AuthRequired | SyncReason::Misconfigured if is_local => Some("local"),
        SyncReason::AuthRequired => match device.credential {
            CredentialFacts { has_token: false, has_certificate: false } => Some("none"),
            CredentialFacts { has_token: true, has_certificate: false } => Some("token"),
            CredentialFacts { has_token: false, has_certificate: true } => Some("certificate"),
            CredentialFacts { has_token: true, has_certificate: true } => None,
        },
        SyncReason::Misconfigured
            if failure == ConnectFailure::NotHttp && !failed_as(BatchOutcome::Misconfigured) =>
        {
            Some("not_http")
        }
        SyncReason::NoServer if device.backlog.to_go() == 0 => Some("idle"),
        _ => None,
    }
}
