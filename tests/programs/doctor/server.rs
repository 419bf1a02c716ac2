//! The connection to the server, and its responses.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use fieldsync::clock::wall_ms;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::PrivateKeyDer;

use super::{DoctorRun, run_as_text};
use crate::support::daemon::{Daemon, Home};
use crate::support::gateway::Gateway;
use crate::support::ports::free_address;
use crate::support::proxy::Proxy;
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::directory;

#[test]
fn every_response_of_the_server_is_reported_with_a_remedy() {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::default());
    place(&home.path("token"), "sesame-open", 0o600);
    let token = home.path("token");
    home.configure(
        &Settings::for_server(&server.url())
            .with("server.token_file", token.to_str().unwrap())
            .with("server.request_timeout", "5s"),
    );
    let repeats =
        || Reply::json(401, &serde_json::json!({"error": {"code": "NO", "message": "sesame-open is old"}}));
    for (reply, result, words) in [
        (Reply::unknown_batch(), "ok", &["accepts the token"][..]),
        (repeats(), "problem", &["does not accept the token (HTTP 401)", "[token] is old", "new token"]),
        (
            Reply::html(404),
            "warning",
            &["not to outcome queries", "not a batch endpoint of fieldsync", "server.path"],
        ),
        (Reply::error(404, "NO_SUCH_PATH"), "problem", &["is not a batch endpoint", "server.path"]),
        (Reply::html(200), "problem", &["login page of a Wi-Fi", "log in to the network"]),
        (
            Reply::text(302, "text/html", "").with("location", "http://hotel/"),
            "problem",
            &["login page of a Wi-Fi"],
        ),
        (Reply::html(511), "problem", &["log in to the network"]),
        (Reply::error(503, "LATER"), "warning", &["come back later", "LATER, says the server"]),
        (Reply::html(504), "warning", &["fails (HTTP 504"]),
        (Reply::Hang, "problem", &["does not respond in time", "no response within 5s"]),
        (Reply::Close, "problem", &["did not respond"]),
        (Reply::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()), "problem", &["did not respond"]),
    ] {
        server.set_script(move |_| reply.clone());
        let visit = DoctorRun::to(&home);
        visit.found("server", result, words);
    }
    let asked = server.requests();
    assert!(asked.iter().all(|request| request.method == "GET" && request.body.is_empty()), "{asked:?}");
    assert!(asked.iter().all(|request| request.header("authorization") == "Bearer sesame-open"));
}

