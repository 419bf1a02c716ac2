//! The database that a URL names, and how to connect to it.
//!
//! The URL is that of libpq, and `sslmode` means the same: `prefer` (the default) and `require` encrypt without
//! verifying the server; `verify-full` verifies it against `sslrootcert` or the system's authorities. `verify-ca`
//! is treated as `verify-full`, and so is any URL with `sslrootcert`: certificate and name are then checked, and
//! nothing is sent unencrypted. `$PGPASSWORD` is used if the URL has no password.
//!
//! Of several hosts, the first is used that accepts writes, see [`super::host_connector`].
//! `prepared_statements=true` is for connections without a pooler, or with one that knows statements by name.

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

const URL_SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// Values of `target_session_attrs` that a server which accepts writes fulfils.
const WRITABLE_SESSIONS: [&str; 3] = ["any", "primary", "read-write"];
const APPLICATION_NAME: &str = "fieldsync-gateway";
/// For one of the servers to accept the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After this long without a packet from the server, keepalive probes are sent.
const KEEPALIVE_IDLE_TIME: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES_MAX: u32 = 3;

/// Why a database URL cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseUrlError {
    // The invalid part may belong to the password: the text quotes none of the URL.
    #[error(
        "the URL in --store is invalid. The form is postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETERS, and \
         in a password, write `@`, `:`, `/`, `?`, `#` and `%` as %40, %3A, %2F, %3F, %23 and %25"
    )]
    Url,
    #[error("--store is neither a path nor a postgres:// URL")]
    Unrecognized,
    #[error("sslrootcert in --store requires TLS, and sslmode=disable forbids it: remove one of them")]
    RootsWithoutTls,
    #[error("`sslmode={0}` in --store is not known: use disable, prefer, require, verify-ca or verify-full")]
    Mode(String),
    #[error(
        "`target_session_attrs={0}` in --store cannot be used, because the gateway writes: use read-write, or leave \
         it out"
    )]
    SessionAttributes(String),
    #[error("`prepared_statements={0}` in --store is neither true nor false")]
    PreparedStatements(String),
    #[error("cannot read the certificates of sslrootcert {}", path.display())]
    Roots {
        path: PathBuf,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error("TLS to the database cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// A database, and how to connect to it.
pub(crate) struct DatabaseAddress {
    /// One for each host.
    pub(super) hosts: Vec<Config>,
    /// For a session with one of several hosts.
    pub(super) host_timeout: Option<Duration>,
    pub(super) tls: ClientConfig,
    /// Whether statements may have names in a session.
    pub(super) prepares_statements: bool,
    /// For people and logs: where it is, without secrets.
    pub(super) name: String,
}

impl DatabaseAddress {
    /// Whether `store` is the URL of a database.
    pub(crate) fn is_database_url(store: &str) -> bool {
        strip_scheme(store).is_some()
    }

    /// Rejects text that resembles a database URL: a path appears in logs, and such text may hold a password.
    pub(crate) fn reject_lookalike(store: &str) -> Result<(), DatabaseUrlError> {
        let mut text = store.to_ascii_lowercase();
        text.retain(|letter| !letter.is_whitespace());
        let is_lookalike = text.contains("://")
            || text.contains("password=")
            || ["postgres:", "postgresql:"].iter().any(|scheme| text.starts_with(scheme));
        if is_lookalike { Err(DatabaseUrlError::Unrecognized) } else { Ok(()) }
    }

    /// Reads the URL.
    pub(crate) fn parse(store: &str, password: Option<&str>) -> Result<Self, DatabaseUrlError> {
        let (urls, parameters) = UrlParameters::split_from_url(store)?;
        let parse = |url: &String| url.parse::<Config>().map_err(|_| DatabaseUrlError::Url);
        let mut hosts = urls.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let host_timeout = hosts.first().and_then(|config| config.get_connect_timeout().copied());
        for config in &mut hosts {
            complete_config(config, parameters.mode, password);
        }
        Ok(Self {
            prepares_statements: parameters.prepares_statements,
            tls: parameters.into_tls_config()?,
            name: describe_database(&hosts),
            hosts,
            host_timeout,
        })
    }
}

fn complete_config(config: &mut Config, mode: SslMode, password: Option<&str>) {
    if let (None, Some(password)) = (config.get_password(), password) {
        config.password(password);
    }
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION_NAME);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    config
        .ssl_mode(mode)
        // A read-only server would fail every batch.
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .keepalives_idle(KEEPALIVE_IDLE_TIME)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_PROBES_MAX)
        .tcp_user_timeout(KEEPALIVE_IDLE_TIME);
}

