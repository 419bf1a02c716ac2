//! A full queue and a full disk: the records stay with the application, until there is room within its time limit.

use super::adapter::{Adapter, Language, counts, enqueue, enqueue_within, ids, visits};
use super::relay::{Passage, Relay};
use super::scripted_socket::{Act, ScriptedSocket};
use crate::support::daemon::{Counts, Daemon};
use crate::support::gateway::Gateway;
use crate::support::loop_disk::LoopDisk;
use crate::support::settings::Settings;
use crate::support::user::can_be_others;
use crate::support::wait::{directory, wait_for};

const LIMIT: usize = 5;

fn limited() -> Settings {
    Settings::default().with("queue.max_records", &LIMIT.to_string())
}

fn a_full_queue_is_reported_at_once_if_its_wait_is_longer_than_the_time_limit(language: Language) {
    let daemon = Daemon::start(&limited());
    daemon.enqueue_many(LIMIT);
    let relay = Relay::start(&daemon.home.socket(), |_, _| Passage::Forward);
    let mut client = Adapter::start(language, &relay.path());
    let error = client.fail(&enqueue(&visits(2)));
    error.assert_response("queue_full", 507, "queue_full");
    assert_eq!((error.ids(), error.stored()), (relay.requests()[0].ids(), Vec::new()));
    assert_eq!(relay.requests().len(), 1);
    assert_eq!(daemon.counts().pending, LIMIT as u64);
}

fn records_are_accepted_when_the_queue_has_room_again_within_the_time_limit(language: Language) {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let daemon = Daemon::start(&limited().with("server.url", &gateway.url()));
    daemon.post("/v1/pause", "").expect_json(200);
    daemon.enqueue_many(LIMIT);
    let relay = Relay::start(&daemon.home.socket(), |_, _| Passage::Hasten);
    let mut client = Adapter::start(language, &relay.path());
    client.send(&enqueue(&visits(2)));
    relay.wait_for_requests(2);
    daemon.post("/v1/resume", "").expect_json(200);
    let result = client.receive_ok();
    assert_eq!((counts(&result), ids(&result)), ((2, 0), relay.requests()[0].ids()));
    assert!(relay.requests().iter().all(|request| request.ids() == ids(&result)));
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(LIMIT as u64 + 2));
    assert_eq!(gateway.applied_ids().len(), LIMIT + 2);
}

fn a_queue_that_stays_full_is_the_error_at_the_end_of_the_time_limit(language: Language) {
    let daemon = Daemon::start(&limited());
    daemon.enqueue_many(LIMIT);
    let relay = Relay::start(&daemon.home.socket(), |_, _| Passage::Hasten);
    let mut client = Adapter::start(language, &relay.path());
    let error = client.fail(&enqueue_within(&visits(2), 8000));
    error.assert_response("queue_full", 507, "queue_full");
    let attempts = relay.requests().len();
    assert!((2..=9).contains(&attempts), "{attempts} attempts within 8 s, at most one a second");
    assert_eq!(daemon.counts().pending, LIMIT as u64);
}

fn a_full_disk_is_like_a_full_queue(language: Language) {
    let socket = ScriptedSocket::start(|number, request| match number {
        0 => Act::error(507, "disk_full", "retry-after: 1\r\n"),
        1 => Act::accepted(request),
        _ => Act::error(507, "disk_full", "Retry-After:   60  \r\n"),
    });
    let mut client = Adapter::start(language, &socket.path());
    client.enqueue(&visits(1));
    client.fail(&enqueue(&visits(1))).assert_response("queue_full", 507, "disk_full");
    assert_eq!(socket.requests().len(), 3);
}

fn records_are_accepted_when_a_real_disk_has_room_again(language: Language) {
    if !can_be_others() {
        return;
    }
    let disk = LoopDisk::new(48);
    let settings = Settings::default()
        .with("telemetry.alert_disk_free", "0B")
        .with("queue.state_dir", disk.path("state").to_str().unwrap())
        .with("queue.disk_reserve", "8MiB");
    let daemon = Daemon::start(&settings);
    daemon.enqueue_many(100);
    disk.fill(0);
    wait_for("a refusal", || {
        (daemon.post("/v1/records", r#"{"type":"Visits","payload":{}}"#).status == 507).then_some(())
    });
    let stored = daemon.counts().pending;
    let relay = Relay::start(&daemon.home.socket(), |_, _| Passage::Hasten);
    let mut client = Adapter::start(language, &relay.path());
    client.send(&enqueue(&visits(2)));
    relay.wait_for_requests(2);
    disk.make_room();
    let result = client.receive_ok();
    assert_eq!((counts(&result), ids(&result)), ((2, 0), relay.requests()[0].ids()));
    assert_eq!(daemon.counts().pending, stored + 2);
}

for_each_client! {
    a_full_queue_is_reported_at_once_if_its_wait_is_longer_than_the_time_limit,
    records_are_accepted_when_the_queue_has_room_again_within_the_time_limit,
    a_queue_that_stays_full_is_the_error_at_the_end_of_the_time_limit,
    a_full_disk_is_like_a_full_queue,
    records_are_accepted_when_a_real_disk_has_room_again,
}
