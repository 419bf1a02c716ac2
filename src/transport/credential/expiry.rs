//! When the credentials expire: the client certificate, and a token that says so (a JWT). Neither is verified: the
//! server does that.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::{Credentials, Token, read_public_file};
use crate::clock::millis;
use crate::config;
use crate::policy::alerts::facts::{CredentialExpiry, Validity};

/// The claims of a JWT that say when it is valid, in seconds since 1970.
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
}

impl Credentials {
    /// When they expire, as far as they say so.
    pub fn expiry(&self, config: &config::Server) -> CredentialExpiry {
        let token = self.token.as_ref().ok().and_then(Option::as_ref);
        CredentialExpiry {
            token: token.and_then(token_validity),
            certificate: config.client_cert_file.as_deref().and_then(|path| {
                let pem = read_public_file(path).ok()?;
                // The first certificate of a chain is the device's own.
                certificate_validity(&CertificateDer::pem_slice_iter(&pem).next()?.ok()?)
            }),
        }
    }
}

/// From when to when a certificate is valid.
pub(crate) fn certificate_validity(der: &[u8]) -> Option<Validity> {
    let validity = Certificate::from_der(der).ok()?.tbs_certificate.validity;
    let ms = |time: x509_cert::time::Time| millis(time.to_unix_duration());
    Some(Validity { begins: Some(ms(validity.not_before)), ends: ms(validity.not_after) })
}

fn token_validity(token: &Token) -> Option<Validity> {
    let mut parts = token.expose().split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let begins = claims.nbf.or(claims.iat).and_then(seconds_to_ms);
    Some(Validity { begins, ends: seconds_to_ms(claims.exp)? })
}

fn seconds_to_ms(seconds: f64) -> Option<u64> {
    Duration::try_from_secs_f64(seconds).ok().map(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> Token {
        Token(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)).into())
    }

    #[test]
    fn a_token_that_says_when_it_expires_is_understood() {
        for (claims, expected) in [
            (r#"{"exp": 1772352930, "iat": 1772352000}"#, Some((Some(1_772_352_000_000), 1_772_352_930_000))),
            (r#"{"exp": 1772352930.5, "sub": "van-12"}"#, Some((None, 1_772_352_930_500))),
            (r#"{"exp": -1}"#, None),
            (r#"{"exp": 1e300}"#, None),
            (r#"{"exp": "soon"}"#, None),
            ("{}", None),
            ("no JSON", None),
        ] {
            let expected = expected.map(|(begins, ends)| Validity { begins, ends });
            assert_eq!(token_validity(&token(claims)), expected, "{claims}");
        }
        for other in ["sesame", "a.b", "a.!.c", "a.b.c.d", "..", "e30.e30."] {
            assert_eq!(token_validity(&Token(other.into())), None, "{other}");
        }
    }

    #[test]
    fn a_client_certificate_says_when_it_expires() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("client.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["device".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        let config = config::Server { client_cert_file: Some(path.clone()), ..config::Server::default() };
        let expiry = Credentials::read_configured(&config).expiry(&config);
        let validity = Validity { begins: Some(1_767_225_600_000), ends: 1_798_761_600_000 };
        assert_eq!(expiry, CredentialExpiry { token: None, certificate: Some(validity) });
        std::fs::write(&path, "no certificate").unwrap();
        assert_eq!(Credentials::read_configured(&config).expiry(&config), CredentialExpiry::default());
    }
}
