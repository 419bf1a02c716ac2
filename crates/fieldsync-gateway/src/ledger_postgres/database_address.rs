//! Which database it is, as its URL says, and how it is spoken to.
//!
//! The URL is that of libpq. `sslmode` means what it means there: `prefer` (the default) and `require`
//! encrypt without asking who the server is; `verify-full` asks, against `sslrootcert` or the system's
//! authorities. `verify-ca` is taken as `verify-full`, and so is anything that names a `sslrootcert`: the
//! name is always checked with the certificate, and nothing goes out unencrypted. A password that the URL does not have is `$PGPASSWORD`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use url::form_urlencoded;

use crate::client_tls;

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
const APPLICATION: &str = "fieldsync-gateway";
/// Until one of the servers has taken a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A server of which nothing is heard for so long, and then not when asked, either, is gone.
const SILENCE: Duration = Duration::from_secs(15);
const SILENCE_PROBES: (Duration, u32) = (Duration::from_secs(5), 3);

/// Why a URL does not name a database that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    // What is wrong in it may be a part of its password: none of it is repeated.
    #[error(
        "the URL in --store cannot be read: it is postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETERS, and \
         in a password `@`, `:`, `/`, `?`, `#` and `%` are written as %40, %3A, %2F, %3F, %23 and %25"
    )]
    Url,
    #[error("--store is neither a path nor a postgres:// URL")]
    Neither,
    #[error("sslrootcert in --store asks for TLS, and sslmode=disable for none: leave one of them out")]
    RootsWithoutTls,
    #[error("`sslmode={0}` in --store is not known: use disable, prefer, require, verify-ca or verify-full")]
    Mode(String),
    #[error("cannot read the certificates of sslrootcert {}", path.display())]
    Roots {
        path: PathBuf,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error("TLS to the database cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// A database, and how it is spoken to.
pub(crate) struct Address {
    pub(super) config: Config,
    pub(super) tls: ClientConfig,
    /// For people and logs: where it is, and nothing secret.
    pub(super) name: String,
}

impl Address {
    /// Whether `store` is the URL of a database.
    pub(crate) fn is_meant(store: &str) -> bool {
        after_scheme(store).is_some()
    }

    /// Refuses what looks as if it were to name a database: a path is shown to people, and this may have a password.
    pub(crate) fn refuse_if_like_one(store: &str) -> Result<(), AddressError> {
        let mut text = store.to_ascii_lowercase();
        text.retain(|letter| !letter.is_whitespace());
        let is_like_one = text.contains("://")
            || text.contains("password=")
            || ["postgres:", "postgresql:"].iter().any(|scheme| text.starts_with(scheme));
        if is_like_one { Err(AddressError::Neither) } else { Ok(()) }
    }

    /// Reads the URL.
    pub(crate) fn parse(store: &str, password: Option<&str>) -> Result<Self, AddressError> {
        let (url, security) = Security::split(store)?;
        let mut config: Config = url.parse().map_err(|_| AddressError::Url)?;
        if let (None, Some(password)) = (config.get_password(), password) {
            config.password(password);
        }
        if config.get_application_name().is_none() {
            config.application_name(APPLICATION);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_LIMIT);
        }
        config
            .ssl_mode(security.mode)
            // A server that only reads would refuse every batch.
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .keepalives_idle(SILENCE)
            .keepalives_interval(SILENCE_PROBES.0)
            .keepalives_retries(SILENCE_PROBES.1)
            .tcp_user_timeout(SILENCE);
        Ok(Self { tls: security.tls()?, name: name(&config), config })
    }
}

/// What the URL says of TLS.
struct Security {
    mode: SslMode,
    verified: bool,
    roots: Option<PathBuf>,
}

impl Security {
    /// Takes what is said of TLS out of the URL: the driver does not know all of it.
    fn split(store: &str) -> Result<(String, Self), AddressError> {
        let rest = after_scheme(store).ok_or(AddressError::Url)?;
        // As the driver has it, the first `@` ends the password, whatever is in it.
        let (credentials, place) = rest.split_at(rest.find('@').map_or(0, |at| at + 1));
        let (place, query) = place.split_once('?').unwrap_or((place, ""));
        if place.contains('@') {
            return Err(AddressError::Url);
        }
        let mut security = Self { mode: SslMode::Prefer, verified: false, roots: None };
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match form_urlencoded::parse(pair.as_bytes()).next() {
                Some((key, value)) if key == "sslmode" => security.set_mode(&value)?,
                Some((key, value)) if key == "sslrootcert" => {
                    security.verified = true;
                    security.roots = (value != "system").then(|| value.as_ref().into());
                }
                _ => others.push(pair),
            }
        }
        if security.verified {
            if security.mode == SslMode::Disable {
                return Err(AddressError::RootsWithoutTls);
            }
            security.mode = SslMode::Require;
        }
        Ok((format!("{}{credentials}{place}?{}", SCHEMES[0], others.join("&")), security))
    }

    fn set_mode(&mut self, mode: &str) -> Result<(), AddressError> {
        self.mode = match mode {
            "disable" => SslMode::Disable,
            "allow" | "prefer" => SslMode::Prefer,
            "require" => SslMode::Require,
            "verify-ca" | "verify-full" => {
                self.verified = true;
                SslMode::Require
            }
            unknown => return Err(AddressError::Mode(unknown.into())),
        };
        Ok(())
    }

    fn tls(self) -> Result<ClientConfig, AddressError> {
        if !self.verified {
            let verifier = Arc::new(Unasked(client_tls::provider()));
            return Ok(client_tls::builder(client_tls::provider())?
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth());
        }
        let Some(path) = self.roots else {
            return Ok(client_tls::trusting(client_tls::system_roots())?);
        };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(&path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| AddressError::Roots { path, source })?;
        for certificate in certificates {
            roots.add(certificate)?;
        }
        Ok(client_tls::trusting(roots)?)
    }
}

