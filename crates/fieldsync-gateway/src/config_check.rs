//! Values that are not allowed, and values to warn of.

use std::net::IpAddr;

use hyper::Uri;
use toml::ser;

use super::destination::HttpMapping;
use super::destination_config::DestinationKind;
use super::gateway_config::GatewayConfig;
use super::http_client::parse_http_url;
use super::ledger_postgres::DatabaseAddress;

const MASK: &str = "***";

/// Keys with values that are not allowed, and the reasons.
pub(super) fn find_invalid_values(config: &GatewayConfig) -> Vec<(&'static str, &'static str)> {
    let (gateway, forward) = (&config.gateway, &config.forward);
    let is_tls_complete = gateway.tls_cert_file.is_some() && gateway.tls_key_file.is_some();
    let share = config.faults.fail_rate.unwrap_or_default();
    let rules = [
        (
            gateway.store.trim().is_empty(),
            "gateway.store",
            "is required: the path of the ledger, or the URL of a PostgreSQL database",
        ),
        (
            gateway.tls_cert_file.is_some() && gateway.tls_key_file.is_none(),
            "gateway.tls_key_file",
            "is required with a certificate",
        ),
        (
            gateway.tls_key_file.is_some() && gateway.tls_cert_file.is_none(),
            "gateway.tls_cert_file",
            "is required with a key",
        ),
        (
            gateway.client_ca_file.is_some() && !is_tls_complete,
            "gateway.client_ca_file",
            "needs TLS: set `tls_cert_file` and `tls_key_file`, too",
        ),
        (
            gateway.keep_records.0 < gateway.keep_answers.0,
            "gateway.keep_records",
            "must be at least `keep_answers`: the records of a batch are known for as long as its response",
        ),
        (gateway.max_body_bytes.0 == 0, "gateway.max_body_bytes", "must not be zero"),
        (
            forward.token_file.is_some() && forward.url.is_none(),
            "forward.token_file",
            "needs the address to forward records to: set `forward.url`, too",
        ),
        (
            forward.secret_file.is_some() && forward.url.is_none(),
            "forward.secret_file",
            "needs the address to forward records to: set `forward.url`, too",
        ),
        (
            forward.url.as_deref().is_some_and(|url| parse_http_url(url).is_none()),
            "forward.url",
            "must be an http or https URL without user and password: a token goes into `token_file`",
        ),
        (!(0.0..=1.0).contains(&share), "faults.fail_rate", "must lie between 0.0 and 1.0"),
        (
            config.faults.time_limit.is_some_and(|limit| limit.is_zero()),
            "faults.time_limit",
            "must not be zero",
        ),
    ];
    rules.into_iter().filter_map(|(is_broken, key, reason)| is_broken.then_some((key, reason))).collect()
}

/// Warnings of addresses to which secrets and records would be sent unencrypted.
pub(super) fn warn_of_clear_text(config: &GatewayConfig, mapping: Option<&HttpMapping>) -> Vec<String> {
    let kind = config.destination.kind;
    let (token_key, call_key) = match kind {
        DestinationKind::Zoho => ("destination.zoho.accounts_url", "destination.zoho.api_domain"),
        DestinationKind::Salesforce => {
            ("destination.salesforce.login_url", "destination.salesforce.login_url")
        }
        DestinationKind::Http | DestinationKind::None => {
            ("`auth.token_url` in destination.mapping_file", "`api` or `url` in destination.mapping_file")
        }
    };
    let called = mapping.into_iter().flat_map(|mapping| {
        [
            (call_key, mapping.api.as_deref()),
            (call_key, Some(mapping.url.as_str())),
            (token_key, mapping.auth.token_url.as_deref()),
        ]
    });
    let mut warnings: Vec<String> = [("forward.url", config.forward.url.as_deref())]
        .into_iter()
        .chain(called)
        .filter(|(_, url)| url.is_some_and(is_clear_text))
        .map(|(key, _)| {
            format!(
                "{key} begins with http://: secrets and records are sent unencrypted, and everyone on the way can \
                 read them. Use https://"
            )
        })
        .collect();
    warnings.dedup();
    warnings
}

/// Whether this is an http URL of another host.
fn is_clear_text(url: &str) -> bool {
    let Some(uri) = parse_http_url(url).filter(|uri: &Uri| uri.scheme_str() == Some("http")) else {
        return false;
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    let is_loopback = match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    };
    !is_loopback
}

