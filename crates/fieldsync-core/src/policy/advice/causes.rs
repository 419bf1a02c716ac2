//! Why the device does not send although records wait, and what to do about it.

use super::{DeviceFacts, PlannerFacts, REVIEW, ServerName};
use crate::api::{BatchOutcome, SyncReason};
use crate::clock::{minute_text, weekday_text};
use crate::model::{ConnectFailure, Deferral, InterfaceKind, LastError, LinkState, Phase, WaitCause};

/// What ends by itself.
const BY_ITSELF: &str = "nothing, it is tried again by itself; to try now: fieldsync sync";
const ADMINISTRATOR: &str =
    "wait; if it lasts, tell the administrator of the server. To try now: fieldsync sync";

/// What keeps the device from sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// For programs.
    pub reason: SyncReason,
    /// What is wrong, without an end: the number of records follows.
    pub headline: String,
    /// Why, in whole sentences; empty if the headline says all.
    pub detail: String,
    /// What a person can do.
    pub remedy: Option<String>,
}

impl Obstacle {
    fn new(
        reason: SyncReason,
        headline: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            reason,
            headline: headline.into(),
            detail: detail.into(),
            remedy: Some(remedy.into()).filter(|remedy| !remedy.is_empty()),
        }
    }

    /// As whole sentences, without the number of records.
    pub(in crate::policy) fn text(&self) -> String {
        let Self { headline, detail, .. } = self;
        if detail.is_empty() { format!("{headline}.") } else { format!("{headline}. {detail}") }
    }
}

/// What keeps the device from sending, if anything does.
pub(in crate::policy) fn find_obstacle(device: &DeviceFacts<'_>) -> Option<Obstacle> {
    match device.planner.phase {
        Phase::Idle | Phase::Syncing => None,
        Phase::Waiting => Some(find_wait(device)),
        Phase::Offline => Some(find_link_fault(device)),
        Phase::Paused => Some(describe_pause(device)),
        Phase::Deferred => Some(describe_deferral(device)),
        Phase::AuthRequired => Some(describe_refused_token(&device.planner)),
        Phase::Misconfigured => Some(describe_wrong_configuration(device)),
    }
}

fn describe_pause(device: &DeviceFacts<'_>) -> Obstacle {
    let by = device.paused_by.map_or(String::new(), |user| format!(" by {user}"));
    let pause = device.backlog.pause;
    let since =
        pause.map_or(String::new(), |pause| format!(" since {}", weekday_text(pause.since, device.now)));
    let until = pause.and_then(|pause| pause.until);
    let until = until.map_or(String::new(), |until| format!(" until {}", weekday_text(until, device.now)));
    Obstacle::new(
        SyncReason::Paused,
        format!("Paused{by}{since}{until}"),
        "",
        "to send again: fieldsync resume",
    )
}

fn describe_deferral(device: &DeviceFacts<'_>) -> Obstacle {
    match device.link.deferral {
        Some(Deferral::Battery) => Obstacle::new(
            SyncReason::Battery,
            "Waiting on purpose until the battery is charged",
            "",
            "charge the device; to send now anyway, once: fieldsync sync",
        ),
        Some(Deferral::Metered) | None => Obstacle::new(
            SyncReason::Metered,
            "Waiting on purpose because the network is metered",
            "",
            "use a network that is not metered; to send now anyway, once: fieldsync sync",
        ),
    }
}

/// The server accepts no batch of this device, or this device has no usable token.
fn describe_refused_token(planner: &PlannerFacts<'_>) -> Obstacle {
    if planner.is_local_error {
        return Obstacle::new(
            SyncReason::AuthRequired,
            "The token or the certificate cannot be used",
            "",
            "correct the file of the token or the certificate: fieldsync doctor says what is wrong",
        );
    }
    Obstacle::new(
        SyncReason::AuthRequired,
        "The server does not accept the token or the certificate",
        describe_status(planner.last_failure),
        "renew the token (server.token_file) or the certificate, then: fieldsync sync",
    )
}

