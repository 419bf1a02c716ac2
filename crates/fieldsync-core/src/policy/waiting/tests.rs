//! Every reason with its sentence, and which one is named where several hold.

use std::sync::LazyLock;

use uuid::Uuid;

use super::*;
use crate::config::ConfigSources;
use crate::model::{Backlog, BatchId, Deferral, LastError, Link, LinkState};
use crate::policy::advice::{CredentialFacts, ServerName};

/// 2026-03-01T08:15:30.120Z
const NOW: u64 = 1_772_352_930_120;
const SECOND: u64 = 1000;
const ID: RecordId = RecordId(Uuid::from_u128(0xa));
const BLOCKER: RecordId = RecordId(Uuid::from_u128(0xb));
const BATCH: BatchId = BatchId(Uuid::from_u128(0xc));

/// Everything that the decision depends on, to be changed field by field.
#[derive(Clone)]
struct Scene {
    record: RecordStanding,
    blocker: Option<RecordStanding>,
    is_sending: bool,
    backlog: Backlog,
    link: Link,
    phase: Phase,
    until: Option<u64>,
    wait_cause: Option<WaitCause>,
    denied: Vec<DeniedSet>,
    has_server: bool,
    is_local_error: bool,
    last_failure: Option<LastError>,
    sent_at: Option<u64>,
}

fn standing(id: RecordId, state: RecordState) -> RecordStanding {
    let entry = ManifestEntry {
        id,
        seq: 1,
        record_type: "Visits".into(),
        key: Some("secret".into()),
        priority: 5,
        state,
        attempts: 0,
        sends: 0,
        payload_bytes: 2,
        submitter: 1000,
        created_at: 0,
        updated_at: 0,
        next_attempt_at: None,
        batch_id: None,
        last_error: None,
        discarded_by: None,
        blocked_by: None,
        blocked_count: 0,
    };
    RecordStanding { entry, batch_phase: None }
}

impl Scene {
    /// A record that the next batch takes.
    fn new() -> Self {
        Self {
            record: standing(ID, RecordState::Pending),
            blocker: None,
            is_sending: false,
            backlog: Backlog::default(),
            link: Link::default(),
            phase: Phase::Syncing,
            until: None,
            wait_cause: None,
            denied: Vec::new(),
            has_server: true,
            is_local_error: false,
            last_failure: None,
            sent_at: None,
        }
    }

    fn found(&self) -> Option<WaitingFor> {
        let facts =
            RecordFacts { record: &self.record, is_sending: self.is_sending, blocker: self.blocker.as_ref() };
        let Self { phase, until, wait_cause, has_server, is_local_error, .. } = *self;
        let planner = PlannerFacts {
            phase,
            until,
            wait_cause,
            denied: &self.denied,
            is_local_error,
            last_failure: self.last_failure.as_ref(),
            outage_since: None,
            sent_at: self.sent_at,
            time_limit_ms: 60_000,
        };
        let server = has_server.then_some(ServerName { url: "https://crm.example.com" });
        let device = DeviceFacts {
            now: NOW,
            backlog: &self.backlog,
            link: &self.link,
            planner,
            server,
            paused_by: None,
            config_path: "/etc/fieldsync/config.toml".as_ref(),
            sources: &ConfigSources::default(),
            credential: CredentialFacts { has_token: true, has_certificate: false },
            refusal: None,
            full_queue: None,
        };
        waiting_for(&facts, &device)
    }

    fn with(mut self, conditions: &[Condition]) -> Self {
        for condition in conditions {
            condition(&mut self);
        }
        self
    }
}

type Condition = fn(&mut Scene);

fn last_error(class: &str, http_status: Option<u16>, message: &str) -> LastError {
    LastError { class: class.into(), http_status, code: None, message: message.into(), field: None, at: NOW }
}

