//! Connections through proxies, from the configuration or the environment.

use serde_json::{Value, json};

use super::tls::{IssuedCertificate, gateway};
use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::proxy::Proxy;
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

const GRANTED: &str = "200 Connection established";

fn url(proxy: &Proxy) -> String {
    format!("http://{}", proxy.address)
}

/// The targets that the proxy was asked to connect to.
fn targets(proxy: &Proxy) -> Vec<String> {
    proxy.heads().iter().map(|head| head[0].clone()).collect()
}

#[test]
fn a_server_without_tls_is_reached_through_the_proxy_by_connect_and_the_connection_is_kept() {
    let (server, proxy) = (ScriptedServer::start(Reply::correct), Proxy::start(GRANTED));
    let settings = Settings::for_server(&server.url()).with("server.proxy", &url(&proxy)).batches_of(1);
    let daemon = Daemon::start(&settings);
    daemon.enqueue_many(5);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(5));
    assert_eq!(targets(&proxy), [format!("CONNECT {} HTTP/1.1", server.address)]);
}

#[test]
fn a_server_over_tls_is_reached_through_the_proxy() {
    let directory = directory();
    IssuedCertificate::new().write(directory.path());
    let ((gateway, server), proxy) = (gateway(directory.path()), Proxy::start(GRANTED));
    let ca = directory.path().join("ca.pem");
    let settings = Settings::for_server(&server)
        .with("server.ca_file", ca.to_str().unwrap())
        .with("server.proxy", &url(&proxy));
    let daemon = Daemon::start(&settings);
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    assert_eq!(targets(&proxy), [format!("CONNECT localhost:{} HTTP/1.1", gateway.address.port())]);
}

#[test]
fn the_connection_to_a_proxy_may_use_tls() {
    let directory = directory();
    let issued = IssuedCertificate::new();
    issued.write(directory.path());
    let proxy = Proxy::start_over(Some(issued.server(false)), GRANTED);
    let (_gateway, server) = gateway(directory.path());
    let ca = directory.path().join("ca.pem");
    let settings = Settings::for_server(&server)
        .with("server.ca_file", ca.to_str().unwrap())
        .with("server.proxy", &format!("https://localhost:{}", proxy.address.port()));
    let daemon = Daemon::start(&settings);
    daemon.enqueue(&[json!({"type": "T", "payload": {"text": "x".repeat(500_000)}})]);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    assert_eq!(proxy.heads().len(), 1);
}

#[test]
fn a_proxy_is_not_shown_the_certificate_of_the_device() {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::default());
    let issued = IssuedCertificate::new();
    issued.write(home.path("").as_path());
    // It accepts no client without one.
    let proxy = Proxy::start_over(Some(issued.server(true)), GRANTED);
    let path = |name: &str| home.path(name).to_str().unwrap().to_owned();
    home.configure(
        &Settings::for_server(&server.url())
            .with("server.ca_file", &path("ca.pem"))
            .with("server.client_cert_file", &path("cert.pem"))
            .with("server.client_key_file", &path("key.pem"))
            .with("server.proxy", &format!("https://localhost:{}", proxy.address.port())),
    );
    let daemon = home.start();
    daemon.enqueue_many(1);
    daemon.wait_for_phase("offline");
    daemon.wait_for_log("wants another certificate of this device");
    assert_eq!((proxy.heads().len(), server.connections()), (0, 0));
}

/// Nothing is sent, the log has the reason, and no record is blamed.
fn no_way_through(proxy: &str, why: &str) {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.proxy", proxy));
    let ids = daemon.enqueue_many(1);
    daemon.wait_for_phase("offline");
    let entry = daemon.record(&ids[0]);
    assert_eq!((&entry["attempts"], &entry["last_error"]), (&json!(0), &Value::Null), "{entry}");
    assert!(daemon.log().contains(why), "{}", daemon.log());
    assert_eq!(server.connections(), 0);
}

#[test]
fn through_a_proxy_that_wants_a_password_nothing_was_sent() {
    let proxy = Proxy::start("407 Proxy Authentication Required");
    let status = "HTTP 407 Proxy Authentication Required";
    no_way_through(&url(&proxy), status);
    no_way_through(&url(&proxy), &format!("the proxy {} does not let the connection", proxy.address));
}

#[test]
fn through_a_proxy_that_does_not_reach_the_server_nothing_was_sent() {
    no_way_through(&url(&Proxy::start("502 Bad Gateway")), "HTTP 502 Bad Gateway");
}