fn describe_wrong_configuration(device: &DeviceFacts<'_>) -> Obstacle {
    let Some(server) = device.server else {
        return Obstacle::new(
            SyncReason::NoServer,
            "No server is set",
            "",
            format!("set server.url in {}", device.config_path.display()),
        );
    };
    if device.planner.is_local_error {
        return Obstacle::new(
            SyncReason::Misconfigured,
            "The certificates or the proxy cannot be used",
            "",
            "correct the configuration: fieldsync doctor says what is wrong",
        );
    }
    let status = device.planner.last_failure.and_then(|error| error.http_status);
    let status = status.map_or(String::new(), |status| format!(" (HTTP {status})"));
    Obstacle::new(
        SyncReason::Misconfigured,
        "Nothing takes records at the server's address",
        format!("{} responds, but not to batches{status}.", server.url),
        "correct server.url and server.path; the administrator of the server knows them",
    )
}

/// The server cannot be reached: says which part of the way is missing.
fn find_link_fault(device: &DeviceFacts<'_>) -> Obstacle {
    let link = device.link;
    if link.state == LinkState::CaptivePortal {
        let network = match link.interface {
            None | Some(InterfaceKind::Wifi) => "the Wi-Fi",
            Some(_) => "the network",
        };
        return Obstacle::new(
            SyncReason::LoginPage,
            format!("The login page of {network} responds in place of the server"),
            "",
            "log in to the network with a browser; then sending continues by itself",
        );
    }
    let failure = link.failure.unwrap_or_default();
    if link.has_route == Some(false) || (failure == ConnectFailure::NoRoute && link.has_route.is_none()) {
        return Obstacle::new(
            SyncReason::NoNetwork,
            "Offline",
            "This device has no network.",
            "connect the device to a network; then sending continues by itself",
        );
    }
    describe_connect_failure(device, failure)
}

fn describe_connect_failure(device: &DeviceFacts<'_>, failure: ConnectFailure) -> Obstacle {
    let host = device.server.map_or("the server", ServerName::host);
    let address = device.server.map_or_else(|| "the server".to_owned(), ServerName::host_and_port);
    let unreachable = |reason, detail: String, remedy: &str| {
        Obstacle::new(reason, "The server cannot be reached", detail, remedy)
    };
    match failure {
        ConnectFailure::Refused => unreachable(
            SyncReason::ServerDown,
            format!("The network is there; nothing listens at {address}."),
            "start the server, or correct server.url; then sending continues by itself",
        ),
        ConnectFailure::NameUnknown => unreachable(
            SyncReason::NameUnknown,
            format!("The name {host} is not known."),
            "correct server.url, or the name servers of this network; fieldsync doctor says more",
        ),
        ConnectFailure::NoRoute => unreachable(
            SyncReason::NoRoute,
            format!("The network is there, but it has no way to {address}."),
            "use a network that reaches the server; fieldsync doctor says more",
        ),
        ConnectFailure::NoResponse => unreachable(
            SyncReason::ServerDown,
            format!("The network is there; {address} does not respond."),
            "check that the server runs and that no firewall is in between; fieldsync doctor says more",
        ),
        ConnectFailure::CertificateNotYetValid => Obstacle::new(
            SyncReason::ClockWrong,
            "The clock of this device is wrong",
            format!("It shows {}, before the certificate of {host} was made.", minute_text(device.now)),
            "set the clock: sudo timedatectl set-ntp true",
        ),
        ConnectFailure::CertificateExpired => unreachable(
            SyncReason::Tls,
            format!(
                "The certificate of {host} has expired, by the clock of this device ({}).",
                minute_text(device.now)
            ),
            "check the clock (timedatectl); if it is right, the server needs a new certificate",
        ),
        ConnectFailure::CertificateNotTrusted => unreachable(
            SyncReason::Tls,
            format!("This device does not trust the certificate of {host}."),
            "name the server's authority in server.ca_file; fieldsync doctor says more",
        ),
        ConnectFailure::Tls => unreachable(
            SyncReason::Tls,
            format!("No encrypted connection (TLS) to {address} can be made."),
            "check scheme and port of server.url; fieldsync doctor says more",
        ),
        ConnectFailure::Proxy => unreachable(
            SyncReason::Proxy,
            "The proxy does not respond, or does not let the connection through.".into(),
            "correct server.proxy; fieldsync doctor says more",
        ),
        ConnectFailure::Other => {
            unreachable(SyncReason::ServerDown, String::new(), "fieldsync doctor says why")
        }
    }
}

