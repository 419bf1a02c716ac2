//! Each situation with its reason, its sentence and its remedy.

use super::*;
use crate::config::ConfigSources;
use crate::model::{
    Backlog, BatchId, ConnectFailure, Deferral, InterfaceKind, LastError, Link, LinkState, Pause, WaitCause,
};

mod configuration;
mod stops;

/// 2026-03-01T08:15:30.120Z, a Sunday.
const NOW: u64 = 1_772_352_930_120;
const HOUR: u64 = 3_600_000;

/// Everything that the sentence depends on, to be changed field by field.
struct Scene {
    backlog: Backlog,
    settled: u64,
    link: Link,
    phase: Phase,
    until: Option<u64>,
    wait_cause: Option<WaitCause>,
    denied: Vec<DeniedSet>,
    is_local_error: bool,
    last_failure: Option<LastError>,
    outage_since: Option<u64>,
    sent_at: Option<u64>,
    credential: CredentialFacts,
    sources: ConfigSources,
    url: &'static str,
    paused_by: Option<&'static str>,
    refusal: Option<&'static str>,
    full_queue: Option<FullQueue>,
}

impl Scene {
    /// Three records wait, and nothing is in the way.
    fn new() -> Self {
        Self {
            backlog: Backlog { pending: 3, ..Backlog::default() },
            settled: 0,
            link: Link { has_route: Some(true), ..Link::default() },
            phase: Phase::Syncing,
            until: None,
            wait_cause: None,
            denied: Vec::new(),
            is_local_error: false,
            last_failure: None,
            outage_since: None,
            sent_at: None,
            credential: CredentialFacts { has_token: true, has_certificate: false },
            sources: ConfigSources::default(),
            url: "https://crm.example.com/base",
            paused_by: None,
            refusal: None,
            full_queue: None,
        }
    }

    fn describe(&self) -> Situation {
        let mut progress = Progress::default();
        let before = Backlog { pending: self.backlog.to_go() + self.settled, ..Backlog::default() };
        progress.update(&before);
        let (settled_total, synced_total) = (self.settled, self.settled - self.backlog.quarantined);
        let backlog = Backlog { settled_total, synced_total, ..self.backlog.clone() };
        progress.update(&backlog);
        let server = Some(ServerName { url: self.url }).filter(|server| !server.url.is_empty());
        let planner = PlannerFacts {
            phase: self.phase,
            until: self.until,
            wait_cause: self.wait_cause,
            denied: &self.denied,
            is_local_error: self.is_local_error,
            last_failure: self.last_failure.as_ref(),
            outage_since: self.outage_since,
            sent_at: self.sent_at,
            time_limit_ms: 60_000,
        };
        let device = DeviceFacts {
            now: NOW,
            backlog: &backlog,
            link: &self.link,
            planner,
            server,
            paused_by: self.paused_by,
            config_path: "/etc/f.toml".as_ref(),
            sources: &self.sources,
            credential: self.credential,
            refusal: self.refusal,
            full_queue: self.full_queue.as_ref(),
        };
        describe_situation(&device, &progress)
    }
}

type Change = fn(&mut Scene);

fn unreachable(scene: &mut Scene, failure: ConnectFailure) {
    scene.phase = Phase::Offline;
    (scene.link.state, scene.link.failure) = (LinkState::Offline, Some(failure));
}

fn failed(scene: &mut Scene, class: &str, http_status: Option<u16>) {
    (scene.phase, scene.until, scene.wait_cause) =
        (Phase::Waiting, Some(NOW + 31_200), Some(WaitCause::BackOff));
    scene.last_failure = Some(error(class, http_status));
}

fn error(class: &str, http_status: Option<u16>) -> LastError {
    LastError { class: class.into(), http_status, code: None, message: "secret".into(), field: None, at: NOW }
}

#[track_caller]
fn check(reason: SyncReason, text: &str, remedy: &str, change: Change) {
    let mut scene = Scene::new();
    change(&mut scene);
    let found = scene.describe();
    assert_eq!((found.reason, found.text.as_str()), (reason, text));
    let found = found.remedy.unwrap_or_default();
    assert!(found.contains(remedy) && found.is_empty() == remedy.is_empty(), "{found}");
}

