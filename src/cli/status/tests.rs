use super::super::testing::{run_verb, sample_status};
use super::*;
use crate::api::{Alert, AlertName, AlertSeverity, Phase};
use crate::client::scripted::{ScriptedDaemon, response_step};
use crate::model::{BatchId, RecordId, RecordState, Sequence};

const SHORT: StatusArgs = StatusArgs { watch: false, verbose: false, all: false, check: false };

fn syncing_status() -> Status {
    let records = Counts { pending: 105, synced: 45, quarantined: 2, ..Counts::default() };
    sample_status(Phase::Syncing, "Syncing 45 of 150 records (2 need review)", records)
}

#[test]
fn the_sentence_comes_first() {
    let text = describe_status(&syncing_status(), &SHORT, 202_000).join("\n");
    let expected = "Syncing 45 of 150 records (2 need review)\n\n\
         Records       105 waiting, 0 sending, 0 failed, 45 synced, 2 need review\n\
         Queue         107 of 5000000 records, 176.9 KiB of 2.0 GiB; the oldest record has waited 3 min 12 s\n\
         Connectivity  online for 3 min 12 s\n\
         Time left     about 31 s\n\
         Daemon        0.1.0, started 3 min 22 s ago\n\
         Device        van-12 (00000000-0000-0000-0000-000000000000)\n\n\
         2 records need review: fieldsync quarantine list";
    assert_eq!(text, expected);
    let details = "Next batch    23 records (learned: 27.0 s expected, 33.0 s at most; the server's limit is 1 min)\n\
         Pace          1166 ms for each record; a batch should take 45 s at most\n\
         Breaker       normal\n";
    let verbose = describe_status(&syncing_status(), &StatusArgs { verbose: true, ..SHORT }, 202_000);
    assert!(verbose.join("\n").contains(details), "{verbose:?}");
}

#[test]
fn all_batches_under_way_are_shown() {
    let mut status = syncing_status();
    let batch = |index, attempt| BatchInFlight {
        id: BatchId::new(),
        sequence: Sequence { index, total: 6 },
        records: 25,
        attempt,
        sent_at: 190_000,
    };
    status.sync.batch = Some(batch(3, 1));
    let of_an_older_daemon = describe_status(&status, &SHORT, 202_000).join("\n");
    assert!(
        of_an_older_daemon.contains("\nIn flight     batch 3/6, 25 records, try 1\n"),
        "{of_an_older_daemon}"
    );
    status.sync.batches = vec![batch(3, 1), batch(4, 2)];
    status.batching.in_flight = 2;
    status.batching.in_flight_limit = 4;
    let expected = "\nIn flight     2 of at most 4 batches under way (measured)\n\
         \x20             batch 3/6, 25 records, try 1\n\
         \x20             batch 4/6, 25 records, try 2\n";
    let text = describe_status(&status, &SHORT, 202_000).join("\n");
    assert!(text.contains(expected), "{text}");
}

#[test]
fn what_to_do_comes_second() {
    let mut status = syncing_status();
    status.sync.text = "The server cannot be reached: 3 records waiting.".to_owned();
    status.sync.remedy = Some("start the server".to_owned());
    status.sync.since = Some(22_000);
    status.sync.next_attempt_at = Some(232_000);
    status.sync.last_success_at = Some(10_000);
    let expected = "The server cannot be reached: 3 records waiting.\nTo do: start the server\n\n\
         Since         1970-01-01T00:00:22.000Z (3 min ago)\n\
         Next try      in 30 s\n\
         Last success  1970-01-01T00:00:10.000Z (3 min 12 s ago)\n";
    let text = describe_status(&status, &SHORT, 202_000).join("\n");
    assert!(text.starts_with(expected), "{text}");
    let while_it_is_tried = describe_status(&status, &SHORT, 242_000).join("\n");
    assert!(while_it_is_tried.contains("\nNext try      now\n"), "{while_it_is_tried}");
}