const REVIEW: Condition = |scene| scene.record.entry.state = RecordState::Quarantined;
const DISK: Condition = |scene| scene.backlog.storage.disk = DiskState::Failing;
const NO_ROOM: Condition = |scene| scene.wait_cause = Some(WaitCause::Disk);
const IN_BATCH: Condition = |scene| {
    scene.record.entry.state = RecordState::Syncing;
    (scene.record.batch_phase, scene.is_sending) = (Some(BatchPhase::InFlight), true);
};
const SILENT: Condition = |scene| {
    IN_BATCH(scene);
    scene.sent_at = Some(NOW - 41 * SECOND);
};
const LEFT_IN_FLIGHT: Condition = |scene| {
    IN_BATCH(scene);
    scene.is_sending = false;
};
const OUTCOME: Condition = |scene| {
    scene.record.entry.state = RecordState::Failed;
    scene.record.batch_phase = Some(BatchPhase::Unclear);
};
const AGAIN: Condition = |scene| scene.record.batch_phase = Some(BatchPhase::Waiting);
const PAUSED: Condition = |scene| scene.backlog.paused = true;
const AUTH: Condition = |scene| scene.phase = Phase::AuthRequired;
const MISCONFIGURED: Condition = |scene| scene.phase = Phase::Misconfigured;
const NO_SERVER: Condition = |scene| scene.has_server = false;
const HERE: Condition = |scene| {
    let class = if scene.phase == Phase::Misconfigured { "misconfigured" } else { "unauthorized" };
    let message = if scene.phase == Phase::Misconfigured {
        "server.ca_file: cannot read /ca.pem: it is empty"
    } else {
        "/token cannot be read: no such file. Nothing is sent meanwhile, records are kept. To fix it: create /token"
    };
    (scene.is_local_error, scene.last_failure) = (true, Some(last_error(class, None, message)));
};
const FORBIDDEN: Condition = |scene| scene.last_failure = Some(last_error("unauthorized", Some(403), "m"));
const HELD: Condition = |scene| {
    scene.record.entry.state = RecordState::Failed;
    let held = LastError { code: Some("HELD".into()), ..last_error("retry", Some(200), "behind another") };
    scene.record.entry.last_error = Some(held);
    scene.record.entry.next_attempt_at = Some(NOW + 75 * SECOND);
};
const OFFLINE: Condition = |scene| scene.phase = Phase::Offline;
const PORTAL: Condition = |scene| scene.link.state = LinkState::CaptivePortal;
const METERED: Condition =
    |scene| (scene.phase, scene.link.deferral) = (Phase::Deferred, Some(Deferral::Metered));
const BATTERY: Condition =
    |scene| (scene.phase, scene.link.deferral) = (Phase::Deferred, Some(Deferral::Battery));
const BACKS_OFF: Condition = |scene| wait(scene, 30 * SECOND, WaitCause::BackOff);
const SERVER_ASKED: Condition = |scene| wait(scene, 60 * SECOND, WaitCause::ServerAsked);
/// As the planner waits for [`DUE`].
const BACKS_OFF_UNTIL_DUE: Condition = |scene| wait(scene, 75 * SECOND + 1, WaitCause::BackOff);
const BREAKER: Condition = |scene| wait(scene, 90 * SECOND, WaitCause::Breaker);
/// The back-off of the record itself.
const DUE: Condition = |scene| {
    scene.record.entry.state = RecordState::Failed;
    scene.record.entry.next_attempt_at = Some(NOW + 75 * SECOND);
};
const TOMORROW: Condition = |scene| scene.record.entry.next_attempt_at = Some(NOW + 86_400 * SECOND);
const OVERDUE: Condition = |scene| scene.record.entry.next_attempt_at = Some(NOW - SECOND);
const UNTIL: Condition = |scene| scene.until = Some(NOW + 30 * SECOND);
const PAST: Condition = |scene| scene.until = Some(NOW - SECOND);
const DENIED: Condition = |scene| {
    scene.record.entry.batch_id = Some(BATCH);
    scene.record.batch_phase = Some(BatchPhase::Waiting);
    let error = LastError {
        class: "unauthorized".into(),
        http_status: Some(403),
        code: None,
        message: "secret".into(),
        field: None,
        at: NOW,
    };
    scene.denied = vec![DeniedSet { batch_id: BATCH, records: 13, denials: 3, error }];
};
const GONE: Condition = |scene| scene.record.entry.blocked_by = Some(BLOCKER);
const BEHIND_REVIEW: Condition = |scene| hold(scene, RecordState::Quarantined, None);
const BEHIND_FAILED: Condition = |scene| hold(scene, RecordState::Failed, None);
const BEHIND_SENDING: Condition = |scene| hold(scene, RecordState::Syncing, Some(BatchPhase::InFlight));
const BEHIND_UNCLEAR: Condition = |scene| hold(scene, RecordState::Failed, Some(BatchPhase::Unclear));
const BLOCKER_DUE: Condition = |scene| {
    if let Some(blocker) = &mut scene.blocker {
        blocker.entry.next_attempt_at = Some(NOW + 45 * SECOND);
    }
};

fn wait(scene: &mut Scene, ms: u64, cause: WaitCause) {
    (scene.phase, scene.until, scene.wait_cause) = (Phase::Waiting, Some(NOW + ms), Some(cause));
}

fn hold(scene: &mut Scene, state: RecordState, batch_phase: Option<BatchPhase>) {
    GONE(scene);
    scene.blocker = Some(RecordStanding { batch_phase, ..standing(BLOCKER, state) });
}

const UNCLEAR: &str = "It was sent, but no clear response came: the daemon asks the server for the outcome.";