#[test]
fn a_missing_token_and_a_server_without_outcome_queries_are_reported() {
    let server = ScriptedServer::start(|_| Reply::error(401, "WHO"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    DoctorRun::to(&daemon.home).found("server", "problem", &["none is configured", "server.token_file"]);
    // It accepts records, and does not support outcome queries.
    server.set_script(
        |request| if request.is_batch() { Reply::applied(request) } else { Reply::error(405, "NO_GET") },
    );
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    DoctorRun::to(&daemon.home).found(
        "server",
        "warning",
        &["does not support outcome queries", "server.outcome_lookup"],
    );
}

#[test]
fn a_server_without_outcome_queries_is_told_from_a_wrong_address_once_a_batch_was_sent() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--no-lookup"]);
    let daemon = Daemon::start(&Settings::for_server(&gateway.url()));
    let visit = DoctorRun::to(&daemon.home);
    visit.found("server", "warning", &["either it accepts batches", "or it is not a batch endpoint"]);
    visit.problems(&[]);
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    let visit = DoctorRun::to(&daemon.home);
    visit.found("server", "warning", &["accepts records", "does not support outcome queries"]);
    visit.problems(&[]);

    let website = ScriptedServer::start(|_| Reply::html(404));
    let daemon = Daemon::start(&Settings::for_server(&website.url()));
    DoctorRun::to(&daemon.home).found("server", "warning", &["or it is not a batch endpoint"]);
    daemon.enqueue_many(1);
    daemon.wait_for_phase("misconfigured");
    DoctorRun::to(&daemon.home).found("server", "problem", &["not a batch endpoint", "server.path"]);
}

#[test]
fn the_clock_is_compared_with_that_of_the_server() {
    let server = ScriptedServer::start(|_| Reply::unknown_batch());
    let home = Home::new(&Settings::for_server(&server.url()));
    DoctorRun::to(&home).found("clock", "could_not_check", &["the server sent no time"]);
    server.set_script(|_| Reply::unknown_batch().with("date", "Sun, 01 Mar 2020 08:15:30 GMT"));
    let visit = DoctorRun::to(&home);
    visit.found("clock", "warning", &["ahead of the server's", "timedatectl"]);
    visit.problems(&["socket"]);
}

#[test]
fn an_unreachable_server_is_reported_with_the_reason() {
    let nobody = free_address();
    let (plain, room) = (ScriptedServer::start(Reply::correct), directory());
    let gateway = Gateway::start(room.path(), &[]);
    for (url, check, words) in [
        (format!("http://{nobody}"), "server", &["no program listens", "check the port"][..]),
        (format!("https://{}", plain.address), "server", &["does not use TLS", "scheme and port"]),
        (format!("https://{}", gateway.address), "server", &["does not use TLS", "scheme and port"]),
        (
            "http://no-such-device.invalid:9".into(),
            "connectivity",
            &["cannot be resolved to an address", "resolv.conf"],
        ),
        ("http://no-such-device.invalid:9".into(), "server", &["host name of the server cannot be resolved"]),
    ] {
        let home = Home::new(&Settings::for_server(&url));
        DoctorRun::to(&home).found(check, "problem", words);
    }
}

#[test]
fn proxies_that_open_no_tunnel_are_reported() {
    let server = ScriptedServer::start(Reply::correct);
    for (status, words) in [
        (
            "407 Proxy Authentication Required",
            &["the proxy requires a password", "server.proxy_credential_file"][..],
        ),
        ("403 Forbidden", &["the proxy does not connect to the server", "CONNECT"]),
    ] {
        let proxy = Proxy::start(status);
        let home = Home::new(
            &Settings::for_server(&server.url()).with("server.proxy", &format!("http://{}", proxy.address)),
        );
        DoctorRun::to(&home).found("server", "problem", words);
    }
    let home = Home::new(&Settings::for_server(&server.url()));
    let mut odd = super::doctor(&super::program(), &home.path("config.toml"));
    odd.arg("--json").env("http_proxy", "socks5://alice:sesame@127.0.0.1:9");
    let visit = DoctorRun::by(&mut odd);
    visit.found("connectivity", "problem", &["the proxy cannot be used", "socks5"]);
    visit.found("server", "could_not_check", &["without the proxy"]);
}

/// The problem of a certificate.
type CertificateDefect = fn(&mut CertificateParams);

/// Certificates of one authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes `ca.pem`, `cert.pem` and `key.pem`.
    fn write_certificate(&self, directory: &Path, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::write(directory.join("ca.pem"), self.0.pem()).unwrap();
        fs::write(directory.join("cert.pem"), certificate.pem()).unwrap();
        place(&directory.join("key.pem"), &key.serialize_pem(), 0o600);
    }

    /// A server that accepts clients with a certificate of this authority.
    fn server(&self) -> u16 {
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = names.signed_by(&key, &self.0).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            );
        let config = Arc::new(config.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut tls) =
                    (stream.unwrap(), ServerConnection::new(Arc::clone(&config)).unwrap());
                // It sends the reason to the client.
                while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
                drop(tls.write_tls(&mut stream));
            }
        });
        port
    }
}