#[test]
fn a_user_sees_its_own_records_first_and_admins_see_the_device() {
    let records = Counts { failed: 3, quarantined: 1, ..Counts::default() };
    let queue = CallerQueue {
        records: 4,
        max_records: 300,
        bytes: 2048,
        max_bytes: 4096,
        disk_bytes: 0,
        max_disk_bytes: 0,
    };
    let caller = Caller { uid: 1000, admin: false, records: Some(records), queue: Some(queue) };
    let status = Status { caller: Some(caller), ..syncing_status() };
    let text = describe_status(&status, &SHORT, 202_000).join("\n");
    let expected = "3 of your records wait to be sent (1 needs review)\n\
         The device: Syncing 45 of 150 records (2 need review)\n\n\
         Your records  0 waiting, 0 sending, 3 failed, 0 synced, 1 needs review\n\
         Your queue    4 of 300 records, 2.0 KiB of 4.0 KiB\n";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("1 record needs review: fieldsync quarantine list"), "{text}");
    let device = describe_status(&syncing_status(), &SHORT, 202_000);
    assert_eq!(describe_status(&status, &StatusArgs { all: true, ..SHORT }, 202_000), device);
    let uncounted = Caller { records: None, queue: None, ..caller };
    for caller in [Caller { admin: true, ..caller }, uncounted] {
        let status = Status { caller: Some(caller), ..syncing_status() };
        assert_eq!(describe_status(&status, &SHORT, 202_000), device);
    }
}

#[test]
fn a_sentence_summarizes_the_users_own_records() {
    for (to_go, quarantined, synced, expected) in [
        (0, 0, 0, "You have no records here"),
        (0, 0, 1, "Your record is synced"),
        (0, 0, 40, "All 40 of your records are synced"),
        (0, 1, 40, "Of your records, 1 needs review; none wait to be sent"),
        (1, 0, 40, "1 of your records waits to be sent"),
        (12, 2, 0, "12 of your records wait to be sent (2 need review)"),
    ] {
        let counts = Counts { pending: to_go, quarantined, synced, ..Counts::default() };
        assert_eq!(own_sentence(&counts), expected);
    }
}

#[test]
fn problems_have_lines_of_their_own() {
    let mut status = syncing_status();
    assert_eq!(describe_disk(&status.queue), None);
    status.queue.disk = DiskState::Full.into();
    status.queue.disk_free_bytes = Some(2048);
    let id = RecordId::new();
    let state = RecordState::Quarantined;
    status.queue.blockers =
        vec![Blocker { id, key: Some("Acme".into()), submitter: 0, state, blocked_count: 1000 }];
    let message = "the disk is full: no new records are taken".to_owned();
    status.alerts = vec![Alert {
        alert: AlertName::DiskFull.into(),
        severity: AlertSeverity::Critical.into(),
        message,
        remedy: "free some space".into(),
        since: 190_000,
    }];
    let text = describe_status(&status, &SHORT, 202_000).join("\n");
    for part in [
        "\nDisk          full: no new records are accepted, 2.0 KiB free\n",
        &format!("\nBlocking      {id} (needs review) blocks at least 1000 records of key Acme\n"),
        "\nALERT disk_full: the disk is full: no new records are taken (since 12 s ago)\nTo do: free some space\n",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_phase_and_a_disk_state_of_a_newer_daemon_are_shown() {
    let mut newer = serde_json::to_value(syncing_status()).unwrap();
    newer["sync"]["phase"] = "hibernating".into();
    newer["queue"]["disk"] = "slow\u{1b}".into();
    let status: Status = serde_json::from_value(newer.clone()).unwrap();
    let text = describe_status(&status, &SHORT, 202_000).join("\n");
    assert!(text.contains("\nDisk          slow\u{fffd}\n"), "{text}");
    assert_eq!(serde_json::to_value(&status).unwrap(), newer);
}

#[tokio::test]
async fn json_is_the_daemons_own_on_one_line() {
    let daemon =
        ScriptedDaemon::new(vec![response_step(200, "{\n \"sync\": {\"text\": \"a b\"},\n \"new\": 1\n}\n")]);
    let (code, text) = run_verb(&daemon, true, async |context| super::run(&SHORT, context).await).await;
    assert_eq!(code, Ok(0));
    assert_eq!(text, "{\"sync\":{\"text\":\"a b\"},\"new\":1}\n");
}
