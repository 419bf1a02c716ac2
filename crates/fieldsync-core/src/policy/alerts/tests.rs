//! When alerts start and end.

mod credentials;
mod margins;
mod restored;
mod sending;
mod timing;

use super::facts::{AlertFacts, CredentialExpiry, QueueFacts, ServerContact};
use super::restarts::RestartLog;
use super::send_outcomes::{SendEnd, SendOutcomes};
use super::{AlertPolicy, AlertUpdate};
use crate::api::{AlertName, BatchOutcome, ConfigurationRefusal};
use crate::clock::Now;
use crate::config::{Config, Size, Span};
use crate::model::{Backlog, LinkState, Phase};
use crate::policy::breaker::Mode;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Both clocks show it when a scene begins.
const START: u64 = 1_772_352_930_000;

/// A device whose facts a test changes.
#[derive(Clone, Debug)]
struct Scene {
    policy: AlertPolicy,
    config: Config,
    now: Now,
    backlog: Backlog,
    queue: QueueFacts,
    refusal: Option<ConfigurationRefusal>,
    is_token_in_clear: bool,
    breaker: Mode,
    link: LinkState,
    phase: Phase,
    outcomes: SendOutcomes,
    denied_batches: usize,
    contact: ServerContact,
    expiry: CredentialExpiry,
    starts: RestartLog,
    next_due: Option<u64>,
}

fn send_end(outcome: BatchOutcome, http_status: Option<u16>) -> SendEnd {
    SendEnd { outcome, http_status, is_learning: false }
}

/// The id of a boot.
fn boot() -> String {
    "6a1f".to_owned()
}

impl Scene {
    fn new() -> Self {
        let mut config = Config::default();
        config.server.url = "https://crm.example".into();
        Self {
            policy: AlertPolicy::default(),
            config,
            now: Now { steady: START, wall: START },
            backlog: Backlog::default(),
            queue: QueueFacts { limit: 1000, ..QueueFacts::default() },
            refusal: None,
            is_token_in_clear: false,
            breaker: Mode::Normal,
            link: LinkState::Online,
            phase: Phase::Idle,
            outcomes: SendOutcomes::default(),
            denied_batches: 0,
            contact: ServerContact::default(),
            expiry: CredentialExpiry::default(),
            starts: RestartLog::default(),
            next_due: None,
        }
    }

    /// Records wait from now on.
    fn with_waiting_records(mut self) -> Self {
        self.backlog.pending = 3;
        self.backlog.oldest_pending_at = Some(self.now.wall);
        self
    }

    fn update(&mut self) -> AlertUpdate {
        let facts = AlertFacts {
            now: self.now,
            backlog: &self.backlog,
            queue: &self.queue,
            refusal: self.refusal.as_ref(),
            is_token_in_clear: self.is_token_in_clear,
            breaker: self.breaker,
            link: self.link,
            phase: self.phase,
            outcomes: &self.outcomes,
            denied_batches: self.denied_batches,
            contact: self.contact,
            expiry: self.expiry,
            starts: &self.starts,
        };
        let update = self.policy.update(&facts, &self.config);
        self.next_due = update.next_due;
        update
    }

    /// What starts (true) and ends with these facts.
    fn changes(&mut self) -> Vec<(AlertName, bool)> {
        let changes = self.update().changes.into_iter();
        changes.map(|change| (change.alert.alert.known().unwrap(), change.active)).collect()
    }

    fn advance(&mut self, ms: u64) {
        self.now = Now { steady: self.now.steady + ms, wall: self.now.wall + ms };
    }

    /// Lets time pass until the next update is due.
    fn advance_to_due(&mut self) -> u64 {
        let wait = self.next_due.expect("a time is due") - self.now.steady;
        self.advance(wait);
        wait
    }

    fn active(&self) -> Vec<AlertName> {
        self.policy.active_alerts().iter().map(|alert| alert.alert.known().unwrap()).collect()
    }
}

#[test]
fn a_healthy_device_has_no_alert_and_nothing_is_due() {
    let mut scene = Scene::new();
    assert_eq!(scene.update(), AlertUpdate::default());
}

#[test]
fn every_alert_says_what_happened_and_names_what_to_do() {
    let mut scene = Scene::new().with_waiting_records();
    timing::cause_all_alerts(&mut scene);
    let alerts = scene.policy.active_alerts();
    assert_eq!(alerts.len(), AlertName::ALL.len() - 1, "a disk is either full or failing");
    for alert in &alerts {
        assert!(alert.message.len() > 40 && !alert.remedy.is_empty(), "{alert:?}");
        assert!(!alert.message.ends_with('.') && !alert.remedy.ends_with('.'), "{alert:?}");
    }
    let severities: Vec<_> = alerts.iter().map(|alert| alert.severity.known().unwrap()).collect();
    assert!(severities.is_sorted_by(|one, other| one >= other), "{severities:?}");
}

#[test]
fn a_threshold_of_zero_turns_an_alert_off_and_ends_it() {
    let mut scene = Scene::new().with_waiting_records();
    timing::cause_all_alerts(&mut scene);
    let telemetry = &mut scene.config.telemetry;
    let off = Span::secs(0);
    (telemetry.alert_queue_percent, telemetry.alert_quarantined, telemetry.alert_ambiguous_percent) =
        (0, 0, 0);
    (telemetry.alert_oldest_pending, telemetry.alert_breaker_open, telemetry.alert_no_contact) =
        (off, off, off);
    (telemetry.alert_clock_offset, telemetry.alert_credential_expiry) = (off, off);
    (telemetry.alert_disk_free, telemetry.alert_restarts) = (Size(0), 0);
    scene.update();
    assert_eq!(
        scene.active(),
        [
            AlertName::StoreDamaged,
            AlertName::DiskFull,
            AlertName::CredentialRefused,
            AlertName::SendingDenied,
            AlertName::TokenInClear,
            AlertName::ConfigurationRefused,
        ]
    );
}