/// The parameters of a URL that the driver does not know, or not all values of.
struct UrlParameters {
    prepares_statements: bool,
    mode: SslMode,
    is_verified: bool,
    roots: Option<PathBuf>,
}

impl UrlParameters {
    /// Removes these parameters from the URL, and returns that of each host.
    fn split_from_url(store: &str) -> Result<(Vec<String>, Self), DatabaseUrlError> {
        let rest = strip_scheme(store).ok_or(DatabaseUrlError::Url)?;
        // As in the driver, the first `@` ends the password.
        let (credentials, place) = rest.split_at(rest.find('@').map_or(0, |at| at + 1));
        let (place, query) = place.split_once('?').unwrap_or((place, ""));
        if place.contains('@') {
            return Err(DatabaseUrlError::Url);
        }
        let mut parameters =
            Self { prepares_statements: false, mode: SslMode::Prefer, is_verified: false, roots: None };
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match form_urlencoded::parse(pair.as_bytes()).next() {
                Some((key, value)) if key == "sslmode" => parameters.set_mode(&value)?,
                Some((key, value)) if key == "sslrootcert" => {
                    parameters.is_verified = true;
                    parameters.roots = (value != "system").then(|| value.as_ref().into());
                }
                Some((key, value)) if key == "prepared_statements" => {
                    parameters.prepares_statements =
                        value.parse().map_err(|_| DatabaseUrlError::PreparedStatements(value.into()))?;
                }
                Some((key, value)) if key == "target_session_attrs" => {
                    if !WRITABLE_SESSIONS.contains(&value.as_ref()) {
                        return Err(DatabaseUrlError::SessionAttributes(value.into()));
                    }
                }
                _ => others.push(pair),
            }
        }
        if parameters.is_verified {
            if parameters.mode == SslMode::Disable {
                return Err(DatabaseUrlError::RootsWithoutTls);
            }
            parameters.mode = SslMode::Require;
        }
        let (hosts, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let others = others.join("&");
        let url_of = |host| format!("{}{credentials}{host}{path}?{others}", URL_SCHEMES[0]);
        Ok((hosts.split(',').map(url_of).collect(), parameters))
    }

    fn set_mode(&mut self, mode: &str) -> Result<(), DatabaseUrlError> {
        self.mode = match mode {
            "disable" => SslMode::Disable,
            "allow" | "prefer" => SslMode::Prefer,
            "require" => SslMode::Require,
            "verify-ca" | "verify-full" => {
                self.is_verified = true;
                SslMode::Require
            }
            unknown => return Err(DatabaseUrlError::Mode(unknown.into())),
        };
        Ok(())
    }

    fn into_tls_config(self) -> Result<ClientConfig, DatabaseUrlError> {
        if !self.is_verified {
            let verifier = Arc::new(AcceptAnyCertificate(client_tls::crypto_provider()));
            return Ok(client_tls::config_builder(client_tls::crypto_provider())?
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth());
        }
        let Some(path) = self.roots else {
            return Ok(client_tls::config_with_roots(client_tls::load_system_roots())?);
        };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(&path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| DatabaseUrlError::Roots { path, source })?;
        for certificate in certificates {
            roots.add(certificate)?;
        }
        Ok(client_tls::config_with_roots(roots)?)
    }
}

