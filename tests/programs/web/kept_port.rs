//! The port of the page: systemd keeps it open while no daemon runs, and `localhost` is accepted only if it leads to
//! the daemon alone.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Command;

use hyper::Method;

use crate::support::daemon::{Daemon, Home};
use crate::support::notify::NotifySocket;
use crate::support::ports::{free_address, has_ipv6, is_free};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;
use crate::support::web::{Page, read_to_end, with_page};

const NAME: &str = "web";

fn families() -> usize {
    1 + usize::from(has_ipv6())
}

fn listening_at(address: SocketAddr) -> Settings {
    Settings::default().with("web.listen", &address.to_string())
}

fn start_told(home: Home, mut command: Command, systemd: &NotifySocket) -> Daemon {
    command.env("NOTIFY_SOCKET", &systemd.path);
    home.start_by(command)
}

/// The sockets that systemd passes at the next start, under their names.
fn handed_over<'a>(systemd: &mut NotifySocket, api: Option<&UnixListener>) -> Vec<(&'a str, OwnedFd)> {
    let api = api.map(|listener| ("fieldsync.socket", listener.as_fd().try_clone_to_owned().unwrap()));
    let page = systemd.stored(NAME).iter().map(|socket| (NAME, socket.try_clone().unwrap()));
    api.into_iter().chain(page).collect()
}

#[test]
fn the_port_is_never_free_between_two_runs_of_the_daemon_and_early_connections_get_a_response() {
    let home = Home::new(&listening_at(free_address()));
    let mut systemd = NotifySocket::new(&home.path(""));
    let api = UnixListener::bind(home.socket()).unwrap();
    let sockets = handed_over(&mut systemd, Some(&api));
    let command = home.handed(sockets);
    let mut daemon = start_told(home, command, &systemd);
    let page = Page::of(&daemon);
    wait_for("the sockets to be kept", || (systemd.stored(NAME).len() == families()).then_some(()));
    for kills in [true, false] {
        let home = if kills { daemon.kill9() } else { daemon.terminate().1 };
        assert!(!is_free(page.0), "no other process can take it");
        let sibling = SocketAddr::new("::1".parse().unwrap(), page.0.port());
        assert!(!is_free(sibling), "nor the address beside it");
        let head = format!("GET /v1/status HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", page.0);
        let waiting = page.raw(head.as_bytes());
        let sockets = handed_over(&mut systemd, Some(&api));
        let command = home.handed(sockets);
        daemon = start_told(home, command, &systemd);
        assert!(read_to_end(&waiting).starts_with("HTTP/1.1 200 "));
        assert_eq!(daemon.enqueue_many(1).len(), 1, "the socket of the API is another one");
        assert_eq!(systemd.stored(NAME).len(), families(), "they stay where they are");
    }
}

#[test]
fn a_changed_or_removed_address_removes_the_old_socket_from_the_store() {
    let [first, second] = [free_address(), free_address()];
    let home = Home::new(&listening_at(first));
    let mut systemd = NotifySocket::new(&home.path(""));
    let command = home.command();
    let daemon = start_told(home, command, &systemd);
    wait_for("the sockets to be kept", || (systemd.stored(NAME).len() == families()).then_some(()));
    let mut reload = |settings: &Settings, kept: usize, closed: SocketAddr| {
        daemon.home.configure(settings);
        daemon.signal("HUP");
        wait_for("the old port to be free", || {
            systemd.received_lines();
            is_free(closed).then_some(())
        });
        wait_for("the others to be kept", || (systemd.stored(NAME).len() == kept).then_some(()));
    };
    reload(&listening_at(second), families(), first);
    Page(second).get("/v1/status").expect_json(200);
    reload(&Settings::default(), 0, second);
    reload(&listening_at(first), families(), second);
    Page(first).get("/v1/status").expect_json(200);
}

#[test]
fn a_change_that_leaves_the_address_alone_keeps_the_port() {
    let daemon = Daemon::start(&with_page(&Settings::default()));
    let page = Page::of(&daemon);
    let mut follower = page.follow();
    follower.next("status");
    daemon.home.configure(&with_page(&Settings::default()).with("web.max_connections", "2"));
    daemon.signal("HUP");
    read_to_end(&follower.stream);
    page.get("/v1/status").expect_json(200);
    assert_eq!(Page::of(&daemon).0, page.0);
}

#[test]
fn a_kept_socket_of_another_address_is_closed_and_a_file_that_is_not_a_socket_does_no_harm() {
    let [old, new] = [free_address(), free_address()];
    let home = Home::new(&listening_at(new));
    let mut systemd = NotifySocket::new(&home.path(""));
    let kept = OwnedFd::from(TcpListener::bind(old).unwrap());
    let command = home.handed(vec![(NAME, kept), (NAME, File::open("/dev/null").unwrap().into())]);
    let daemon = start_told(home, command, &systemd);
    assert_eq!(Page::of(&daemon).0, new);
    wait_for("the sockets to be kept", || (systemd.stored(NAME).len() == families()).then_some(()));
    systemd.wait_for("FDSTOREREMOVE=1");
    wait_for("the old port to be free", || is_free(old).then_some(()));
    daemon.enqueue_many(1);
}

#[test]
fn localhost_is_accepted_only_if_the_daemon_has_the_loopback_addresses_of_both_families() {
    if !has_ipv6() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    for (held, listen) in [("[::1]", "127.0.0.1"), ("127.0.0.1", "[::1]")] {
        let port = free_address().port();
        let other = TcpListener::bind(format!("{held}:{port}")).unwrap();
        let held = other.local_addr().unwrap();
        let own = format!("{listen}:{port}");
        let home = Home::new(&Settings::default().with("web.listen", &own));
        let daemon = home.start();
        let page = Page::of(&daemon);
        daemon.wait_for_log(&format!("another process listens on {held}"));
        let status =
            |page: Page, host: &str| page.request_as(host, Method::GET, "/v1/status", &[], "").status;
        let (by_name, beside) = (format!("localhost:{port}"), held.to_string());
        assert_eq!([status(page, &own), status(page, &by_name), status(page, &beside)], [200, 421, 421]);
        drop(other);
        let daemon = daemon.restart();
        for page in [Page::of(&daemon), Page(held)] {
            let lines = [status(page, &own), status(page, &by_name), status(page, &beside)];
            assert_eq!(lines, [200; 3], "{}", page.0);
        }
    }
}

#[test]
fn an_address_that_localhost_does_not_mean_is_the_only_accepted_host() {
    let free = free_address();
    let port = free.port();
    let daemon = Daemon::start(&listening_at(SocketAddr::from(([127, 0, 0, 2], port))));
    let page = Page::of(&daemon);
    page.get("/v1/status").expect_json(200);
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let response = page.request_as(&format!("{host}:{port}"), Method::GET, "/v1/status", &[], "");
        assert_eq!(response.code(), "wrong_host", "{host}");
    }
    assert!(is_free(free), "it listens where it was told alone");
}