/// Conditions, the reason, seconds until it ends, and the sentence.
type Row = (&'static [Condition], WaitingReason, Option<u64>, &'static str);

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    use WaitingReason as Reason;
    vec![
        (&[], Reason::NextBatch, None, "Waiting for the next batch."),
        (&[AGAIN], Reason::NextBatch, None, "Waiting until its batch is sent again."),
        (&[IN_BATCH], Reason::InBatch, None, "In a batch that is being sent to the server."),
        (
            &[SILENT],
            Reason::InBatch,
            None,
            "In a batch that was sent to the server, which has not responded for 41 s (limit 60 s).",
        ),
        (&[OUTCOME], Reason::Outcome, None, UNCLEAR),
        (&[LEFT_IN_FLIGHT], Reason::Outcome, None, UNCLEAR),
        (
            &[OUTCOME, OFFLINE],
            Reason::Outcome,
            None,
            "It was sent, but no clear response came: the daemon asks the server for the outcome. The server \
             cannot be reached.",
        ),
        (&[DUE], Reason::Backoff, Some(75), "The last attempt failed; the next one is at 08:16:45 UTC."),
        (
            &[TOMORROW],
            Reason::Backoff,
            Some(86_400),
            "The last attempt failed; the next one is at 2026-03-02 08:15:30 UTC.",
        ),
        (
            &[DUE, BACKS_OFF_UNTIL_DUE],
            Reason::Backoff,
            Some(75),
            "The last attempt failed; the next one is at 08:16:45 UTC.",
        ),
        (&[BACKS_OFF], Reason::Backoff, Some(30), "Sending failed; the next attempt is at 08:16:00 UTC."),
        (
            &[DENIED],
            Reason::Backoff,
            None,
            "Its batch of 13 records is refused again and again while others get through (unauthorized, HTTP \
             403). The daemon searches for the record that is the reason.",
        ),
        (
            &[BEHIND_REVIEW],
            Reason::Key,
            None,
            "An earlier record of its key, 00000000-0000-0000-0000-00000000000b, needs review and goes first: its submitter \
             or an admin must decide about it.",
        ),
        (
            &[BEHIND_FAILED, BLOCKER_DUE],
            Reason::Key,
            Some(45),
            "An earlier record of its key, 00000000-0000-0000-0000-00000000000b, failed and is retried at 08:16:15 \
             UTC.",
        ),
        (
            &[BEHIND_FAILED, OFFLINE],
            Reason::Key,
            None,
            "An earlier record of its key, 00000000-0000-0000-0000-00000000000b, failed and is retried first. \
             The server cannot be reached.",
        ),
        (
            &[BEHIND_SENDING],
            Reason::Key,
            None,
            "An earlier record of its key, 00000000-0000-0000-0000-00000000000b, failed and is being sent again.",
        ),
        (
            &[BEHIND_UNCLEAR],
            Reason::Key,
            None,
            "An earlier record of its key, 00000000-0000-0000-0000-00000000000b, was sent, and its outcome is not \
             known yet.",
        ),
        (
            &[GONE],
            Reason::Key,
            None,
            "An earlier record of its key, 00000000-0000-0000-0000-00000000000b, goes first.",
        ),
        (&[SERVER_ASKED], Reason::ServerWait, Some(60), "The server asked to wait until 08:16:30 UTC."),
        (
            &[BREAKER],
            Reason::Breaker,
            Some(90),
            "The server failed several times in a row; the next attempt is at 08:17:00 UTC.",
        ),
        (&[OFFLINE], Reason::Offline, None, "The server cannot be reached."),
        (
            &[OFFLINE, PORTAL],
            Reason::Offline,
            None,
            "The login page of the Wi-Fi responds in place of the server.",
        ),
        (&[METERED], Reason::Metered, None, "Waiting on purpose because the network is metered."),
        (&[BATTERY], Reason::Battery, None, "Waiting on purpose until the battery is charged."),
        (&[PAUSED], Reason::Paused, None, "Paused."),
        (
            &[AUTH, UNTIL],
            Reason::AuthRequired,
            Some(30),
            "The server does not accept the token. The daemon tries again at 08:16:00 UTC.",
        ),
        (
            &[AUTH, HERE],
            Reason::AuthRequired,
            None,
            "The token cannot be used. /token cannot be read: no such file.",
        ),
        (
            &[BACKS_OFF, FORBIDDEN],
            Reason::Backoff,
            Some(30),
            "Sending failed; the next attempt is at 08:16:00 UTC. The server does not accept the token. It responds with \
             HTTP 403.",
        ),
        (
            &[MISCONFIGURED],
            Reason::Misconfigured,
            None,
            "Nothing takes records at the server's address. https://crm.example.com responds, but not to batches.",
        ),
        (
            &[MISCONFIGURED, HERE],
            Reason::Misconfigured,
            None,
            "The configuration cannot be used. server.ca_file: cannot read /ca.pem: it is empty.",
        ),
        (&[MISCONFIGURED, NO_SERVER], Reason::Misconfigured, None, "No server is set."),
        (
            &[DISK],
            Reason::Disk,
            None,
            "The disk under the queue has errors: nothing is sent until it works again. An admin must look at it.",
        ),
        (
            &[NO_ROOM],
            Reason::Disk,
            None,
            "The disk under the queue is full: nothing is sent until an admin makes room on it.",
        ),
        (
            &[REVIEW],
            Reason::Review,
            None,
            "Needs review: it is not sent until its submitter or an admin edits or retries it, or an admin discards \
             it.",
        ),
    ]
});

