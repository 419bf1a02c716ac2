//! A process of another user that takes the page's port while the daemon does not run.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::LANDSCAPE;
use crate::support::chromium::Browser;
use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::ports::{free_address, is_free};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;
use crate::support::web::{CODE, Page, rejecting, with_code};

const RETRY: &str = "#records li:first-child button";

/// A daemon whose page is at this address, with one record under review, and the server that rejected it.
fn reviewing(address: SocketAddr, more: &[(&str, &str)]) -> (Daemon, ScriptedServer) {
    let server = ScriptedServer::start(rejecting("no"));
    let settings = Settings::for_server(&server.url()).with("web.listen", &address.to_string());
    let daemon = with_code(&settings, more);
    daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, 1));
    (daemon, server)
}

/// A response after which the browser has no open connection.
fn closing(status: &str, body: &str) -> Reply {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    Reply::Raw((head + body).into())
}

fn start_at(home: Home, address: SocketAddr) -> Daemon {
    wait_for("the port to be free", || is_free(address).then_some(()));
    let daemon = home.start();
    assert_eq!(Page::of(&daemon).0, address);
    daemon
}

#[test]
#[ignore = "needs chromium"]
fn an_open_page_sends_no_code_to_another_process_on_the_port_and_reports_it() {
    let address = free_address();
    let (daemon, server) = reviewing(address, &[("web.reading", "token")]);
    let browser = Browser::start();
    let tab = browser.open(&format!("http://{address}/#token={CODE}"), LANDSCAPE.0, LANDSCAPE.1);
    tab.wait("the row", "document.querySelectorAll('#records li').length === 1");
    let home = daemon.kill9();
    let mut asked = 0;
    let impostor = ScriptedServer::start_at(address, move |_| {
        asked += 1;
        match asked % 4 {
            0 => closing("200 OK", r#"{"proof":"00","ticket":"1-00"}"#),
            1 => closing("200 OK", "<h1>It works</h1>"),
            2 => closing("401 Unauthorized", r#"{"error":{"code":"wrong_code","message":"no"}}"#),
            _ => closing("302 Found\r\nlocation: /", ""),
        }
    });
    let said = "/^Another program responds at this address, not the daemon that served this page, since \
        \\d\\d:\\d\\d\\. Do not enter the code here\\./.test(document.querySelector('#away').innerText)";
    tab.wait("the page to say so", said);
    tab.tap(RETRY);
    tab.wait_for_text(
        "#outcome",
        "Nothing was sent. Another program responds at this address, not the daemon that served this page: do not enter \
         the code here.",
    );
    wait_for("the page to ask again and again", || (impostor.requests().len() >= 5).then_some(()));
    assert_eq!(tab.eval("document.querySelector('#entry').hidden"), true);
    for request in impostor.requests() {
        assert_eq!((request.method.as_str(), request.header("authorization")), ("GET", ""), "{request:?}");
        assert!(request.path.starts_with("/v1/proof?page=") && request.body.is_empty(), "{request:?}");
        assert!(!format!("{request:?}").contains(CODE), "{request:?}");
    }
    drop(impostor);
    // The code need not be entered again.
    let daemon = start_at(home, address);
    tab.wait("the page to follow again", "document.querySelector('#away').hidden");
    server.set_script(Reply::correct);
    tab.tap(RETRY);
    tab.wait_for_text("#none", "Nothing.");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
}

/// Data from connections that were accepted while the daemon was stopped, and then relayed to it.
type RelayedBytes = Arc<Mutex<Vec<u8>>>;

/// Accepts one connection of the page, frees the port, and relays the connection once the daemon runs.
fn take_one(address: SocketAddr) -> (TcpStream, Vec<u8>) {
    let listener = TcpListener::bind(address).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut first = vec![0; 4096];
    let read = stream.read(&mut first).unwrap();
    first.truncate(read);
    (stream, first)
}

fn pass_on(page: &TcpStream, first: Vec<u8>, address: SocketAddr, overheard: &RelayedBytes) {
    let daemon = TcpStream::connect(address).unwrap();
    (&daemon).write_all(&first).unwrap();
    overheard.lock().unwrap().extend(first);
    let (mut from_page, mut to_daemon) = (page.try_clone().unwrap(), daemon.try_clone().unwrap());
    let lines = Arc::clone(overheard);
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = from_page.read(&mut bytes) {
            lines.lock().unwrap().extend(&bytes[..read]);
            if to_daemon.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        drop(to_daemon.shutdown(Shutdown::Write));
    });
    let (mut from_daemon, mut to_page) = (daemon, page.try_clone().unwrap());
    thread::spawn(move || drop(std::io::copy(&mut from_daemon, &mut to_page)));
}

#[test]
#[ignore = "needs chromium"]
fn a_process_that_relays_a_connection_of_the_page_learns_no_code() {
    let address = free_address();
    let (mut daemon, _server) = reviewing(address, &[("web.reading", "token")]);
    let browser = Browser::start();
    let tab = browser.open(&format!("http://{address}/#token={CODE}"), LANDSCAPE.0, LANDSCAPE.1);
    tab.wait("the row", "document.querySelectorAll('#records li').length === 1");
    let overheard = RelayedBytes::default();
    let text = || String::from_utf8_lossy(&overheard.lock().unwrap()).into_owned();
    // The page waits some seconds for a proof; a daemon that takes longer to start is too late.
    for _ in 0..5 {
        let home = daemon.kill9();
        let (connection, first) = take_one(address);
        daemon = start_at(home, address);
        pass_on(&connection, first, address, &overheard);
        tab.wait("the page to follow again", "document.querySelector('#away').hidden");
        if text().contains("GET /v1/events?") {
            break;
        }
    }
    let overheard = text();
    assert!(
        overheard.contains("GET /v1/events?") && overheard.contains("Authorization: Page "),
        "{overheard}"
    );
    assert!(!overheard.contains(CODE), "{overheard}");
}