#[test]
fn untrusted_certificates_are_reported_with_the_reason() {
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let strange = directory();
    other.write_certificate(strange.path(), |_| {});
    let untouched: CertificateDefect = |_| {};
    let ended: CertificateDefect = |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    };
    let to_come: CertificateDefect = |params| params.not_before = date_time_ymd(2101, 1, 1);
    for (host, change, authorities, words) in [
        (
            "localhost",
            untouched,
            strange.path(),
            &["authority that this device does not trust", "server.ca_file"][..],
        ),
        ("localhost", ended, Path::new(""), &["has expired", "check the clock"]),
        ("localhost", to_come, Path::new(""), &["not valid yet", "set the clock"]),
        ("127.0.0.1", untouched, Path::new(""), &["for another name", "correct the name in server.url"]),
    ] {
        let directory = directory();
        authority.write_certificate(directory.path(), change);
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let gateway = Gateway::start(
            directory.path(),
            &["--tls-cert", &path("cert.pem"), "--tls-key", &path("key.pem")],
        );
        // Joining with an absolute path yields that path.
        let ca = directory.path().join(authorities).join("ca.pem");
        let url = format!("https://{host}:{}", gateway.address.port());
        let home = Home::new(&Settings::for_server(&url).with("server.ca_file", ca.to_str().unwrap()));
        let visit = DoctorRun::to(&home);
        visit.found("server", "problem", words);
        let ran = run_as_text(&home);
        assert_eq!(ran.code, Some(1));
        assert!(ran.stdout.contains("To do: "), "{}", ran.stdout);
    }
    let port = authority.server();
    let directory = directory();
    authority.write_certificate(directory.path(), |_| {});
    let ca = directory.path().join("ca.pem");
    let url = format!("https://localhost:{port}");
    let home = Home::new(&Settings::for_server(&url).with("server.ca_file", ca.to_str().unwrap()));
    DoctorRun::to(&home).found(
        "server",
        "problem",
        &["wants another certificate", "server.client_cert_file"],
    );
}

#[test]
fn a_certificate_of_the_device_is_checked_before_the_server_sees_it() {
    let authority = Authority::new("ours");
    let home = Home::new(&Settings::default());
    let path = |name: &str| home.path(name).to_str().unwrap().to_owned();
    home.configure(
        &Settings::for_server("https://localhost:9")
            .with("server.ca_file", &path("ca.pem"))
            .with("server.client_cert_file", &path("cert.pem"))
            .with("server.client_key_file", &path("key.pem")),
    );
    let here = home.path("");
    authority.write_certificate(&here, |params| params.not_after = date_time_ymd(2021, 1, 1));
    let visit = DoctorRun::to(&home);
    visit.found("credential", "problem", &["expired on 2021-01-01", "have the certificate renewed"]);
    authority.write_certificate(&here, |params| params.not_before = date_time_ymd(2101, 1, 1));
    DoctorRun::to(&home).found("credential", "problem", &["is valid from 2101-01-01", "set the clock"]);
    // The key belongs to another certificate.
    authority.write_certificate(&here, |_| {});
    place(&home.path("key.pem"), &KeyPair::generate().unwrap().serialize_pem(), 0o600);
    let visit = DoctorRun::to(&home);
    visit.found("credential", "problem", &["certificates cannot be used", "belong together"]);
    visit.found("server", "could_not_check", &["see the findings about tokens and certificates"]);
    fs::write(home.path("cert.pem"), "no certificate").unwrap();
    DoctorRun::to(&home).found("credential", "problem", &["contains no certificate"]);
}

#[test]
fn a_certificate_that_expires_soon_does_not_hide_a_key_mismatch() {
    let (authority, ours, theirs) = (Authority::new("ours"), directory(), directory());
    let soon = UNIX_EPOCH + Duration::from_millis(wall_ms()) + Duration::from_hours(240);
    authority.write_certificate(ours.path(), |params| params.not_after = soon.into());
    authority.write_certificate(theirs.path(), |_| {});
    let settings = Settings::for_server("https://localhost:9")
        .with("server.client_cert_file", ours.path().join("cert.pem").to_str().unwrap())
        .with("server.client_key_file", theirs.path().join("key.pem").to_str().unwrap());
    let visit = DoctorRun::to(&Home::new(&settings));
    visit.found("credential", "warning", &["expires in"]);
    visit.found("credential", "problem", &["the certificates cannot be used"]);
}

#[test]
fn a_server_without_outcome_queries_is_not_a_problem_if_they_are_off() {
    let server =
        ScriptedServer::start(
            |request| {
                if request.is_batch() { Reply::applied(request) } else { Reply::html(405) }
            },
        );
    let daemon = Daemon::start(&Settings::for_server(&server.url()).with("server.outcome_lookup", "off"));
    DoctorRun::to(&daemon.home).found("server", "could_not_check", &["shows only when one is sent"]);
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    let daemon = daemon.restart();
    DoctorRun::to(&daemon.home).found("server", "ok", &["accepts records"]);
}