/// The effective configuration as TOML, with secrets masked.
pub(super) fn show_config(config: &GatewayConfig) -> Result<String, ser::Error> {
    let mut shown = config.clone();
    shown.gateway.store = mask_store(&shown.gateway.store);
    shown.forward.url = shown.forward.url.map(|url| mask_url(&url, 1));
    if let Some(zoho) = &mut shown.destination.zoho {
        zoho.accounts_url = mask_url(&zoho.accounts_url, usize::MAX);
        zoho.api_domain = zoho.api_domain.take().map(|url| mask_url(&url, usize::MAX));
    }
    if let Some(salesforce) = &mut shown.destination.salesforce {
        salesforce.login_url = mask_url(&salesforce.login_url, usize::MAX);
    }
    toml::to_string(&shown)
}

/// Hides user and password, query and fragment, and what comes after so many segments of the path: those of a webhook
/// are often its secret.
fn mask_url(url: &str, segments_shown: usize) -> String {
    let (address, end) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    let Some((scheme, rest)) = address.split_once("://") else { return MASK.into() };
    let mut segments = rest.split('/');
    let authority = segments.next().unwrap_or_default();
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{MASK}@{host}"),
        None => authority.to_owned(),
    };
    let path = segments.enumerate().map(|(index, segment)| match segment {
        "" => "",
        segment if index < segments_shown => segment,
        _ => MASK,
    });
    let shown: Vec<&str> = std::iter::once(authority.as_str()).chain(path).collect();
    let end = end.chars().next().map_or_else(String::new, |mark| format!("{mark}{MASK}"));
    format!("{scheme}://{}{end}", shown.join("/"))
}

/// Hides the password of a database URL, which is in front of the first `@`, or a parameter.
fn mask_store(store: &str) -> String {
    if !DatabaseAddress::is_database_url(store) {
        return store.to_owned();
    }
    let (scheme, rest) = store.split_once("://").unwrap_or_default();
    let (credentials, place) = rest.split_at(rest.find('@').map_or(0, |at| at + 1));
    let credentials = match credentials.split_once(':') {
        Some((user, _)) => format!("{user}:{MASK}@"),
        None => credentials.to_owned(),
    };
    let (place, query) = place.split_once('?').map_or((place, None), |(place, query)| (place, Some(query)));
    let query = query.map(|query| {
        let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if !name.starts_with("ssl") && name != "host" => format!("{name}={MASK}"),
            _ => parameter.to_owned(),
        });
        parameters.collect::<Vec<_>>().join("&")
    });
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    format!("{scheme}://{credentials}{place}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_shown_without_its_password() {
        for (store, shown) in [
            ("/var/lib/ledger.redb", "/var/lib/ledger.redb"),
            ("postgres://gate@db/fieldsync", "postgres://gate@db/fieldsync"),
            ("postgres://gate:s3cret@db/fieldsync", "postgres://gate:***@db/fieldsync"),
            ("POSTGRES://gate:s3:cret@db/f?sslmode=require", "POSTGRES://gate:***@db/f?sslmode=require"),
            ("postgres://db/f?password=s3cret&host=/run/pg", "postgres://db/f?password=***&host=/run/pg"),
        ] {
            assert_eq!(mask_store(store), shown);
        }
    }

    #[test]
    fn a_webhook_is_shown_without_what_may_be_its_secret() {
        for (url, shown) in [
            ("https://hooks.example", "https://hooks.example"),
            ("https://hooks.example:8443/in/", "https://hooks.example:8443/in/"),
            ("https://hooks.example/services/T0/B0/s3cret", "https://hooks.example/services/***/***/***"),
            ("https://hooks.example/in?code=s3cret#x", "https://hooks.example/in?***"),
            ("https://hooks.example/in#s3cret", "https://hooks.example/in#***"),
            ("https://me:s3cret@hooks.example/in", "https://***@hooks.example/in"),
        ] {
            assert_eq!(mask_url(url, 1), shown);
        }
        assert_eq!(mask_url("https://crm.example/a/b?s3cret", usize::MAX), "https://crm.example/a/b?***");
    }

    #[test]
    fn only_http_to_another_host_is_clear_text() {
        for url in [
            "http://crm.example/x",
            "http://10.0.0.1",
            "http://[2001:db8::1]:80/",
            "HTTP://LOCALHOST.example",
        ] {
            assert!(is_clear_text(url), "{url}");
        }
        for url in [
            "https://crm.example/x",
            "http://localhost:80/",
            "http://a.localhost",
            "http://127.1.2.3",
            "http://[::1]:1/",
            "{api}/crm",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(!is_clear_text(url), "{url}");
        }
    }
}
