//! Why a TLS handshake failed, and what people can do about it.
//!
//! The texts fit both the server and its proxy: the message before them names the peer.

use std::error::Error;

use rustls::AlertDescription::{
    AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked,
    CertificateUnknown, HandshakeFailure, InsufficientSecurity, ProtocolVersion, UnknownCA, UnrecognisedName,
    UnsupportedCertificate,
};
use rustls::CertificateError::{
    BadSignature, Expired, ExpiredContext, InvalidPurpose, InvalidPurposeContext, NotValidForName,
    NotValidForNameContext, NotValidYet, NotValidYetContext, Other, Revoked, UnknownIssuer,
    UnsupportedSignatureAlgorithmContext, UnsupportedSignatureAlgorithmForPublicKeyContext,
};
use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage, PeerIncompatible};

use super::find_rustls_error;
use crate::causes::with_causes;
use crate::model::{ConnectFailure, TlsExplanation};

/// A kind of TLS failure, described for people.
#[derive(Debug)]
pub struct TlsProblem {
    is_cause_of: fn(&rustls::Error) -> bool,
    /// What is wrong. This text is unique among the problems and messages of the transport.
    pub what: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// The first match explains an error.
static PROBLEMS: [TlsProblem; 15] = [
    TlsProblem {
        is_cause_of: |error| matches!(error, InvalidCertificate(Expired | ExpiredContext { .. })),
        what: TlsExplanation::EXPIRED.what,
        remedy: TlsExplanation::EXPIRED.remedy,
    },
    TlsProblem {
        is_cause_of: |error| matches!(error, InvalidCertificate(NotValidYet | NotValidYetContext { .. })),
        what: "its certificate is not valid yet, by the clock of this device",
        remedy: "set the clock, which seems to be behind: sudo timedatectl set-ntp true",
    },
    TlsProblem {
        // BadSignature: a trusted authority has the same name, and another key.
        is_cause_of: |error| matches!(error, InvalidCertificate(UnknownIssuer | BadSignature)),
        what: TlsExplanation::NOT_TRUSTED.what,
        remedy: TlsExplanation::NOT_TRUSTED.remedy,
    },
    TlsProblem {
        is_cause_of: |error| {
            matches!(error, InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
        },
        what: "its certificate is for another name",
        remedy: "correct the name in server.url or server.proxy; on a strange network, log in first",
    },
    TlsProblem {
        is_cause_of: |error| is_webpki(error, &["CaUsedAsEndEntity"]),
        what: "its certificate is that of an authority (CA:TRUE), which a server must not show",
        remedy: "install one without CA:TRUE on it, issued by an authority or self-signed",
    },
    TlsProblem {
        is_cause_of: |error| is_webpki(error, &["UnsupportedCertVersion"]),
        what: "its certificate is of an old version, and only version 3 can be checked",
        remedy: "install one on it that has its name as subjectAltName, which makes it version 3",
    },
    TlsProblem {
        is_cause_of: |error| {
            matches!(error, InvalidCertificate(InvalidPurpose | InvalidPurposeContext { .. }))
        },
        what: "its certificate is not meant for servers",
        remedy: "install one for server authentication (extendedKeyUsage serverAuth) on it",
    },
    TlsProblem {
        is_cause_of: |error| matches!(error, InvalidCertificate(Revoked)),
        what: "its certificate has been revoked",
        remedy: "install a new one on it",
    },
    TlsProblem {
        is_cause_of: |error| {
            matches!(
                error,
                InvalidCertificate(
                    UnsupportedSignatureAlgorithmContext { .. }
                        | UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
                )
            )
        },
        what: "its certificate is signed by a method that is not accepted",
        remedy: "install one on it that is signed with SHA-256 or better, by ECDSA, Ed25519 or RSA of 2048 bits",
    },
    TlsProblem {
        is_cause_of: |error| {
            is_webpki(error, &["EndEntityUsedAsCa", "NameConstraintViolation", "PathLenConstraintViolated"])
        },
        what: "its certificate was issued by an authority that is not allowed to issue it",
        remedy: "install one on it whose issuer may issue certificates for its name",
    },
    TlsProblem {
        is_cause_of: |error| matches!(error, InvalidCertificate(_)),
        what: "its certificate cannot be checked",
        remedy: "install another one on it",
    },
    TlsProblem {
        is_cause_of: |error| {
            matches!(
                error,
                AlertReceived(
                    AccessDenied
                        | BadCertificate
                        | CertificateExpired
                        | CertificateRequired
                        | CertificateRevoked
                        | CertificateUnknown
                        | UnknownCA
                        | UnsupportedCertificate
                )
            )
        },
        what: "the other side wants another certificate of this device, or one at all",
        remedy: "set server.client_cert_file and server.client_key_file to one that it accepts",
    },
    TlsProblem {
        is_cause_of: |error| matches!(error, AlertReceived(UnrecognisedName)),
        what: "the other side does not know the name by which it was asked",
        remedy: "correct the name in server.url or server.proxy",
    },
    TlsProblem {
        is_cause_of: |error| {
            matches!(
                error,
                PeerIncompatible(_)
                    | AlertReceived(HandshakeFailure | InsufficientSecurity | ProtocolVersion)
            )
        },
        what: "the other side and this device have no version or cipher suite of TLS in common",
        remedy: "enable TLS 1.2 or 1.3 on it",
    },
    TlsProblem {
        is_cause_of: |error| matches!(error, InvalidMessage(_)),
        what: "the other side does not use TLS",
        remedy: "check scheme and port of server.url: http:// where the server has no TLS",
    },
];

impl TlsProblem {
    /// The problem that a message of the transport describes.
    pub fn find_in_message(message: &str) -> Option<&'static Self> {
        PROBLEMS.iter().find(|problem| message.contains(problem.what))
    }

    /// The kind of the failure.
    pub fn failure(&self) -> ConnectFailure {
        let Self { what, remedy, .. } = *self;
        match (TlsExplanation { what, remedy }) {
            TlsExplanation::EXPIRED => ConnectFailure::CertificateExpired,
            TlsExplanation::NOT_TRUSTED => ConnectFailure::CertificateNotTrusted,
            explanation => ConnectFailure::TlsExplained(explanation),
        }
    }

    /// A message of the transport without the remedy, for callers that show it elsewhere.
    pub fn without_remedy(&self, message: &str) -> String {
        message.replace(&format!(": {}", self.remedy), "")
    }
}

/// An error of a connection that may use TLS, for people. The remedy comes before the details, which may be long.
pub(in crate::transport) fn explain_tls_error(error: &(dyn Error + 'static)) -> String {
    let tls_error = find_rustls_error(error);
    match PROBLEMS.iter().find(|problem| tls_error.is_some_and(|error| (problem.is_cause_of)(error))) {
        Some(TlsProblem { what, remedy, .. }) => format!("{what}: {remedy} ({error})"),
        None => with_causes(error),
    }
}

/// The kind of an error of a connection with TLS.
pub(in crate::transport) fn classify_tls_error(error: &(dyn Error + 'static)) -> ConnectFailure {
    let tls_error = find_rustls_error(error);
    if let Some(InvalidCertificate(NotValidYet | NotValidYetContext { .. })) = tls_error {
        return ConnectFailure::CertificateNotYetValid;
    }
    let problem = PROBLEMS.iter().find(|problem| tls_error.is_some_and(|error| (problem.is_cause_of)(error)));
    problem.map_or(ConnectFailure::Tls, TlsProblem::failure)
}

/// Whether this is one of these webpki errors, which rustls passes on without a type.
fn is_webpki(error: &rustls::Error, names: &[&str]) -> bool {
    matches!(error, InvalidCertificate(Other(other)) if names.contains(&other.0.to_string().as_str()))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError, PeerIncompatible};

    use super::*;
    use crate::protocol::exchange::truncate_text;

    fn explained(error: rustls::Error) -> String {
        explain_tls_error(&io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn every_rejection_is_explained_with_a_fitting_remedy() {
        let webpki = |name: &str| Other(OtherError(Arc::new(io::Error::other(name.to_owned()))));
        let certificate = |error: CertificateError, what, remedy| (InvalidCertificate(error), what, remedy);
        let alert = |alert: AlertDescription, what, remedy| (AlertReceived(alert), what, remedy);
        for (error, what, remedy) in [
            certificate(Expired, "has expired", "check the clock"),
            certificate(NotValidYet, "not valid yet", "set the clock"),
            certificate(UnknownIssuer, "does not trust", "server.ca_file"),
            certificate(BadSignature, "does not trust", "server.ca_file"),
            certificate(NotValidForName, "for another name", "server.url"),
            certificate(webpki("CaUsedAsEndEntity"), "CA:TRUE", "one without CA:TRUE"),
            certificate(webpki("UnsupportedCertVersion"), "old version", "subjectAltName"),
            certificate(InvalidPurpose, "not meant for servers", "serverAuth"),
            certificate(Revoked, "revoked", "new one"),
            certificate(webpki("NameConstraintViolation"), "not allowed to issue", "may issue"),
            certificate(webpki("PathLenConstraintViolated"), "not allowed to issue", "may issue"),
            certificate(webpki("EndEntityUsedAsCa"), "not allowed to issue", "may issue"),
            certificate(webpki("MalformedExtensions"), "cannot be checked", "another one"),
            certificate(CertificateError::BadEncoding, "cannot be checked", "another one"),
            alert(CertificateRequired, "certificate of this device", "server.client_cert_file"),
            alert(UnknownCA, "certificate of this device", "server.client_cert_file"),
            alert(UnrecognisedName, "does not know the name", "server.url"),
            alert(ProtocolVersion, "in common", "TLS 1.2 or 1.3"),
            (
                PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
                "in common",
                "TLS 1.2 or 1.3",
            ),
            (InvalidMessage(InvalidMessage::InvalidContentType), "does not use TLS", "scheme and port"),
        ] {
            let detail = error.to_string();
            let message = format!("the TLS handshake failed: {}", explained(error));
            let problem = TlsProblem::find_in_message(&message).unwrap();
            assert!(problem.what.contains(what) && problem.remedy.contains(remedy), "{message}");
            assert_eq!(
                problem.without_remedy(&message),
                format!("the TLS handshake failed: {} ({detail})", problem.what),
            );
        }
    }

    #[test]
    fn the_remedy_is_not_truncated_in_the_manifest() {
        const LONGEST_BEFORE: &str = "the connection broke before the response: ";
        for TlsProblem { what, remedy, .. } in &PROBLEMS {
            let text = format!("{LONGEST_BEFORE}{what}: {remedy}");
            assert_eq!(truncate_text(text.clone()), text);
        }
    }

    #[test]
    fn an_error_without_explanation_is_shown_unchanged() {
        for error in [rustls::Error::DecryptError, rustls::Error::HandshakeNotComplete] {
            let detail = error.to_string();
            assert_eq!(explained(error), detail);
            assert!(TlsProblem::find_in_message(&detail).is_none());
        }
        assert_eq!(explain_tls_error(&io::Error::other("tls handshake eof")), "tls handshake eof");
    }
}