#[test]
fn the_promised_sentences_of_a_run() {
    use SyncReason as Reason;
    let of = |pending, settled, quarantined| {
        let backlog = Backlog { pending, quarantined, ..Backlog::default() };
        let phase = if pending > 0 { Phase::Syncing } else { Phase::Idle };
        Scene { backlog, settled, phase, ..Scene::new() }.describe()
    };
    for (to_go, settled, quarantined, reason, text) in [
        (105, 45, 0, Reason::Sending, "Syncing 45 of 150 records"),
        (105, 45, 2, Reason::Sending, "Syncing 45 of 150 records (2 need review)"),
        (1, 0, 0, Reason::Sending, "Syncing 0 of 1 record"),
        (0, 150, 0, Reason::NothingToSend, "All 150 records synced"),
        (0, 1, 0, Reason::NothingToSend, "1 record synced"),
        (0, 0, 0, Reason::NothingToSend, "Nothing to sync"),
        (0, 1, 1, Reason::NeedsReview, "0 of 1 record synced (1 needs review)"),
        (0, 150, 1, Reason::NeedsReview, "149 of 150 records synced (1 needs review)"),
    ] {
        let found = of(to_go, settled, quarantined);
        assert_eq!((found.reason, found.text.as_str()), (reason, text));
        assert_eq!(found.remedy.is_some(), reason == Reason::NeedsReview, "{found:?}");
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_told_apart_by_the_missing_part_of_the_way() {
    use SyncReason as Reason;
    check(
        Reason::ServerDown,
        "The server cannot be reached: 3 records waiting. The network is there; nothing listens at \
         crm.example.com:443.",
        "start the server, or correct server.url",
        |scene| unreachable(scene, ConnectFailure::Refused),
    );
    check(
        Reason::NameUnknown,
        "The server cannot be reached: 3 records waiting. The name crm.example.com is not known.",
        "correct server.url, or the name servers",
        |scene| unreachable(scene, ConnectFailure::NameUnknown),
    );
    check(
        Reason::ServerDown,
        "The server cannot be reached: 3 records waiting. The network is there; 10.1.2.3:8080 does not respond.",
        "check that the server runs",
        |scene| {
            unreachable(scene, ConnectFailure::NoResponse);
            scene.url = "http://10.1.2.3:8080";
        },
    );
    check(
        Reason::NoRoute,
        "The server cannot be reached: 3 records waiting. The network is there, but it has no way to \
         crm.example.com:443.",
        "use a network that reaches the server",
        |scene| unreachable(scene, ConnectFailure::NoRoute),
    );
    check(
        Reason::NoNetwork,
        "Offline: 3 records waiting. This device has no network.",
        "connect the device to a network",
        |scene| {
            unreachable(scene, ConnectFailure::NameUnknown);
            scene.link.has_route = Some(false);
        },
    );
    check(
        Reason::LoginPage,
        "The login page of the Wi-Fi responds in place of the server: 3 records waiting",
        "log in to the network with a browser",
        |scene| (scene.phase, scene.link.state) = (Phase::Offline, LinkState::CaptivePortal),
    );
    check(
        Reason::LoginPage,
        "The login page of the network responds in place of the server: 3 records waiting",
        "log in to the network with a browser",
        |scene| {
            (scene.phase, scene.link.state) = (Phase::Offline, LinkState::CaptivePortal);
            scene.link.interface = Some(InterfaceKind::Ethernet);
        },
    );
    check(
        Reason::Proxy,
        "The server cannot be reached: 3 records waiting. The proxy does not respond, or does not let the \
         connection through.",
        "correct server.proxy",
        |scene| unreachable(scene, ConnectFailure::Proxy),
    );
}

#[test]
fn a_wrong_clock_is_told_apart_from_other_failures_of_tls() {
    use SyncReason as Reason;
    check(
        Reason::ClockWrong,
        "The clock of this device is wrong: 3 records waiting. It shows 2026-03-01 08:15 UTC, before the certificate \
         of crm.example.com was made.",
        "set the clock: sudo timedatectl set-ntp true",
        |scene| unreachable(scene, ConnectFailure::CertificateNotYetValid),
    );
    check(
        Reason::Tls,
        "The server cannot be reached: 3 records waiting. The certificate of crm.example.com has expired, by the clock \
         of this device (2026-03-01 08:15 UTC).",
        "check the clock (timedatectl); if it is right, the server needs a new certificate",
        |scene| unreachable(scene, ConnectFailure::CertificateExpired),
    );
    check(
        Reason::Tls,
        "The server cannot be reached: 3 records waiting. The certificate of crm.example.com is of an authority that \
         this device does not trust.",
        "on a strange network, log in first; else name its PEM file in server.ca_file",
        |scene| unreachable(scene, ConnectFailure::CertificateNotTrusted),
    );
    check(
        Reason::Tls,
        "The server cannot be reached: 3 records waiting. No encrypted connection (TLS) to crm.example.com:443 can be \
         made.",
        "check scheme and port",
        |scene| unreachable(scene, ConnectFailure::Tls),
    );
}

#[test]
fn a_server_that_fails_is_described_by_its_last_response() {
    use SyncReason as Reason;
    let server = "tell the administrator of the server";
    check(
        Reason::ServerBusy,
        "Waiting 32 s to retry: 3 records waiting. The server is busy (HTTP 503).",
        server,
        |scene| failed(scene, "throttled", Some(503)),
    );
    check(
        Reason::ServerFailed,
        "Waiting 32 s to retry: 3 records waiting. The server failed (HTTP 500).",
        server,
        |scene| {
            failed(scene, "server_error", Some(500));
            scene.wait_cause = Some(WaitCause::Breaker);
        },
    );
    check(
        Reason::NoResponse,
        "Waiting 32 s to retry: 3 records waiting. The server did not respond in time (HTTP 504).",
        server,
        |scene| failed(scene, "timeout", Some(504)),
    );
    check(
        Reason::NoResponse,
        "Waiting 32 s to retry: 3 records waiting. The server did not respond in time (limit 60 s).",
        server,
        |scene| failed(scene, "timeout", None),
    );
    check(Reason::Retry, "Waiting 32 s to retry: 3 records waiting", "fieldsync sync", |scene| {
        failed(scene, "", None);
        scene.last_failure = None;
    });
    check(
        Reason::AwaitingResponse,
        "Waiting for the server's response, 41 s so far (limit 60 s): syncing 0 of 3 records",
        server,
        |scene| scene.sent_at = Some(NOW - 41_000),
    );
    check(Reason::Sending, "Syncing 0 of 3 records", "", |scene| scene.sent_at = Some(NOW - 4_900));
}

#[test]
fn what_a_person_stopped_or_must_correct() {
    use SyncReason as Reason;
    check(Reason::Paused, "Paused: 3 records waiting", "fieldsync resume", |scene| {
        scene.phase = Phase::Paused;
    });
    check(
        Reason::Paused,
        "Paused by alice since Saturday 08:15 UTC until Sunday 09:15 UTC: 3 records waiting",
        "fieldsync resume",
        |scene| {
            (scene.phase, scene.paused_by) = (Phase::Paused, Some("alice"));
            let pause = Pause { by: 1000, since: NOW - 24 * HOUR, until: Some(NOW + HOUR) };
            scene.backlog.pause = Some(pause);
        },
    );
    check(
        Reason::AuthRequired,
        "The server does not accept the token: 3 records waiting. It responds with HTTP 401.",
        "renew the token in server.token_file, then: fieldsync sync",
        |scene| {
            failed(scene, "unauthorized", Some(401));
            scene.phase = Phase::AuthRequired;
        },
    );
    check(
        Reason::Held,
        "Waiting for review: 3 records waiting (1 needs review). An earlier record of the same key needs review and \
         goes first.",
        "fieldsync quarantine list",
        |scene| {
            (scene.phase, scene.backlog.quarantined, scene.settled) = (Phase::Waiting, 1, 1);
        },
    );
}

#[test]
fn what_waits_on_purpose_and_what_the_disk_stops() {
    use SyncReason as Reason;
    check(
        Reason::Metered,
        "Waiting on purpose because the network is metered: 3 records waiting",
        "fieldsync sync",
        |scene| (scene.phase, scene.link.deferral) = (Phase::Deferred, Some(Deferral::Metered)),
    );
    check(
        Reason::Battery,
        "Waiting on purpose until the battery is charged: 3 records waiting",
        "charge the device",
        |scene| (scene.phase, scene.link.deferral) = (Phase::Deferred, Some(Deferral::Battery)),
    );
    check(
        Reason::DiskFull,
        "The disk is full: no new records are taken. Syncing 0 of 3 records",
        "free some space",
        |scene| scene.backlog.storage.disk = DiskState::Full,
    );
    check(
        Reason::DiskFailing,
        "The disk gives errors: no records are taken or sent; 3 records are kept",
        "have the disk checked",
        |scene| scene.backlog.storage.disk = DiskState::Failing,
    );
}

#[test]
fn batches_that_are_denied_while_others_get_through_are_counted() {
    let mut scene = Scene::new();
    let set = DeniedSet {
        batch_id: BatchId::new(),
        records: 2,
        denials: 3,
        error: error("unauthorized", Some(403)),
    };
    scene.denied = vec![set];
    let text = scene.describe().text;
    assert_eq!(text, "Syncing 0 of 3 records (2 records are refused with HTTP 403 while others get through)");
}

#[test]
fn no_sentence_quotes_the_server() {
    for class in ["throttled", "timeout", "server_error", "refused", "unreachable", "interfered", "newer"] {
        let mut scene = Scene::new();
        failed(&mut scene, class, Some(500));
        let Situation { text, remedy, .. } = scene.describe();
        assert!(!text.contains("secret") && !remedy.unwrap_or_default().contains("secret"), "{text}");
    }
}

#[test]
fn the_server_is_named_with_its_port() {
    for (url, host, address) in [
        ("https://crm.example.com", "crm.example.com", "crm.example.com:443"),
        ("http://crm.example.com/base", "crm.example.com", "crm.example.com:80"),
        ("https://crm.example.com:8443", "crm.example.com", "crm.example.com:8443"),
        ("http://[fe80::1]", "[fe80::1]", "[fe80::1]:80"),
        ("http://[fe80::1]:8080", "[fe80::1]", "[fe80::1]:8080"),
    ] {
        let name = ServerName { url };
        assert_eq!((name.host(), name.host_and_port().as_str()), (host, address));
    }
}
