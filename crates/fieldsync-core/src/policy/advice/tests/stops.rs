//! What does not end by itself is named with its remedy in every phase, and is not hidden by other waits.

use super::*;
use crate::config::{ConfigFile, parse_layers};
use crate::model::TlsExplanation;

/// As after many attempts.
fn failed_long_ago(scene: &mut Scene, class: &str, http_status: Option<u16>) {
    failed(scene, class, http_status);
    scene.outage_since = Some(NOW - HOUR);
}

#[test]
fn a_refusal_is_named_in_every_phase_until_another_result_comes() {
    for phase in [Phase::Waiting, Phase::Syncing, Phase::AuthRequired] {
        let mut scene = Scene::new();
        failed(&mut scene, "unauthorized", Some(403));
        (scene.phase, scene.sent_at) = (phase, Some(NOW));
        let found = scene.describe();
        assert_eq!(found.reason, SyncReason::AuthRequired, "{phase:?}");
        assert_eq!(
            found.text, "The server does not accept the token: 3 records waiting. It responds with HTTP 403.",
            "{phase:?}"
        );
        assert!(found.remedy.is_some_and(|remedy| remedy.contains("renew the token")), "{phase:?}");
    }
    check(
        SyncReason::Misconfigured,
        "Nothing takes records at the server's address: 3 records waiting. https://crm.example.com/base responds, but \
         not to batches (HTTP 404).",
        "correct server.url and server.path",
        |scene| failed(scene, "misconfigured", Some(404)),
    );
    check(
        SyncReason::LoginPage,
        "Another site responds in place of the server: 3 records waiting. It responds with HTTP 302.",
        "log in to the network with a browser",
        |scene| failed(scene, "interfered", Some(302)),
    );
}

#[test]
fn a_server_that_refuses_every_batch_is_not_said_to_recover_by_itself() {
    for (class, status) in [("refused", 400), ("refused", 422), ("refused", 418), ("too_large", 413)] {
        for phase in [Phase::Waiting, Phase::Syncing] {
            let mut scene = Scene::new();
            failed_long_ago(&mut scene, class, Some(status));
            scene.phase = phase;
            let found = scene.describe();
            let text =
                format!("The server refuses the records: 3 records waiting. It responds with HTTP {status}.");
            assert_eq!((found.reason, found.text), (SyncReason::Refused, text), "{phase:?}");
            let remedy = "tell the administrator of the server; check server.url and server.path";
            assert_eq!(found.remedy.as_deref(), Some(remedy), "{phase:?}");
        }
    }
    // One record may be the reason, which the daemon finds.
    check(
        SyncReason::Retry,
        "Waiting 32 s to retry: 3 records waiting. The server refused the last batch (HTTP 422).",
        "nothing",
        |scene| failed(scene, "refused", Some(422)),
    );
    let denied_while_others_get_through = |scene: &mut Scene| {
        failed_long_ago(scene, "unauthorized", Some(403));
        let error = error("unauthorized", Some(403));
        scene.denied = vec![DeniedSet { batch_id: BatchId::new(), records: 1, denials: 3, error }];
    };
    check(
        SyncReason::Retry,
        "Waiting 32 s to retry: 3 records waiting. The server refused the last batch (HTTP 403). (1 record is refused \
         with HTTP 403 while others get through)",
        "nothing",
        denied_while_others_get_through,
    );
}

#[test]
fn records_that_need_review_are_named_in_every_wait() {
    let wait = |scene: &mut Scene| {
        failed(scene, "retry", Some(200));
        scene.last_failure.as_mut().unwrap().code = Some("LATER".into());
        (scene.backlog.quarantined, scene.settled) = (1, 1);
    };
    check(
        SyncReason::Retry,
        "Waiting 32 s to retry: 3 records waiting (1 needs review). The server asks to send some records again later \
         (LATER).",
        "decide about each record that needs review",
        wait,
    );
    check(
        SyncReason::ServerDown,
        "The server cannot be reached: 3 records waiting (2 need review). The network is there; nothing listens at \
         crm.example.com:443.",
        "start the server",
        |scene| {
            unreachable(scene, ConnectFailure::Refused);
            (scene.backlog.quarantined, scene.settled) = (2, 2);
        },
    );
}

