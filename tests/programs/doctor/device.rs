//! Configuration, socket, permissions, disk and clock.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use super::{
    DoctorRun, NOBODY, change_mode, copy_of_program, doctor, is_root, run_as_text, run_doctor_as_nobody,
};
use crate::support::daemon::{Daemon, Home};
use crate::support::gateway::Gateway;
use crate::support::process::{Guard, run, signal};
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

const CHECKS: [&str; 10] = [
    "configuration",
    "socket",
    "permissions",
    "disk",
    "connectivity",
    "credential",
    "server",
    "clock",
    "records",
    "alerts",
];

#[test]
fn a_healthy_device_has_no_problem_and_every_check_is_listed() {
    let directory = directory();
    place(&directory.path().join("tokens"), "sesame-open", 0o600);
    let tokens = directory.path().join("tokens");
    let gateway = Gateway::start(directory.path(), &["--token-file", tokens.to_str().unwrap()]);
    let home = Home::new(&Settings::default());
    place(&home.path("token"), "sesame-open", 0o600);
    let token = home.path("token");
    home.configure(&Settings::for_server(&gateway.url()).with("server.token_file", token.to_str().unwrap()));
    let daemon = home.start();
    daemon.enqueue_many(3);
    daemon.wait_until_done();
    let visit = DoctorRun::to(&daemon.home);
    assert_eq!(visit.code, Some(0), "{:#}", visit.report);
    let mut reported: Vec<&str> = visit.findings().iter().map(|one| one["check"].as_str().unwrap()).collect();
    reported.dedup();
    assert_eq!(reported, CHECKS);
    for (check, words) in [
        ("configuration", "is valid"),
        ("socket", concat!("a daemon of version ", env!("CARGO_PKG_VERSION"), " responds")),
        ("permissions", "only "),
        ("connectivity", "is open (loopback)"),
        ("credential", "server.token_file"),
        ("server", "accepts the token"),
        ("clock", "agrees with the server's"),
        ("records", "All 3 records synced"),
        ("alerts", "no alert is active"),
    ] {
        visit.found(check, "ok", &[words]);
    }
    let ran = run_as_text(&daemon.home);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let shown = CHECKS.map(|check| if check == "credential" { "tokens, certs" } else { check });
    assert!(shown.iter().all(|check| ran.stdout.contains(check)), "{}", ran.stdout);
}

#[test]
fn a_configuration_that_the_daemon_would_refuse_is_reported_key_by_key() {
    let home = Home::new(&Settings::default());
    for (text, words) in [
        (
            "[server]\nurll = \"http://x\"\n",
            &["unknown key urll in [server]; did you mean url?", "--check-config"][..],
        ),
        ("[batch]\nmicro_batch = 0\nsafety_margin = 1.0\n", &["batch.micro_batch: must be at least 1"]),
        (
            "[batch]\nmicro_batch = 0\nsafety_margin = 1.0\n",
            &["batch.safety_margin", "change batch.safety_margin"],
        ),
    ] {
        fs::write(home.path("config.toml"), text).unwrap();
        let visit = DoctorRun::to(&home);
        visit.found("configuration", "problem", words);
        visit.found("server", "could_not_check", &["correct the configuration first"]);
        let ran = run_as_text(&home);
        assert_eq!(ran.code, Some(1));
        assert!(!ran.stdout.contains('\u{fffd}'), "lines stay lines: {}", ran.stdout);
    }
    let mut wrong = doctor(&super::program(), &home.path("nowhere.toml"));
    DoctorRun::by(wrong.arg("--json")).found("configuration", "problem", &["nowhere.toml: cannot be read"]);
    home.configure(&Settings::default());
    let mut wrong = doctor(&super::program(), &home.path("config.toml"));
    wrong.arg("--json").env("FIELDSYNC_BATCH__MICRO_BATCH", "many");
    DoctorRun::by(&mut wrong).found(
        "configuration",
        "problem",
        &["FIELDSYNC_BATCH__MICRO_BATCH", "systemctl edit fieldsync"],
    );
    let mut wrong = doctor(&super::program(), &home.path("config.toml"));
    wrong.arg("--json").env("FIELDSYNC_BATCH__MICRO_BATCH", "0");
    DoctorRun::by(&mut wrong).found(
        "configuration",
        "problem",
        &["batch.micro_batch: must be at least 1", "correct or unset FIELDSYNC_BATCH__MICRO_BATCH"],
    );
    DoctorRun::to(&home).found("configuration", "problem", &["server.url is empty", "set server.url in"]);
    let mut varied = doctor(&super::program(), &home.path("config.toml"));
    varied.arg("--json").env("FIELDSYNC_SERVER__URL", "http://127.0.0.1:9");
    DoctorRun::by(&mut varied).found("configuration", "ok", &["override it: FIELDSYNC_SERVER__URL"]);
    let mut named = doctor(&super::program(), &home.path("config.toml"));
    named.arg("--json").env("FIELDSYNC_SERVER__URL", "http://sesame@127.0.0.1:9");
    DoctorRun::by(&mut named).found("configuration", "problem", &["server.url: must not contain a user"]);
}

