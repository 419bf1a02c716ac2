//! The gateway over TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::configuration::Setup;
use crate::support::gateway::Gateway;
use crate::support::wait::{directory, wait_for};

/// The whole response, with its head.
pub(super) fn get_over_tls(gateway: &Gateway, certificate: &CertificateDer<'_>, path: &str) -> String {
    get(&mut connect_over_tls(gateway, certificate), path)
}

/// A client that trusts this certificate, and would take HTTP/2.
fn connect_over_tls(
    gateway: &Gateway,
    certificate: &CertificateDer<'_>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = "localhost".try_into().unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(client, TcpStream::connect(gateway.address).unwrap())
}

fn get(stream: &mut StreamOwned<ClientConnection, TcpStream>, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn with_a_certificate_it_serves_http_1_1_over_tls() {
    let directory = directory();
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("cert.pem"), issued.cert.pem()).unwrap();
    fs::write(path("key.pem"), issued.signing_key.serialize_pem()).unwrap();
    let gateway =
        Gateway::start(directory.path(), &["--tls-cert", &path("cert.pem"), "--tls-key", &path("key.pem")]);
    assert_eq!(gateway.scheme, "https");

    let mut stream = connect_over_tls(&gateway, issued.cert.der());
    let response = get(&mut stream, "/healthz");
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(response.ends_with(r#"{"status":"ok"}"#), "{response}");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));

    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
}

/// A certificate and its key as PEM, and an authority that signed it.
struct Issued {
    certificate: CertificateDer<'static>,
    pem: String,
    key: rcgen::KeyPair,
}

fn issue_by(authority: Option<&rcgen::Issuer<'_, rcgen::KeyPair>>, name: &str) -> Issued {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    let issued = match authority {
        Some(authority) => parameters.signed_by(&key, authority).unwrap(),
        None => parameters.self_signed(&key).unwrap(),
    };
    Issued { certificate: issued.der().clone(), pem: issued.pem(), key }
}

#[test]
fn with_authorities_for_clients_only_their_certificates_are_accepted() {
    let mut parameters = rcgen::CertificateParams::new([]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority_pem = parameters.self_signed(&key).unwrap().pem();
    let authority = rcgen::Issuer::new(parameters, key);
    let server = issue_by(None, "localhost");

    let setup = Setup::with("");
    let [cert, key] = [("cert.pem", server.pem), ("key.pem", server.key.serialize_pem())]
        .map(|(name, pem)| setup.place(name, &pem));
    let clients = setup.place("clients.pem", &authority_pem);
    setup.write(&format!("tls_cert_file = '{cert}'\ntls_key_file = '{key}'\nclient_ca_file = '{clients}'\n"));
    let gateway = setup.start(&[]);

    let try_health = |client: Option<&Issued>| -> std::io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(server.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            Some(client) => {
                let key = PrivateKeyDer::try_from(client.key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![client.certificate.clone()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(client, TcpStream::connect(gateway.address).unwrap());
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(response)
    };
    let (own, foreign) = (issue_by(Some(&authority), "tablet-1"), issue_by(None, "tablet-2"));
    assert!(try_health(Some(&own)).unwrap().starts_with("HTTP/1.1 200"));
    for client in [None, Some(&foreign)] {
        let refused = try_health(client).unwrap_err().to_string();
        assert!(refused.contains("alert") || refused.contains("reset"), "{refused}");
    }

    setup.place("clients.pem", "no certificate\n");
    let refused = setup.check(&[]);
    assert_eq!(refused.code, Some(78));
    assert!(refused.stderr.contains("gateway.client_ca_file"), "{}", refused.stderr);
}

#[test]
fn a_renewed_certificate_is_used_after_a_reload_and_a_broken_one_is_not() {
    let setup = Setup::with("");
    let place = |issued: &Issued| {
        setup.place("cert.pem", &issued.pem);
        setup.place("key.pem", &issued.key.serialize_pem());
    };
    let trusts = |gateway: &Gateway, issued: &Issued| {
        let mut roots = RootCertStore::empty();
        roots.add(issued.certificate.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(client, TcpStream::connect(gateway.address).unwrap());
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").is_ok()
    };
    let [old, new] = [(); 2].map(|()| issue_by(None, "localhost"));
    place(&old);
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| setup.path(name).display().to_string());
    setup.write(&format!("tls_cert_file = '{cert}'\ntls_key_file = '{key}'\n"));
    let gateway = setup.start(&[]);
    assert!(trusts(&gateway, &old) && !trusts(&gateway, &new));
    place(&new);
    gateway.signal("HUP");
    wait_for("the new certificate", || trusts(&gateway, &new).then_some(()));
    setup.place("key.pem", &old.key.serialize_pem());
    gateway.signal("HUP");
    wait_for("the mistake", || setup.log().contains("the certificate cannot be used").then_some(()));
    assert!(trusts(&gateway, &new));
}
