//! Untrusted certificates: the status and the doctor explain the reason, and what to do.

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SigningKey, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::BitString;
use x509_cert::der::{Decode, Encode};

use super::tls::speaking_tls;
use crate::support::daemon::{Counts, Daemon, Home, leave_surroundings};
use crate::support::process::run;
use crate::support::settings::Settings;

/// A self-signed certificate and its key.
struct SelfSigned {
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl SelfSigned {
    fn new(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, key }
    }

    /// A certificate of version 1, which has no extensions.
    fn of_version_1() -> Self {
        let Self { der, key } = Self::new(|_| {});
        let mut certificate = Certificate::from_der(&der).unwrap();
        certificate.tbs_certificate.version = Version::V1;
        certificate.tbs_certificate.extensions = None;
        let signature = key.sign(&certificate.tbs_certificate.to_der().unwrap()).unwrap();
        certificate.signature = BitString::from_bytes(&signature).unwrap();
        Self { der: certificate.to_der().unwrap().into(), key }
    }

    fn server(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let key = default_provider().key_provider.load_private_key(key).unwrap();
        let shown = CertifiedKey::new(vec![self.der.clone()], key);
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        // This constructor does not check the certificate: the daemon has to refuse it.
        Arc::new(builder.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(shown))))
    }
}

/// A daemon that trusts the certificate of its server, and the requests that the server received.
fn trusting(shown: &SelfSigned) -> (Daemon, super::peer::Peer) {
    let peer = speaking_tls(TcpListener::bind("127.0.0.1:0").unwrap(), shown.server());
    let home = Home::new(&Settings::default());
    let ca = home.path("ca.pem");
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &shown.der)
    );
    fs::write(&ca, pem).unwrap();
    let url = format!("https://localhost:{}", peer.address.port());
    home.configure(&Settings::for_server(&url).with("server.ca_file", ca.to_str().unwrap()));
    (home.start(), peer)
}

#[test]
fn a_rejected_certificate_is_explained_with_a_remedy() {
    type CertificateChange = fn(&mut CertificateParams);
    let changed = |change: CertificateChange| SelfSigned::new(change);
    for (shown, what, remedy) in [
        (
            changed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "its certificate is that of an authority (CA:TRUE)",
            "install one without CA:TRUE on it",
        ),
        (
            SelfSigned::of_version_1(),
            "its certificate is of an old version",
            "has its name as subjectAltName",
        ),
        (
            changed(|params| params.not_after = date_time_ymd(2021, 1, 1)),
            "its certificate has expired, by the clock of this device",
            "check the clock",
        ),
        (
            changed(|params| params.not_before = date_time_ymd(2101, 1, 1)),
            "its certificate is not valid yet, by the clock of this device",
            "set the clock",
        ),
        (
            changed(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "its certificate is not meant for servers",
            "serverAuth",
        ),
        (
            changed(|params| params.subject_alt_names.clear()),
            "its certificate is for another name",
            "correct the name in server.url",
        ),
    ] {
        let (daemon, peer) = trusting(&shown);
        daemon.enqueue_many(1);
        let status = daemon.wait_for_phase("offline");
        let message = status["sync"]["last_error"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("the TLS handshake failed: {what}")), "{message}");
        assert!(message.contains(remedy), "{message}");
        let mut doctor = std::process::Command::new(env!("CARGO_BIN_EXE_fieldsync"));
        doctor.args(["doctor", "--config"]).arg(daemon.home.path("config.toml"));
        leave_surroundings(&mut doctor);
        let reported = run(&mut doctor, b"").stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(reported.contains(what) && reported.contains(remedy), "{reported}");
        assert!(!reported.contains("try another network"), "{reported}");
        assert_eq!(peer.attempts(), [""; 0]);
    }
}

#[test]
fn a_self_signed_certificate_that_is_not_an_authority_is_trusted_once_it_is_configured() {
    let (daemon, _peer) = trusting(&SelfSigned::new(|_| {}));
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3), "{}", daemon.log());
}