/// The rest of the URL after the scheme of PostgreSQL, in upper or lower case.
fn strip_scheme(store: &str) -> Option<&str> {
    URL_SCHEMES.iter().find_map(|scheme| {
        let (start, rest) = store.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

fn describe_database(configs: &[Config]) -> String {
    let hosts: Vec<String> = configs
        .iter()
        .flat_map(|config| config.get_hosts().iter().enumerate().map(move |(nth, host)| (config, nth, host)))
        .map(|(config, nth, host)| {
            let host = match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            };
            let port = config.get_ports().get(nth).or(config.get_ports().first());
            port.map_or(host.clone(), |port| format!("{host}:{port}"))
        })
        .collect();
    format!(
        "postgres://{}/{}",
        hosts.join(","),
        configs.first().and_then(Config::get_dbname).unwrap_or_default()
    )
}

/// Accepts any certificate, for encryption without verification.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
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
    use tokio_postgres::config::{SslMode, TargetSessionAttrs};

    use super::{DatabaseAddress, DatabaseUrlError, UrlParameters};

    #[test]
    fn tls_settings_are_interpreted_as_by_libpq_or_more_strictly() {
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
            let (urls, tls) = UrlParameters::split_from_url(url).unwrap();
            assert_eq!((tls.mode, tls.is_verified), (mode, verified), "{url}");
            assert!(urls.iter().all(|url| !url.contains("ssl")), "{urls:?}");
        }
        let (_, tls) = UrlParameters::split_from_url(cases[cases.len() - 1].0).unwrap();
        assert_eq!(tls.roots.unwrap().to_str(), Some("/etc/ca.pem"));
        assert!(matches!(
            DatabaseAddress::parse("postgres://db/x?sslmode=on", None),
            Err(DatabaseUrlError::Mode(_))
        ));
        for url in [
            "postgres://db/x?sslmode=disable&sslrootcert=/ca",
            "postgres://db/x?sslrootcert=/ca&sslmode=disable",
        ] {
            assert!(
                matches!(DatabaseAddress::parse(url, None), Err(DatabaseUrlError::RootsWithoutTls)),
                "{url}"
            );
        }
    }

    #[test]
    fn only_servers_that_accept_writes_can_be_asked_for() {
        for attributes in ["any", "primary", "read-write"] {
            let url = format!("postgres://one:1,two:2/x?target_session_attrs={attributes}");
            let address = DatabaseAddress::parse(&url, None).unwrap();
            for (host, port) in address.hosts.iter().zip([1, 2]) {
                assert_eq!(host.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
                assert_eq!((host.get_hosts().len(), host.get_ports()), (1, &[port][..]));
            }
            assert_eq!((address.hosts.len(), address.prepares_statements), (2, false));
        }
        let parse = |parameter: &str| DatabaseAddress::parse(&format!("postgres://db/x?{parameter}"), None);
        assert!(matches!(parse("target_session_attrs=standby"), Err(DatabaseUrlError::SessionAttributes(_))));
        assert!(parse("prepared_statements=true").unwrap().prepares_statements);
        assert!(matches!(parse("prepared_statements=1"), Err(DatabaseUrlError::PreparedStatements(_))));
    }

    #[test]
    fn the_name_says_where_the_database_is_without_secrets() {
        let url = "postgres://crm:s3cret@one:5433,two:5434/sync?password=s3cret&sslmode=disable";
        let address = DatabaseAddress::parse(url, None).unwrap();
        assert_eq!(address.name, "postgres://one:5433,two:5434/sync");
    }

    #[test]
    fn the_password_variable_is_for_urls_without_a_password() {
        let password = |url| {
            let address = DatabaseAddress::parse(url, Some("theirs")).unwrap();
            address.hosts[0].get_password().map(<[u8]>::to_vec)
        };
        assert_eq!(password("postgres://crm@db/x").unwrap(), b"theirs");
        assert_eq!(password("postgres://crm:mine@db/x").unwrap(), b"mine");
    }
}