#[test]
fn changes_that_the_running_daemon_has_not_read_are_reported() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.home.configure(&Settings::for_server(&server.url()).with("queue.max_bytes", "1GiB"));
    // File times have a resolution of some milliseconds.
    let file = File::options().write(true).open(daemon.home.path("config.toml")).unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    file.set_modified(written + Duration::from_secs(1)).unwrap();
    let visit = DoctorRun::to(&daemon.home);
    visit.found("configuration", "warning", &["another queue.max_bytes", "systemctl reload fieldsync"]);
    assert_eq!(visit.code, Some(0));
    daemon.signal("HUP");
    daemon.wait_for_log("the configuration was read again");
    let valid = |visit: &DoctorRun| visit.of("configuration").iter().all(|(result, _)| *result == "ok");
    assert!(valid(&DoctorRun::to(&daemon.home)));
    file.set_modified(written - Duration::from_secs(1)).unwrap();
    let visit = DoctorRun::to(&daemon.home);
    assert!(valid(&visit) && visit.of("configuration").len() == 1, "{:?}", visit.of("configuration"));
    file.set_modified(written + Duration::from_mins(10)).unwrap();
    let visit = DoctorRun::to(&daemon.home);
    visit.found("configuration", "ok", &["config.toml was changed after the running daemon read it"]);
    assert!(visit.of("configuration").iter().all(|(_, text)| !text.contains("systemctl")));
    fs::write(daemon.home.path("config.toml"), "[server]\nrequest_timout = \"1s\"\n").unwrap();
    // The broken file does not name the socket.
    let mut broken = doctor(&super::program(), &daemon.home.path("config.toml"));
    DoctorRun::by(broken.arg("--json").env("FIELDSYNC_SOCKET", daemon.home.socket())).found(
        "configuration",
        "problem",
        &["the last good configuration stays in use", "--check-config && systemctl reload fieldsync"],
    );
}

#[test]
fn a_daemon_that_does_not_respond_is_reported_with_the_reason() {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server(&server.url()));
    let visit = DoctorRun::to(&home);
    visit.found("socket", "problem", &["there is no socket", "systemctl start fieldsync"]);
    visit.found("records", "could_not_check", &["without a running daemon"]);
    // All other checks are made.
    visit.problems(&["socket"]);
    visit.found("server", "ok", &["responds as it should"]);
    fs::write(home.socket(), "").unwrap();
    DoctorRun::to(&home).found("socket", "problem", &["is not a socket", "move that file away"]);
    fs::remove_file(home.socket()).unwrap();
    let home = home.start().kill9();
    DoctorRun::to(&home).found("socket", "problem", &["no program listens", "journalctl -u fieldsync"]);
}

#[test]
fn a_daemon_without_its_socket_file_is_distinguished_from_a_stopped_one() {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server(&server.url()));
    // It listens on another socket than the doctor uses, which looks the same from here.
    let elsewhere = home.path("elsewhere.sock");
    let mut command = home.command();
    command.env("FIELDSYNC_IPC__SOCKET", &elsewhere);
    let mut daemon = Guard(command.spawn().unwrap());
    wait_for("the daemon to listen", || elsewhere.exists().then_some(()));
    let visit = DoctorRun::to(&home);
    visit.found(
        "socket",
        "problem",
        &["a daemon runs", "its socket file was removed", "systemctl restart fieldsync.socket"],
    );
    drop(UnixListener::bind(home.socket()).unwrap());
    DoctorRun::to(&home).found("socket", "problem", &["a daemon runs", "systemctl restart fieldsync.socket"]);
    signal(daemon.0.id(), "TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    fs::remove_file(home.socket()).unwrap();
    DoctorRun::to(&home).found("socket", "problem", &["no daemon runs", "systemctl start fieldsync"]);
    if is_root() {
        let visit = run_doctor_as_nobody(&home);
        visit.found("socket", "problem", &["cannot see whether a daemon runs", "sudo fieldsync doctor"]);
    }
}