/// What follows the scheme of PostgreSQL, in whatever case that is.
fn after_scheme(store: &str) -> Option<&str> {
    SCHEMES.iter().find_map(|scheme| {
        let (start, rest) = store.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

fn name(config: &Config) -> String {
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(nth, host)| {
            let host = match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            };
            let port = config.get_ports().get(nth).or(config.get_ports().first());
            port.map_or(host.clone(), |port| format!("{host}:{port}"))
        })
        .collect();
    format!("postgres://{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
}

/// Takes any certificate: what is asked of the server is that it encrypts, not who it is.
#[derive(Debug)]
struct Unasked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unasked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::{Address, AddressError, Security};

    #[test]
    fn what_the_url_says_of_tls_is_understood_as_libpq_does_or_stricter() {
        let cases = [
            ("postgres://db/x", SslMode::Prefer, false),
            ("postgres://db/x?sslmode=disable", SslMode::Disable, false),
            ("postgres://db/x?connect_timeout=3&sslmode=require", SslMode::Require, false),
            ("PostgreSQL://crm:what?@db/x?sslmode=require", SslMode::Require, false),
            ("postgres://db/x?sslrootcert=/etc/ca.pem", SslMode::Require, true),
            ("postgres://db/x?sslrootcert=system&sslmode=prefer", SslMode::Require, true),
            ("postgres://db/x?sslmode=verify-ca", SslMode::Require, true),
            ("postgres://db/x?sslmode=verify-full&sslrootcert=system", SslMode::Require, true),
            ("postgres://db/x?sslmode=require&sslrootcert=%2Fetc%2Fca.pem", SslMode::Require, true),
        ];
        for (url, mode, verified) in cases {
            let (rest, security) = Security::split(url).unwrap();
            assert_eq!((security.mode, security.verified), (mode, verified), "{url}");
            assert!(!rest.contains("ssl"), "{rest}");
        }
        let (_, security) = Security::split(cases[cases.len() - 1].0).unwrap();
        assert_eq!(security.roots.unwrap().to_str(), Some("/etc/ca.pem"));
        assert!(matches!(Address::parse("postgres://db/x?sslmode=on", None), Err(AddressError::Mode(_))));
        for url in [
            "postgres://db/x?sslmode=disable&sslrootcert=/ca",
            "postgres://db/x?sslrootcert=/ca&sslmode=disable",
        ] {
            assert!(matches!(Address::parse(url, None), Err(AddressError::RootsWithoutTls)), "{url}");
        }
    }

    #[test]
    fn the_name_tells_where_it_is_and_nothing_secret() {
        let url = "postgres://crm:s3cret@one:5433,two:5434/sync?password=s3cret&sslmode=disable";
        let address = Address::parse(url, None).unwrap();
        assert_eq!(address.name, "postgres://one:5433,two:5434/sync");
    }

    #[test]
    fn the_password_of_the_surroundings_is_for_urls_without_one() {
        let password = |url| {
            let address = Address::parse(url, Some("theirs")).unwrap();
            address.config.get_password().map(<[u8]>::to_vec)
        };
        assert_eq!(password("postgres://crm@db/x").unwrap(), b"theirs");
        assert_eq!(password("postgres://crm:mine@db/x").unwrap(), b"mine");
    }
}
