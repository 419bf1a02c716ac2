//! The address of the page, and that nothing else depends on it.

use std::collections::HashSet;
use std::fs;
use std::net::TcpListener;

use crate::support::daemon::{Counts, Daemon, Home, daemon_command};
use crate::support::ports::free_address;
use crate::support::process::run;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};
use crate::support::web::{Page, with_page};

/// The TCP ports that a process listens on, as the kernel reports them.
fn listening(daemon: &Daemon) -> HashSet<u16> {
    let process = format!("/proc/{}", daemon.child.0.id());
    let links = fs::read_dir(format!("{process}/fd")).unwrap();
    let sockets: HashSet<String> = links
        .filter_map(|link| fs::read_link(link.unwrap().path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let listens = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let ours = *state == "0A" && sockets.contains(*inode);
        ours.then(|| u16::from_str_radix(local.rsplit_once(':').unwrap().1, 16).unwrap())
    };
    ["tcp", "tcp6"]
        .into_iter()
        .flat_map(|table| {
            let table = fs::read_to_string(format!("{process}/net/{table}")).unwrap_or_default();
            table.lines().filter_map(listens).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn nothing_listens_until_an_address_is_given_and_a_reload_is_enough() {
    let daemon = Daemon::start(&Settings::default());
    assert_eq!(listening(&daemon), HashSet::new());
    let reload = |settings: &Settings| {
        daemon.home.configure(settings);
        daemon.signal("HUP");
    };
    reload(&with_page(&Settings::default()));
    let page = Page::of(&daemon);
    page.get("/v1/status").expect_json(200);
    assert_eq!(listening(&daemon), HashSet::from([page.0.port()]));

    let mut follower = page.follow();
    follower.next("status");
    let free = free_address();
    reload(&Settings::default().with("web.listen", &free.to_string()));
    wait_for("another port", || (Page::of(&daemon).0 == free).then_some(()));
    Page(free).get("/v1/status").expect_json(200);
    assert_eq!(listening(&daemon), HashSet::from([free.port()]));
    crate::support::web::read_to_end(&follower.stream);

    reload(&Settings::default());
    wait_for("the page to be gone", || listening(&daemon).is_empty().then_some(()));
    assert!(!daemon.log().contains("takes effect at the next start"), "{}", daemon.log());
}

#[test]
fn a_reload_that_does_not_change_the_page_keeps_open_pages_connected() {
    let daemon = Daemon::start(&with_page(&Settings::default()));
    let page = Page::of(&daemon);
    let mut follower = page.follow();
    follower.next("status");
    daemon.signal("HUP");
    daemon.wait_for_log("the configuration was read again");
    daemon.enqueue_many(1);
    follower.read_until("status", |status| status["records"]["pending"] == 1);
    assert_eq!(Page::of(&daemon).0, page.0);
}

#[test]
fn a_port_in_use_is_logged_and_work_continues_until_a_reload_finds_it_free() {
    let server = ScriptedServer::start(Reply::correct);
    let holder = TcpListener::bind(free_address()).unwrap();
    let address = holder.local_addr().unwrap();
    let settings = Settings::for_server(&server.url()).with("web.listen", &address.to_string());
    let daemon = Daemon::start(&settings);
    daemon.wait_for_log(&format!("the page cannot be served on {address}"));
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    drop(holder);
    daemon.signal("HUP");
    assert_eq!(Page::of(&daemon).0, address);
    Page(address).get("/v1/status").expect_json(200);
    let (ended, home) = daemon.terminate();
    assert_eq!(ended.code(), Some(0), "{}", home.log());
}

#[test]
fn open_pages_do_not_delay_the_end_of_the_daemon() {
    let daemon = Daemon::start(&Settings::default().with("web.listen", &free_address().to_string()));
    let page = Page::of(&daemon);
    let mut follower = page.follow();
    follower.next("status");
    let (ended, home) = daemon.terminate();
    assert_eq!(ended.code(), Some(0), "{}", home.log());
    crate::support::web::read_to_end(&follower.stream);
    // The port is free for the next daemon at once.
    let daemon = Home::new(&Settings::default().with("web.listen", &page.0.to_string())).start();
    assert_eq!(Page::of(&daemon).0, page.0);
}

#[test]
fn addresses_that_others_can_reach_and_pages_without_readers_are_refused_with_key_and_reason() {
    for (text, parts) in [
        ("listen = \"0.0.0.0:7077\"", ["web.listen", "address of this device alone"]),
        ("listen = \"[::]:7077\"", ["web.listen", "address of this device alone"]),
        ("listen = \"192.168.1.7:7077\"", ["web.listen", "address of this device alone"]),
        ("listen = \"[::ffff:127.0.0.1]:7077\"", ["web.listen", "address of this device alone"]),
        ("listen = \"localhost:7077\"", ["web.listen", "such as 127.0.0.1:7077"]),
        ("listen = \"7077\"", ["web.listen", "such as 127.0.0.1:7077"]),
        ("reading = \"token\"", ["web.reading", "web.token_file names no file"]),
        ("reading = \"everybody\"", ["reading", "unknown variant"]),
        ("max_connections = 1", ["web.max_connections", "at least 2"]),
    ] {
        let directory = directory();
        let file = directory.path().join("config.toml");
        fs::write(&file, format!("[web]\n{text}\n")).unwrap();
        let ran = run(daemon_command().arg("--config").arg(&file).arg("--check-config"), b"");
        assert_eq!(ran.code, Some(78), "{text}: {}", ran.stderr);
        for part in parts {
            assert!(ran.stderr.contains(part), "{:?} lacks {part:?}", ran.stderr);
        }
    }
}
