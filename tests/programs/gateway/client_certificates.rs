//! Certificates of clients that name devices.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyPair, SanType};
use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use uuid::Uuid;

use super::configuration::Setup;
use crate::support::device::Batch;
use crate::support::gateway::Gateway;

/// An authority of clients, and the gateway that accepts its certificates.
struct Scene {
    setup: Setup,
    gateway: Gateway,
    server: CertificateDer<'static>,
    authority: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
type Identity = (CertificateDer<'static>, KeyPair);

impl Scene {
    fn start(tokens: &str) -> Self {
        let mut parameters = CertificateParams::new([]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority_pem = parameters.self_signed(&key).unwrap().pem();
        let authority = Issuer::new(parameters, key);
        let server = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let setup = Setup::with("");
        let cert = setup.place("cert.pem", &server.cert.pem());
        let key = setup.place("key.pem", &server.signing_key.serialize_pem());
        let clients = setup.place("clients.pem", &authority_pem);
        let mut text =
            format!("tls_cert_file = '{cert}'\ntls_key_file = '{key}'\nclient_ca_file = '{clients}'\n");
        if !tokens.is_empty() {
            writeln!(text, "token_file = '{}'", setup.place("tokens", tokens)).unwrap();
        }
        setup.write(&text);
        let gateway = setup.start(&[]);
        Self { setup, gateway, server: server.cert.der().clone(), authority }
    }

    fn issue(&self, common_name: impl Into<DnValue>, uris: &[String]) -> Identity {
        let mut parameters = CertificateParams::new([]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        let names = uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap()));
        parameters.subject_alt_names.extend(names);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.authority).unwrap();
        (certificate.der().clone(), key)
    }

    fn exchange(&self, identity: &Identity, request: &[u8]) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(self.server.clone()).unwrap();
        let key = PrivateKeyDer::try_from(identity.1.serialize_der()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![identity.0.clone()], key)
            .unwrap();
        let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(client, TcpStream::connect(self.gateway.address).unwrap());
        stream.write_all(request).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    /// The status and the body of the response to a batch.
    fn post(&self, identity: &Identity, batch: &Batch, token: Option<&str>) -> String {
        let body = batch.body();
        let token = token.map_or_else(String::new, |token| format!("\r\nAuthorization: Bearer {token}"));
        let framing = format!("Content-Length: {}\r\nConnection: close{token}", body.len());
        self.exchange(identity, &[batch.head(&framing).as_bytes(), &body].concat())
    }
}

fn is_accepted(response: &str) -> bool {
    assert!(response.starts_with("HTTP/1.1 200") || response.contains("DEVICE_MISMATCH"), "{response}");
    response.starts_with("HTTP/1.1 200")
}

#[test]
fn a_certificate_that_names_devices_acts_for_these_only() {
    let scene = Scene::start("");
    let [one, other] = [(); 2].map(|()| Batch::of(&["{}"]));
    let uri = |device: Uuid| format!("urn:uuid:{device}");
    let cases = [
        (scene.issue("tablet", &[uri(one.device)]), [true, false]),
        (scene.issue("tablet", &[uri(one.device), uri(other.device)]), [true, true]),
        (scene.issue(one.device.to_string(), &[]), [true, false]),
        // The alternative name is what counts.
        (scene.issue(one.device.to_string(), &[uri(other.device)]), [false, true]),
        // A name that is meant for a device and is none.
        (scene.issue("tablet", &["urn:uuid:tablet".to_owned()]), [false, false]),
        // Other spellings.
        (scene.issue("tablet", &[format!("URN:UUID:{}", one.device)]), [true, false]),
        (scene.issue("tablet", &["Urn:Uuid:tablet".to_owned()]), [false, false]),
        (scene.issue(format!("{} ", one.device), &[]), [true, false]),
        (scene.issue(uri(one.device).to_uppercase(), &[]), [true, false]),
        (scene.issue("URN:UUID:tablet", &[]), [false, false]),
        (scene.issue(DnValue::BmpString(one.device.to_string().try_into().unwrap()), &[]), [true, false]),
        (scene.issue("tablet", &["https://example.com/tablet".to_owned()]), [true, true]),
        (scene.issue("tablet", &[]), [true, true]),
    ];
    for (case, (identity, expected)) in cases.iter().enumerate() {
        let accepted = [&one, &other].map(|batch| is_accepted(&scene.post(identity, batch, None)));
        assert_eq!(accepted, *expected, "case {case}");
        let ledger =
            scene.exchange(identity, b"GET /ledger HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let is_for_all = case >= 11;
        assert_eq!(ledger.starts_with("HTTP/1.1 200"), is_for_all, "case {case}: {ledger}");
        assert!(is_for_all || ledger.contains("DEVICE_TOKEN"), "case {case}: {ledger}");
    }
    let log = scene.setup.log();
    assert!(!log.contains("ERROR"), "{log}");
    assert_eq!(log.matches("names no device").count(), 1, "{log}");
}

#[test]
fn with_tokens_both_have_to_cover_the_device() {
    let [one, other] = [(); 2].map(|()| Batch::of(&["{}"]));
    let scene = Scene::start(&format!("general-token\n{} device-token\n", one.device));
    let named = scene.issue("tablet", &[format!("urn:uuid:{}", one.device)]);
    let unnamed = scene.issue("tablet", &[]);
    assert!(scene.post(&named, &one, None).starts_with("HTTP/1.1 401"));
    for (identity, token, expected) in [
        (&named, "general-token", [true, false]),
        (&named, "device-token", [true, false]),
        (&unnamed, "general-token", [true, true]),
        (&unnamed, "device-token", [true, false]),
    ] {
        let accepted = [&one, &other].map(|batch| is_accepted(&scene.post(identity, batch, Some(token))));
        assert_eq!(accepted, expected, "{token}");
    }
}