#[test]
fn a_user_who_may_not_open_the_socket_gets_the_group_and_the_missing_rights() {
    if !is_root() {
        return;
    }
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::default());
    place(&home.path("token"), "sesame-open", 0o600);
    let token = home.path("token");
    home.configure(&Settings::for_server(&server.url()).with("server.token_file", token.to_str().unwrap()));
    let daemon = home.start();
    let visit = run_doctor_as_nobody(&daemon.home);
    visit.found("socket", "problem", &["not in the group root", "sudo usermod -aG root"]);
    visit.found("credential", "could_not_check", &["only root can read", "sudo fieldsync doctor"]);
    visit.found("disk", "could_not_check", &["you may not read"]);
    visit.found("server", "ok", &["even without the token"]);
    visit.found("permissions", "ok", &["may read the status and enqueue"]);
    visit.problems(&["socket"]);
    change_mode(&daemon.home.path("config.toml"), 0o600);
    let visit = run_doctor_as_nobody(&daemon.home);
    visit.found("configuration", "could_not_check", &["sudo fieldsync doctor"]);
    // In the group since its login.
    let copy = copy_of_program(&daemon.home);
    change_mode(&daemon.home.path("config.toml"), 0o644);
    let mut member = doctor(&copy, &daemon.home.path("config.toml"));
    member.arg("--json").uid(NOBODY).gid(0);
    DoctorRun::by(&mut member).found("socket", "ok", &["responds"]);
}

#[test]
fn excess_rights_of_other_users_are_reported() {
    let server = ScriptedServer::start(Reply::correct);
    // 0666, as a TOML integer.
    let settings = Settings::for_server(&server.url()).with("ipc.socket_mode", "438");
    let daemon = Daemon::start(&settings.clone().with("ipc.admin_group", "no-such-group"));
    let state = daemon.home.path("state");
    change_mode(&state, 0o755);
    let visit = DoctorRun::to(&daemon.home);
    visit.found("permissions", "warning", &["open to users other than its owner", "mode 0755", "chmod 0700"]);
    visit.found("permissions", "warning", &["every user of this device", "mode 0666"]);
    visit.found("permissions", "problem", &["no-such-group", "sudo groupadd --system no-such-group"]);
    if is_root() {
        // The root of a file system contains it.
        fs::create_dir(state.join("lost+found")).unwrap();
        std::os::unix::fs::chown(state.join("lost+found"), Some(NOBODY), None).unwrap();
        let visit = DoctorRun::to(&daemon.home);
        assert!(
            visit.of("permissions").iter().all(|(_, text)| !text.contains("lost+found")),
            "{:#}",
            visit.report
        );
        std::os::unix::fs::chown(state.join("queue.redb"), Some(NOBODY), None).unwrap();
        DoctorRun::to(&daemon.home).found(
            "permissions",
            "problem",
            &["queue.redb belongs to nobody", "sudo chown -R root:"],
        );
    }
}

#[test]
fn a_kept_damaged_store_is_reported() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let kept = daemon.home.path("state/queue.redb.damaged-20260301T081530Z");
    fs::write(&kept, "").unwrap();
    let salvage = format!("fieldsync store salvage {}", kept.display());
    DoctorRun::to(&daemon.home).found("disk", "warning", &[&salvage]);
}

#[test]
fn a_clock_before_the_build_time_of_the_program_is_a_problem() {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server(&server.url()));
    let copy = copy_of_program(&home);
    let ran = run(Command::new("touch").args(["-d", "2101-01-01"]).arg(&copy), b"");
    assert_eq!(ran.code, Some(0));
    let visit = DoctorRun::by(doctor(&copy, &home.path("config.toml")).arg("--json"));
    visit.found("clock", "problem", &["was made on 2101-01-01", "timedatectl"]);
}
