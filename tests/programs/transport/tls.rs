//! Trust over TLS, and the client certificate of the device.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};

use super::peer::{Peer, PeerConnection};
use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::gateway::Gateway;
use crate::support::secrets::place;
use crate::support::settings::Settings;
use crate::support::wait::{DEADLINE, directory};

/// An authority, and a certificate that it issued, with its key.
pub(super) struct IssuedCertificate {
    authority: CertifiedIssuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl IssuedCertificate {
    pub(super) fn new() -> Self {
        Self::for_names(&["localhost"])
    }

    /// For servers with these names and addresses.
    pub(super) fn for_names(names: &[&str]) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>());
        let certificate = names.unwrap().signed_by(&key, &authority).unwrap();
        Self { authority, certificate, key }
    }

    /// Writes `ca.pem`, `cert.pem` and `key.pem`.
    pub(super) fn write(&self, directory: &Path) {
        fs::write(directory.join("ca.pem"), self.authority.pem()).unwrap();
        fs::write(directory.join("cert.pem"), self.certificate.pem()).unwrap();
        place(&directory.join("key.pem"), &self.key.serialize_pem(), 0o600);
    }

    /// A server with this certificate; if it asks for a client certificate, the same authority must have issued it.
    pub(super) fn server(&self, asks_for_certificates: bool) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if asks_for_certificates {
            let mut roots = RootCertStore::empty();
            roots.add(self.authority.der().clone()).unwrap();
            let provider = Arc::new(default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        Arc::new(builder.with_single_cert(vec![self.certificate.der().clone()], key).unwrap())
    }
}

/// A gateway over TLS, and its address for devices.
pub(super) fn gateway(directory: &Path) -> (Gateway, String) {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let arguments = ["--tls-cert", &path("cert.pem"), "--tls-key", &path("key.pem")];
    let gateway = Gateway::start(directory, &arguments);
    let url = format!("https://localhost:{}", gateway.address.port());
    (gateway, url)
}

#[track_caller]
fn assert_no_attempts(daemon: &Daemon, ids: &[String]) {
    for id in ids {
        let entry = daemon.record(id);
        assert_eq!((&entry["attempts"], &entry["last_error"]), (&json!(0), &Value::Null), "{entry}");
    }
}

#[test]
fn a_server_is_recognized_by_the_authority_that_is_configured() {
    let directory = directory();
    IssuedCertificate::new().write(directory.path());
    let (_gateway, url) = gateway(directory.path());
    let ca = directory.path().join("ca.pem");
    let daemon = Daemon::start(&Settings::for_server(&url).with("server.ca_file", ca.to_str().unwrap()));
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
}

#[test]
fn to_a_server_of_an_unknown_authority_nothing_is_sent() {
    let (directory, others) = (directory(), directory());
    IssuedCertificate::new().write(directory.path());
    IssuedCertificate::new().write(others.path());
    let (_gateway, url) = gateway(directory.path());
    let ca = others.path().join("ca.pem");
    let daemon = Daemon::start(&Settings::for_server(&url).with("server.ca_file", ca.to_str().unwrap()));
    let ids = daemon.enqueue_many(3);
    daemon.wait_for_phase("offline");
    assert_no_attempts(&daemon, &ids);
    assert!(
        daemon.log().contains("the TLS handshake failed: its certificate is of an authority"),
        "{}",
        daemon.log()
    );
}

#[test]
fn a_pipe_in_place_of_the_authority_file_does_not_block_the_daemon() {
    let home = Home::new(&Settings::default());
    let ca = home.path("ca.pem");
    mkfifo(&ca, Mode::S_IRUSR).unwrap();
    home.configure(&Settings::for_server("https://localhost:9").with("server.ca_file", ca.to_str().unwrap()));
    let daemon = home.start();
    let ids = daemon.enqueue_many(3);
    let status = daemon.wait_for_phase("misconfigured");
    let expected = format!("server.ca_file: cannot read {}: it is not a file", ca.display());
    assert_eq!(status["sync"]["last_error"]["message"], expected.as_str());
    assert_no_attempts(&daemon, &ids);
}

/// A server over TLS that is correct otherwise.
pub(super) fn speaking_tls(listener: TcpListener, config: Arc<ServerConfig>) -> Peer {
    Peer::start_at(listener, move |_, talk: PeerConnection<TcpStream>| {
        let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        talk.over(|stream| StreamOwned::new(tls, stream)).serve();
    })
}

/// A server that asks for a client certificate.
fn asking(issued: &IssuedCertificate) -> Peer {
    speaking_tls(TcpListener::bind("127.0.0.1:0").unwrap(), issued.server(true))
}

/// A home with the certificates, and settings for a server with one of them.
fn at_home(peer: &Peer, issued: &IssuedCertificate) -> (Home, Settings) {
    let home = Home::new(&Settings::default());
    issued.write(home.path("").as_path());
    let settings = Settings::for_server(&format!("https://localhost:{}", peer.address.port()))
        .with("server.ca_file", home.path("ca.pem").to_str().unwrap());
    (home, settings)
}

#[test]
fn a_device_shows_its_certificate_to_a_server_that_asks_for_it() {
    let issued = IssuedCertificate::new();
    let peer = asking(&issued);
    let (home, settings) = at_home(&peer, &issued);
    let path = |name: &str| home.path(name).to_str().unwrap().to_owned();
    home.configure(
        &settings
            .with("server.client_cert_file", &path("cert.pem"))
            .with("server.client_key_file", &path("key.pem"))
            .batches_of(1),
    );
    let daemon = home.start();
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    assert_eq!(peer.connections(), 1);
}

#[test]
fn without_the_certificate_that_a_server_asks_for_nothing_was_sent() {
    let issued = IssuedCertificate::new();
    let peer = asking(&issued);
    let (home, settings) = at_home(&peer, &issued);
    home.configure(&settings);
    let daemon = home.start();
    let ids = daemon.enqueue_many(3);
    daemon.wait_for_phase("offline");
    assert_no_attempts(&daemon, &ids);
    assert!(daemon.log().contains("wants another certificate of this device"), "{}", daemon.log());
    assert_eq!(peer.attempts(), [""; 0]);
}

#[test]
fn an_unused_connection_ends_with_a_tls_close_notice() {
    let issued = IssuedCertificate::new();
    let config = issued.server(false);
    let (ends, ended) = channel();
    let peer = Peer::start(move |_, talk: PeerConnection<TcpStream>| {
        let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut talk = talk.over(|stream| StreamOwned::new(tls, stream));
        let asked = talk.next_batch().unwrap();
        talk.respond(&asked).unwrap();
        ends.send(talk.read_to_end().map_err(|error| error.to_string())).unwrap();
    });
    let (home, settings) = at_home(&peer, &issued);
    home.configure(&settings);
    let daemon = home.start();
    daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    daemon.terminate();
    assert_eq!(ended.recv_timeout(DEADLINE).unwrap(), Ok(Vec::new()));
}