/// A wait for a time, or for the review of another record.
fn find_wait(device: &DeviceFacts<'_>) -> Obstacle {
    let PlannerFacts { until, wait_cause, .. } = device.planner;
    if wait_cause == Some(WaitCause::Disk) {
        return Obstacle::new(
            SyncReason::DiskFull,
            "Waiting for room on the disk",
            "",
            "free some space on the disk under the queue; fieldsync doctor names it",
        );
    }
    let Some(until) = until else { return describe_hold(device) };
    let seconds = until.saturating_sub(device.now).div_ceil(1000).max(1);
    let (reason, detail, remedy) = describe_failure(device);
    Obstacle::new(reason, format!("Waiting {seconds} s to retry"), detail, remedy)
}

fn describe_hold(device: &DeviceFacts<'_>) -> Obstacle {
    if device.backlog.quarantined == 0 {
        return Obstacle::new(SyncReason::Retry, "Waiting", "", "fieldsync doctor says why");
    }
    let detail = "An earlier record of the same key needs review and goes first.";
    Obstacle::new(SyncReason::Held, "Waiting for review", detail, REVIEW)
}

/// Why the last send failed: the reason, sentences, and the remedy.
fn describe_failure(device: &DeviceFacts<'_>) -> (SyncReason, String, &'static str) {
    let Some(error) = device.planner.last_failure else {
        return (SyncReason::Retry, String::new(), BY_ITSELF);
    };
    let status = error.http_status.filter(|status| *status >= 300);
    let status = status.map_or(String::new(), |status| format!(" (HTTP {status})"));
    let limit = device.planner.time_limit_ms.div_ceil(1000);
    let outcome = serde_json::from_value::<BatchOutcome>(error.class.clone().into()).ok();
    let (reason, sentence, remedy) = match outcome {
        Some(BatchOutcome::Throttled) => {
            (SyncReason::ServerBusy, format!("The server is busy{status}."), ADMINISTRATOR)
        }
        Some(BatchOutcome::Processing) => {
            (SyncReason::ServerBusy, "The server still works on the last batch.".into(), BY_ITSELF)
        }
        Some(BatchOutcome::Timeout) if error.http_status.is_some() => {
            (SyncReason::NoResponse, format!("The server did not respond in time{status}."), ADMINISTRATOR)
        }
        Some(BatchOutcome::Timeout) => {
            let sentence = format!("The server did not respond in time (limit {limit} s).");
            (SyncReason::NoResponse, sentence, ADMINISTRATOR)
        }
        Some(BatchOutcome::ServerError) => {
            (SyncReason::ServerFailed, format!("The server failed{status}."), ADMINISTRATOR)
        }
        Some(BatchOutcome::ConnectionLost) => {
            (SyncReason::ConnectionLost, "The connection was lost before the response.".into(), BY_ITSELF)
        }
        Some(BatchOutcome::LinkTooSlow) => {
            (SyncReason::ConnectionLost, "The network is too slow for the batch.".into(), BY_ITSELF)
        }
        Some(BatchOutcome::Interfered) => {
            let sentence = format!("Another site responded in place of the server{status}.");
            (SyncReason::LoginPage, sentence, "log in to the network with a browser")
        }
        Some(BatchOutcome::Unreachable) => {
            let failure = device.link.failure.unwrap_or_default();
            let fault = describe_connect_failure(device, failure);
            return (fault.reason, fault.text(), BY_ITSELF);
        }
        _ => (SyncReason::Retry, format!("The last attempt failed{status}."), BY_ITSELF),
    };
    (reason, sentence, remedy)
}

/// `It responds with HTTP 401.`
fn describe_status(error: Option<&LastError>) -> String {
    let status = error.and_then(|error| error.http_status);
    status.map_or(String::new(), |status| format!("It responds with HTTP {status}."))
}