#[test]
fn a_missing_token_is_told_apart_from_one_that_is_refused() {
    for (has_token, has_certificate, headline, remedy) in [
        (
            false,
            false,
            "The server wants a token, and none is set",
            "sudo fieldsync setup --url https://crm.example.com/base --token-file FILE",
        ),
        (true, false, "The server does not accept the token", "renew the token in server.token_file"),
        (
            false,
            true,
            "The server does not accept the certificate of this device",
            "renew the certificate in server.client_cert_file",
        ),
        (true, true, "The server does not accept the token or the certificate", "or the certificate"),
    ] {
        let mut scene = Scene::new();
        failed(&mut scene, "unauthorized", Some(401));
        scene.phase = Phase::AuthRequired;
        scene.credential = CredentialFacts { has_token, has_certificate };
        let found = scene.describe();
        assert_eq!(found.text, format!("{headline}: 3 records waiting. It responds with HTTP 401."));
        assert!(found.remedy.unwrap().contains(remedy), "{headline}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_its_remedy() {
    check(
        SyncReason::AuthRequired,
        "The token cannot be used: 3 records waiting. /etc/token is open to others (mode 0644).",
        "chmod o= /etc/token",
        |scene| {
            (scene.phase, scene.is_local_error) = (Phase::AuthRequired, true);
            let message = "/etc/token is open to others (mode 0644). Nothing is sent meanwhile, records are kept. To fix \
                           it: chmod o= /etc/token";
            let message = message.to_owned();
            scene.last_failure = Some(LastError { message, ..error("unauthorized", None) });
        },
    );
}

#[test]
fn a_port_without_http_and_tls_failures_have_their_own_causes() {
    check(
        SyncReason::Misconfigured,
        "The server cannot be reached: 3 records waiting. 10.1.2.3:8080 responds, but not with HTTP.",
        "check scheme and port of server.url",
        |scene| {
            unreachable(scene, ConnectFailure::NotHttp);
            scene.url = "http://10.1.2.3:8080";
        },
    );
    check(
        SyncReason::ConnectionLost,
        "The server cannot be reached: 3 records waiting. 10.1.2.3:8080 closes the connection without a response.",
        "check scheme and port of server.url: https:// where the server has TLS",
        |scene| {
            unreachable(scene, ConnectFailure::Closed);
            scene.url = "http://10.1.2.3:8080";
        },
    );
    check(
        SyncReason::ConnectionLost,
        "The server cannot be reached: 3 records waiting. crm.example.com:443 closes the connection without a response.",
        "check the port of server.url",
        |scene| unreachable(scene, ConnectFailure::Closed),
    );
    check(
        SyncReason::ServerDown,
        "The server cannot be reached: 3 records waiting. The connection to crm.example.com:443 fails.",
        "fieldsync doctor says why",
        |scene| unreachable(scene, ConnectFailure::Other),
    );
    check(
        SyncReason::Tls,
        "The server cannot be reached: 3 records waiting. The encrypted connection (TLS) to crm.example.com:443 fails: \
         its certificate is for another name.",
        "correct the name",
        |scene| {
            let (what, remedy) = ("its certificate is for another name", "correct the name in server.url");
            unreachable(scene, ConnectFailure::TlsExplained(TlsExplanation { what, remedy }));
        },
    );
}

#[test]
fn every_cause_keeps_its_remedy() {
    check(
        SyncReason::DiskFull,
        "The disk is full: no new records are taken. Paused: 3 records waiting",
        "free some space on the disk under the queue; fieldsync doctor names it. Then: to send again: fieldsync resume",
        |scene| (scene.phase, scene.backlog.storage.disk) = (Phase::Paused, DiskState::Full),
    );
}

#[test]
fn a_remedy_names_the_line_that_sets_the_key() {
    let text = "[server]\nurl = \"https://crm.example.com/base\"\n".to_owned();
    let file = ConfigFile { path: "/etc/f/conf.d/10-setup.toml".into(), text };
    let mut scene = Scene::new();
    scene.sources = parse_layers(&vec![file].into(), std::iter::empty()).unwrap().sources;
    unreachable(&mut scene, ConnectFailure::Refused);
    assert_eq!(
        scene.describe().remedy.unwrap(),
        "start the server, or correct server.url (/etc/f/conf.d/10-setup.toml:2); then sending continues by itself"
    );
    (scene.phase, scene.url) = (Phase::Misconfigured, "");
    assert_eq!(scene.describe().remedy.unwrap(), "set server.url (/etc/f/conf.d/10-setup.toml:2)");
}

#[test]
fn a_full_queue_is_said_first_and_making_room_comes_before_a_higher_limit() {
    let full =
        |user: Option<&str>| Some(FullQueue { key: "queue.max_records", user: user.map(str::to_owned) });
    let mut scene = Scene::new();
    scene.full_queue = full(None);
    let found = scene.describe();
    assert_eq!(found.reason, SyncReason::Sending);
    assert_eq!(found.text, "The queue is full: no new records are taken. Syncing 0 of 3 records");
    let remedy = "wait until records are sent, which makes room in the queue, or raise queue.max_records";
    assert_eq!(found.remedy.unwrap(), remedy);
    (scene.phase, scene.full_queue) = (Phase::Paused, full(Some("visits-app")));
    let found = scene.describe();
    assert_eq!(
        found.text,
        "The share of visits-app in the queue is full: no new records are taken. Paused: 3 records waiting"
    );
    let remedy = "to send again: fieldsync resume. That makes room in the queue; \
                  else raise queue.max_user_share or queue.max_records";
    assert_eq!(found.remedy.unwrap(), remedy);
}
