//! The socket file: its owner, which files are never removed for it, and how it is recreated.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::process::{Guard, run};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

/// A home of a daemon that listens at this path.
fn home_at(socket: &Path) -> Home {
    let home = Home::new(&Settings::default());
    let settings = Settings::default()
        .with("queue.state_dir", home.path("state").to_str().unwrap())
        .with("ipc.socket", socket.to_str().unwrap());
    fs::write(home.path("config.toml"), settings.toml()).unwrap();
    home
}

fn start_at(home: &Home, socket: &Path) -> Guard {
    let mut daemon = Guard(home.command().spawn().unwrap());
    wait_for("the daemon to listen", || {
        assert!(daemon.is_running(), "{}", home.log());
        is_reachable(socket)
    });
    daemon
}

fn is_reachable(socket: &Path) -> Option<()> {
    UnixStream::connect(socket).ok().map(drop)
}

#[test]
fn a_second_daemon_does_not_take_the_socket_of_a_running_one() {
    let daemon = Daemon::start(&Settings::default());
    let home = home_at(&daemon.home.socket());
    let ran = run(&mut home.command(), b"");
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
    let sentence = format!("another process listens on the socket {}", daemon.home.socket().display());
    assert!(ran.stderr.contains(&sentence) && ran.stderr.contains("ipc.socket"), "{}", ran.stderr);
    daemon.enqueue_many(1);
}

#[test]
fn the_socket_of_a_daemon_that_was_killed_is_taken() {
    let home = Daemon::start(&Settings::default()).kill9();
    assert!(home.socket().exists());
    home.start().enqueue_many(1);
}

#[test]
fn a_file_that_is_not_a_socket_is_refused_and_unchanged() {
    let directory = directory();
    let [file, folder, pipe, link, dangling] =
        ["file", "folder", "pipe", "link", "dangling"].map(|name| directory.path().join(name));
    fs::write(&file, "another program's").unwrap();
    fs::create_dir(&folder).unwrap();
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    symlink(&file, &link).unwrap();
    symlink(directory.path().join("nowhere"), &dangling).unwrap();
    for (path, kind) in [
        (&file, "a file"),
        (&folder, "a directory"),
        (&pipe, "a named pipe"),
        (&link, "a symbolic link"),
        (&dangling, "a symbolic link"),
    ] {
        let home = home_at(path);
        let ran = run(&mut home.command(), b"");
        assert_eq!(ran.code, Some(78), "{kind}: {}", ran.stderr);
        let sentence = format!("{} is {kind}, not a socket", path.display());
        assert!(ran.stderr.contains(&sentence), "{kind}: {}", ran.stderr);
        assert!(!fs::symlink_metadata(path).unwrap().file_type().is_socket(), "{kind}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "another program's");
}

#[test]
fn a_path_that_no_socket_can_have_is_refused_as_configuration() {
    let directory = directory();
    let name = |bytes: usize| "x".repeat(bytes - directory.path().as_os_str().len() - 1);
    let ran = run(&mut home_at(&directory.path().join(name(108))).command(), b"");
    assert_eq!(ran.code, Some(78), "{}", ran.stderr);
    assert!(ran.stderr.contains("ipc.socket: must have at most 107 bytes"), "{}", ran.stderr);
    let fits = directory.path().join(name(107));
    start_at(&home_at(&fits), &fits);
}

#[test]
fn a_socket_file_that_is_removed_comes_back_and_callers_stay_connected() {
    let daemon = Daemon::start(&Settings::default());
    let socket = daemon.home.socket();
    let mut caller = UnixStream::connect(&socket).unwrap();
    fs::remove_file(&socket).unwrap();
    wait_for("the socket to come back", || is_reachable(&socket));
    daemon.enqueue_many(2);
    assert_eq!(daemon.counts().pending, 2);
    daemon.wait_for_log("was removed and has been created again");
    caller.write_all(b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    caller.read_to_string(&mut response).unwrap();
    assert!(response.contains("200 OK") && response.contains("\"pending\":2"), "{response}");
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{}", home.log());
    assert!(!socket.exists(), "what it made, it removes");
}

#[test]
fn a_socket_comes_back_when_its_directory_was_removed_with_it() {
    let directory = directory();
    let socket = directory.path().join("run/fieldsync/api.sock");
    let _daemon = start_at(&home_at(&socket), &socket);
    for round in 0..3 {
        fs::remove_dir_all(directory.path().join("run")).unwrap();
        wait_for(&format!("the socket to come back, round {round}"), || is_reachable(&socket));
    }
}

#[test]
fn a_socket_file_that_could_not_come_back_does_so_on_reload() {
    let daemon = Daemon::start(&Settings::default());
    let socket = daemon.home.socket();
    // In one step, so that the path is never free.
    let other = daemon.home.path("other");
    fs::write(&other, "another program's").unwrap();
    fs::rename(&other, &socket).unwrap();
    daemon.wait_for_log("is a file, not a socket");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "another program's");
    fs::remove_file(&socket).unwrap();
    daemon.signal("HUP");
    wait_for("the socket to come back", || is_reachable(&socket));
    daemon.enqueue_many(1);
}

#[test]
fn on_exit_a_daemon_removes_only_its_own_socket_file() {
    let daemon = Daemon::start(&Settings::default());
    let socket = daemon.home.socket();
    let aside = daemon.home.path("aside");
    let other = UnixListener::bind(&aside).unwrap();
    fs::rename(&aside, &socket).unwrap();
    let (status, _home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(is_reachable(&socket).is_some(), "it belongs to another process");
    drop(other);
}

#[test]
fn a_removed_socket_of_systemd_is_reported_with_the_remedy() {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server(&server.url()));
    let listener = UnixListener::bind(home.socket()).unwrap();
    let command = home.activated_by(listener);
    let daemon = home.start_by(command);
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    fs::remove_file(daemon.home.socket()).unwrap();
    daemon.wait_for_log("systemctl restart fieldsync.socket");
    let (status, home) = daemon.terminate();
    assert_eq!((status.code(), home.socket().exists()), (Some(0), false), "{}", home.log());
}