#[test]
fn every_reason_has_its_time_and_its_sentence() {
    for (number, (conditions, reason, seconds, text)) in ROWS.iter().enumerate() {
        let found = Scene::new().with(conditions).found().unwrap();
        let until = seconds.map(|seconds| NOW + seconds * SECOND);
        let held_by = (*reason == WaitingReason::Key).then_some(BLOCKER);
        let remedy = found.remedy.clone();
        let expected =
            WaitingFor { reason: (*reason).into(), until, held_by, text: (*text).to_owned(), remedy };
        assert_eq!(found, expected, "row {number}");
        assert!(!found.text.contains("secret"), "{}", found.text);
    }
}

#[test]
fn a_record_behind_another_of_its_key_is_not_said_to_have_failed() {
    for conditions in [vec![HELD], vec![HELD, BACKS_OFF], vec![BACKS_OFF, HELD]] {
        let found = Scene::new().with(&conditions).found().unwrap();
        assert_eq!((found.reason, found.until), (WaitingReason::Key.into(), Some(NOW + 75 * SECOND)));
        let text = "An earlier record of its key was not applied and goes first; the next attempt is at 08:16:45 UTC.";
        assert_eq!((found.text.as_str(), found.held_by), (text, None));
    }
}

#[test]
fn of_several_reasons_the_one_that_keeps_the_record_longest_is_named() {
    use WaitingReason as Reason;
    let rows: &[(&[Condition], Reason)] = &[
        (&[REVIEW, DISK, PAUSED, OFFLINE], Reason::Review),
        (&[DISK, IN_BATCH], Reason::Disk),
        (&[NO_ROOM, IN_BATCH], Reason::Disk),
        (&[DISK, BEHIND_REVIEW, PAUSED], Reason::Disk),
        // Sending that has started continues.
        (&[IN_BATCH, PAUSED], Reason::InBatch),
        (&[IN_BATCH, OFFLINE], Reason::InBatch),
        (&[BEHIND_REVIEW, PAUSED], Reason::Key),
        (&[BEHIND_REVIEW, AUTH], Reason::Key),
        (&[BEHIND_FAILED, PAUSED], Reason::Paused),
        (&[OUTCOME, PAUSED], Reason::Paused),
        (&[OUTCOME, AUTH], Reason::AuthRequired),
        (&[OUTCOME, MISCONFIGURED], Reason::Misconfigured),
        (&[MISCONFIGURED, PAUSED], Reason::Paused),
        (&[OUTCOME, METERED], Reason::Outcome),
        (&[OUTCOME, SERVER_ASKED], Reason::Outcome),
        (&[OUTCOME, BEHIND_FAILED], Reason::Outcome),
        (&[BEHIND_FAILED, BATTERY], Reason::Key),
        (&[BEHIND_FAILED, BLOCKER_DUE, BREAKER], Reason::Key),
        (&[DENIED, OFFLINE], Reason::Offline),
        (&[DENIED, SERVER_ASKED], Reason::Backoff),
        (&[DUE, OFFLINE], Reason::Offline),
        (&[DUE, METERED], Reason::Metered),
        // The last of the known times.
        (&[DUE, SERVER_ASKED], Reason::Backoff),
        (&[DUE, BREAKER], Reason::Breaker),
        (&[DUE, AUTH], Reason::AuthRequired),
        // A wait that has ended is not a reason.
        (&[SERVER_ASKED, PAST], Reason::NextBatch),
        (&[DUE, OVERDUE], Reason::NextBatch),
        (&[DUE, OVERDUE, SERVER_ASKED], Reason::ServerWait),
    ];
    for (number, (conditions, reason)) in rows.iter().enumerate() {
        let found = Scene::new().with(conditions).found().unwrap();
        assert_eq!(found.reason, *reason, "row {number}: {}", found.text);
    }
}

#[test]
fn a_synced_record_waits_for_nothing() {
    let mut scene = Scene::new().with(&[PAUSED, DISK]);
    scene.record.entry.state = RecordState::Synced;
    assert_eq!(scene.found(), None);
}
