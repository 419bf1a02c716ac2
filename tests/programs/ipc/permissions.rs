//! Who may do what, by the credentials that the kernel reports. These tests call as several users, so they need root.

use std::fs::File;
use std::os::unix::fs::chown;

use serde_json::json;

use crate::support::daemon::{Daemon, Home, daemon_command};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::user::{GROUP, User, can_play, gid, open_to_all};

const NOT_PERMITTED: Option<i32> = Some(5);
const DONE: Option<i32> = Some(0);
/// User ids that exist on no machine.
const OWNER: u32 = 54_321;
const STRANGER: u32 = 54_322;
const MEMBER: u32 = 54_323;

fn rejecting() -> ScriptedServer {
    ScriptedServer::start(|request| {
        let status = json!({"status": "rejected", "code": "C", "message": "M"});
        Reply::results(request.batch_id(), &request.ids(), |_| Some(status.clone()))
    })
}

#[test]
fn admin_calls_are_for_root_the_daemons_own_user_and_members_of_the_group() {
    if !can_play() {
        return;
    }
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("ipc.admin_group", GROUP));
    open_to_all(&daemon);
    let group = gid();
    let root = User { uid: 0, gid: 0, group: None };
    let by_group = User { group: Some(group), ..User::without_groups(MEMBER) };
    let by_main_group = User { gid: group, ..User::without_groups(MEMBER) };
    // The process does not have the group, but its user is a member: it is the primary group of user 1.
    let by_name = User { uid: 1, gid: MEMBER, group: None };
    for (user, expected) in [
        (root, DONE),
        (by_group, DONE),
        (by_main_group, DONE),
        (by_name, DONE),
        (User::without_groups(STRANGER), NOT_PERMITTED),
        (User { group: Some(group + 1), ..User::without_groups(STRANGER) }, NOT_PERMITTED),
    ] {
        daemon.enqueue_many(1);
        daemon.wait_until_done();
        let id = daemon.in_state("QUARANTINED").into_iter().next().unwrap();
        for call in [
            &["pause"][..],
            &["resume"],
            &["quarantine", "add", &id],
            &["quarantine", "discard", &id],
            &["store", "acknowledge"],
        ] {
            let ran = user.call(&daemon, call, "");
            assert_eq!(ran.code, expected, "{call:?} by {} of {}: {}", user.uid, user.gid, ran.stderr);
            assert!(expected == DONE || ran.stderr.contains("admin"), "{}", ran.stderr);
        }
        // A user who may open the socket may read, enqueue, sync now and retry.
        assert_eq!(user.call(&daemon, &["status"], "").code, DONE);
        assert_eq!(user.call(&daemon, &["sync"], "").code, DONE);
        let record = r#"{"type":"T","payload":{}}"#;
        assert_eq!(user.call(&daemon, &["enqueue"], record).code, DONE);
        daemon.wait_until_done();
        assert_eq!(user.call(&daemon, &["quarantine", "retry", "--all"], "").code, DONE);
        daemon.wait_until_done();
    }
}

#[test]
fn a_payload_is_for_its_submitter_and_admins() {
    if !can_play() {
        return;
    }
    let daemon = Daemon::start(&Settings::default().with("ipc.admin_group", GROUP));
    open_to_all(&daemon);
    let owner = User::without_groups(OWNER);
    let record = r#"{"type":"T","payload":{"text":"confidential"}}"#;
    let enqueued = owner.call(&daemon, &["--json", "enqueue"], record);
    assert_eq!(enqueued.code, DONE, "{}", enqueued.stderr);
    let page = daemon.get("/v1/records").expect_json(200);
    let id = page["records"][0]["id"].as_str().unwrap().to_owned();
    // A restart does not change its submitter.
    let daemon = daemon.restart();
    open_to_all(&daemon);
    let group = gid();
    for (user, expected) in [
        (owner, DONE),
        (User { uid: 0, gid: 0, group: None }, DONE),
        (User { group: Some(group), ..User::without_groups(MEMBER) }, DONE),
        (User::without_groups(STRANGER), NOT_PERMITTED),
        (User { gid: OWNER, ..User::without_groups(STRANGER) }, NOT_PERMITTED),
    ] {
        let shown = user.call(&daemon, &["show", &id, "--payload"], "");
        assert_eq!(shown.code, expected, "{}: {}", user.uid, shown.stderr);
        let reported = shown.stdout + &shown.stderr;
        assert_eq!(reported.contains("confidential"), expected == DONE, "{reported}");
        let entry = user.call(&daemon, &["show", &id], "");
        assert_eq!(entry.code, DONE, "what is not the payload is for everybody: {}", entry.stderr);
    }
}

#[test]
fn a_daemon_of_an_ordinary_user_obeys_that_user_and_root() {
    if !can_play() {
        return;
    }
    let home = Home::new(&Settings::default());
    let (user, path) = (User::without_groups(OWNER), home.path(""));
    chown(&path, Some(OWNER), Some(OWNER)).unwrap();
    let log = File::create(home.path("log")).unwrap();
    let mut command = user.command(env!("CARGO_BIN_EXE_fieldsyncd"));
    for (variable, _) in daemon_command().get_envs() {
        command.env_remove(variable);
    }
    command.arg("--config").arg(home.path("config.toml")).current_dir("/").stderr(log);
    let daemon = home.start_by(command);
    open_to_all(&daemon);
    assert_eq!(user.call(&daemon, &["pause"], "").code, DONE);
    assert_eq!(daemon.post("/v1/resume", "").status, 200, "root is an admin of every daemon");
    assert_eq!(User::without_groups(STRANGER).call(&daemon, &["pause"], "").code, NOT_PERMITTED);
    assert_eq!(daemon.status()["sync"]["phase"], "misconfigured", "it is not paused");
}
