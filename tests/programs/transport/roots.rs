//! The authorities of the system: those that are installed later are used without a restart or a reload.

use std::fs;
use std::net::TcpListener;

use super::tls::{IssuedCertificate, speaking_tls};
use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::proxy::Proxy;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

/// A daemon whose system authorities are in a file that does not exist yet.
fn without_authorities(home: Home) -> Daemon {
    let mut command = home.command();
    command.env("SSL_CERT_FILE", home.path("system.pem")).env_remove("SSL_CERT_DIR");
    home.start_by(command)
}

#[track_caller]
fn sends_once_installed(issued: &IssuedCertificate, settings: &Settings, why_not: &str) {
    let daemon = without_authorities(Home::new(settings));
    let ids = daemon.enqueue_many(3);
    let status = daemon.wait_for_phase("offline");
    let message = status["sync"]["last_error"]["message"].as_str().unwrap();
    assert!(message.contains(why_not), "{message}");
    issued.write(daemon.home.path("").as_path());
    fs::rename(daemon.home.path("ca.pem"), daemon.home.path("system.pem")).unwrap();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3), "{}", daemon.log());
    assert_eq!(daemon.record(&ids[0])["attempts"], 1);
}

#[test]
fn an_authority_that_is_installed_later_is_trusted_at_the_next_attempt() {
    let issued = IssuedCertificate::new();
    let peer = speaking_tls(TcpListener::bind("127.0.0.1:0").unwrap(), issued.server(false));
    let settings = Settings::for_server(&format!("https://localhost:{}", peer.address.port()));
    sends_once_installed(&issued, &settings, "the TLS handshake failed");
}

#[test]
fn a_proxy_authority_that_is_installed_later_is_trusted_at_the_next_attempt() {
    let (issued, server) = (IssuedCertificate::new(), ScriptedServer::start(Reply::correct));
    let proxy = Proxy::start_over(Some(issued.server(false)), "200 Connection established");
    let settings = Settings::for_server(&server.url())
        .with("server.proxy", &format!("https://localhost:{}", proxy.address.port()));
    sends_once_installed(&issued, &settings, "the proxy localhost");
}
