//! The situations in which a person must correct the configuration.

use super::*;

#[test]
fn a_wrong_configuration_says_what_to_correct() {
    use SyncReason as Reason;
    check(
        Reason::Misconfigured,
        "Nothing takes records at the server's address: 3 records waiting. https://crm.example.com/base responds, but \
         not to batches (HTTP 404).",
        "correct server.url and server.path",
        |scene| {
            failed(scene, "misconfigured", Some(404));
            scene.phase = Phase::Misconfigured;
        },
    );
    check(
        Reason::Misconfigured,
        "The configuration cannot be used: 3 records waiting. server.ca_file: cannot read /ca.pem: it is empty.",
        "correct server.ca_file or that file",
        |scene| {
            (scene.phase, scene.is_local_error) = (Phase::Misconfigured, true);
            let message = "server.ca_file: cannot read /ca.pem: it is empty".into();
            scene.last_failure = Some(LastError { message, ..error("misconfigured", None) });
        },
    );
    check(
        Reason::NoServer,
        "No server is set: 3 records waiting",
        "sudo fieldsync setup --url https://… (or set server.url in /etc/f.toml)",
        |scene| {
            (scene.phase, scene.url) = (Phase::Misconfigured, "");
        },
    );
    check(
        Reason::NoServer,
        "No server is set",
        "sudo fieldsync setup --url https://… (or set server.url in /etc/f.toml)",
        |scene| {
            (scene.phase, scene.url) = (Phase::Misconfigured, "");
            scene.backlog = Backlog::default();
        },
    );
}

#[test]
fn a_refused_configuration_is_named_and_changes_no_reason() {
    let refusal = Some("line 3: server.url must be a URL");
    let idle = Scene { phase: Phase::Idle, backlog: Backlog::default(), refusal, ..Scene::new() }.describe();
    assert_eq!(idle.reason, SyncReason::NothingToSend);
    assert_eq!(idle.text, "Nothing to sync (configuration refused: line 3: server.url must be a URL)");
    assert!(idle.remedy.is_some_and(|remedy| remedy.contains("systemctl reload fieldsync")));
    let paused = Scene { phase: Phase::Paused, refusal, ..Scene::new() }.describe();
    let both =
        "to send again: fieldsync resume. Also correct the configuration, then: systemctl reload fieldsync";
    assert_eq!(paused.remedy.unwrap(), both);
}
