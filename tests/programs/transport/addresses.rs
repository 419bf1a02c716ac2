//! Servers and proxies that are named by an address, or by a name in an unusual form.

use std::net::TcpListener;

use super::tls::{IssuedCertificate, speaking_tls};
use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::proxy::Proxy;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

const GRANTED: &str = "200 Connection established";

fn at(settings: Settings, home: &Home) -> Settings {
    settings.with("server.ca_file", home.path("ca.pem").to_str().unwrap())
}

#[track_caller]
fn sends(home: Home) -> Daemon {
    let daemon = home.start();
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3), "{}", daemon.log());
    daemon
}

#[test]
fn a_server_over_tls_may_be_named_by_its_address() {
    let issued = IssuedCertificate::for_names(&["::1", "127.0.0.1"]);
    for listen in ["[::1]:0", "127.0.0.1:0"] {
        let peer = speaking_tls(TcpListener::bind(listen).unwrap(), issued.server(false));
        let home = Home::new(&Settings::default());
        issued.write(home.path("").as_path());
        let url = format!("https://{}", peer.address);
        home.configure(&at(Settings::for_server(&url), &home).batches_of(1));
        sends(home);
        assert_eq!(peer.connections(), 1, "{listen}");
    }
}

#[test]
fn a_server_over_tls_may_be_named_by_a_name_that_ends_in_a_dot() {
    let issued = IssuedCertificate::new();
    let peer = speaking_tls(TcpListener::bind("127.0.0.1:0").unwrap(), issued.server(false));
    let proxy = Proxy::start(GRANTED);
    let home = Home::new(&Settings::default());
    issued.write(home.path("").as_path());
    let settings = Settings::for_server(&format!("https://localhost.:{}", peer.address.port()))
        .with("server.proxy", &format!("http://{}", proxy.address));
    home.configure(&at(settings, &home));
    sends(home);
    assert!(proxy.heads()[0][0].starts_with("CONNECT localhost.:"), "{:?}", proxy.heads());
}

#[test]
fn a_certificate_for_another_address_is_not_trusted() {
    let issued = IssuedCertificate::for_names(&["::2", "localhost"]);
    let peer = speaking_tls(TcpListener::bind("[::1]:0").unwrap(), issued.server(false));
    let home = Home::new(&Settings::default());
    issued.write(home.path("").as_path());
    home.configure(&at(Settings::for_server(&format!("https://{}", peer.address)), &home));
    let daemon = home.start();
    daemon.enqueue_many(1);
    let status = daemon.wait_for_phase("offline");
    let message = status["sync"]["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("its certificate is for another name"), "{message}");
    assert_eq!(peer.attempts(), [""; 0]);
}

#[test]
fn an_address_of_ipv6_keeps_its_brackets_in_the_request() {
    let server = ScriptedServer::start_at("[::1]:0".parse().unwrap(), Reply::correct);
    sends(Home::new(&Settings::for_server(&server.url())));
    assert_eq!(server.batches()[0].header("host"), server.address.to_string());
}

#[test]
fn a_proxy_may_be_named_by_an_address_of_ipv6_with_a_scheme_or_without() {
    let issued = IssuedCertificate::for_names(&["::1"]);
    let peer = speaking_tls(TcpListener::bind("[::1]:0").unwrap(), issued.server(false));
    for scheme in ["http://", ""] {
        let proxy = Proxy::start_at("[::1]:0", None, GRANTED);
        let home = Home::new(&Settings::default());
        issued.write(home.path("").as_path());
        home.configure(&at(Settings::for_server(&format!("https://{}", peer.address)), &home));
        let mut command = home.command();
        command.env("https_proxy", format!("{scheme}{}", proxy.address));
        let daemon = home.start_by(command);
        daemon.enqueue_many(1);
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(1), "{}", daemon.log());
        assert_eq!(proxy.heads()[0][0], format!("CONNECT {} HTTP/1.1", peer.address));
    }
}

#[test]
fn a_proxy_over_tls_may_be_named_by_an_address_of_ipv6() {
    let issued = IssuedCertificate::for_names(&["::1"]);
    let peer = speaking_tls(TcpListener::bind("[::1]:0").unwrap(), issued.server(false));
    let proxy = Proxy::start_at("[::1]:0", Some(issued.server(false)), GRANTED);
    let home = Home::new(&Settings::default());
    issued.write(home.path("").as_path());
    let settings = Settings::for_server(&format!("https://{}", peer.address))
        .with("server.proxy", &format!("https://{}", proxy.address));
    home.configure(&at(settings, &home));
    sends(home);
    assert_eq!((proxy.heads().len(), peer.connections()), (1, 1));
}