#[test]
fn through_a_proxy_that_is_not_there_nothing_was_sent() {
    // No other process listens at this address, so a port that is free for a moment stays free.
    let address = ScriptedServer::start_at("127.77.0.4:0".parse().unwrap(), Reply::correct).address;
    no_way_through(&format!("http://{address}"), &format!("cannot connect to the proxy {address}"));
}

#[test]
fn the_credential_for_the_proxy_comes_from_its_file_and_never_reaches_the_log() {
    let (server, proxy) = (ScriptedServer::start(Reply::correct), Proxy::start(GRANTED));
    let home = Home::new(&Settings::default());
    let file = home.path("proxy");
    place(&file, "alice:sesame\n", 0o640);
    home.configure(
        &Settings::for_server(&server.url())
            .with("server.proxy", &url(&proxy))
            .with("server.proxy_credential_file", file.to_str().unwrap())
            .with("log.level", "trace"),
    );
    let daemon = home.start();
    daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    let sent = "proxy-authorization: Basic YWxpY2U6c2VzYW1l";
    assert!(proxy.heads()[0].iter().any(|line| line == sent), "{:?}", proxy.heads());
    for secret in ["sesame", "YWxpY2U6c2VzYW1l"] {
        let log = daemon.log();
        assert_eq!(log.lines().find(|line| line.contains(secret)), None);
    }
}

#[test]
fn a_credential_that_every_user_may_read_is_refused_until_its_mode_is_fixed() {
    let proxy = Proxy::start(GRANTED);
    let home = Home::new(&Settings::default());
    let file = home.path("proxy");
    place(&file, "alice:sesame\n", 0o644);
    home.configure(
        &Settings::for_server("http://127.0.0.1:1")
            .with("server.proxy", &url(&proxy))
            .with("server.proxy_credential_file", file.to_str().unwrap()),
    );
    let daemon = home.start();
    daemon.enqueue_many(1);
    let status = daemon.wait_for_phase("auth_required");
    let message = status["sync"]["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("chmod o= "), "{message}");
    assert_eq!(proxy.heads().len(), 0);
    place(&file, "alice:sesame\n", 0o600);
    wait_for("the proxy to be asked", || (!proxy.heads().is_empty()).then_some(()));
}

/// A daemon with these environment variables has sent a batch.
fn sent_with(server: &str, ca: &str, variables: &[(&str, &str)]) {
    let home = Home::new(&Settings::for_server(server).with("server.ca_file", ca));
    let mut command = home.command();
    command.envs(variables.iter().copied());
    let daemon = home.start_by(command);
    daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
}

#[test]
fn the_environment_names_the_proxy_and_the_servers_reached_without_it() {
    let directory = directory();
    IssuedCertificate::new().write(directory.path());
    let (gateway, server) = gateway(directory.path());
    let ca = directory.path().join("ca.pem");
    let ca = ca.to_str().unwrap();
    let proxy = Proxy::start(GRANTED);
    let with_password = format!("http://alice:sesame@{}", proxy.address);

    sent_with(&server, ca, &[("HTTPS_PROXY", &with_password), ("NO_PROXY", "localhost")]);
    assert_eq!(proxy.heads().len(), 0);

    sent_with(&server, ca, &[("https_proxy", &with_password), ("NO_PROXY", "elsewhere")]);
    assert_eq!(targets(&proxy), [format!("CONNECT localhost:{} HTTP/1.1", gateway.address.port())]);
    let sent = "proxy-authorization: Basic YWxpY2U6c2VzYW1l";
    assert!(proxy.heads()[0].iter().any(|line| line == sent), "{:?}", proxy.heads());
}

#[test]
fn a_password_with_an_at_sign_is_rejected_and_no_part_of_it_is_shown() {
    let (server, proxy) = (ScriptedServer::start(Reply::correct), Proxy::start(GRANTED));
    let home = Home::new(&Settings::for_server(&server.url()).with("log.level", "trace"));
    let mut command = home.command();
    let address = format!("http://alice:open@sesame@{}", proxy.address);
    command.envs([("http_proxy", address.as_str()), ("NO_PROXY", "elsewhere")]);
    let daemon = home.start_by(command);
    daemon.enqueue_many(1);
    let status = daemon.wait_for_phase("misconfigured");
    let message = status["sync"]["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("holds more than one @"), "{message}");
    let shown = format!("{}{status}{}", daemon.log(), daemon.get("/v1/batches").text());
    assert_eq!(shown.lines().find(|line| line.contains("sesame")), None);
    assert_eq!((server.connections(), proxy.heads().len()), (0, 0));
}
