//! Parses the addresses of the server and of its proxy. Only the result is used.
//!
//! In the result, the host is in ASCII (punycode), the path is percent-encoded, and the last character is not a slash.
//! So all parts of the program that parse it again get the same result.

use url::{Host, ParseError, Url};

use super::texts::TEXT_BYTES_MAX;

/// The base URL of a server.
pub(super) fn read_server_url(text: &str) -> Result<String, String> {
    read_base_url(text, "server.token_file")
}

/// The base URL of an OTLP collector.
pub(super) fn read_collector_url(text: &str) -> Result<String, String> {
    read_base_url(text, "telemetry.otlp_headers_file")
}

fn read_base_url(text: &str, credential_key: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| match error {
        ParseError::RelativeUrlWithoutBase => "must begin with https:// or http://".to_owned(),
        error => format!("is not a URL: {error}"),
    })?;
    if !is_http(&url) {
        return Err("must be http://HOST or https://HOST".into());
    }
    if has_credential(&url) {
        return Err(format!("must not contain a user or password: use {credential_key}"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not contain a query or a fragment".into());
    }
    normalize(&url)
}

/// The URL of a proxy.
pub(super) fn read_proxy_url(text: &str) -> Result<String, String> {
    let url =
        Url::parse(text).map_err(|_| "must be auto, none, or a URL such as http://HOST:PORT".to_owned())?;
    if !is_http(&url) {
        return Err(
            "must be http://HOST:PORT or https://HOST:PORT: other kinds of proxies cannot be used".into()
        );
    }
    if has_credential(&url) {
        return Err("must not contain a user or password: use server.proxy_credential_file".into());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("must not contain more than a scheme, a host and a port".into());
    }
    normalize(&url)
}

/// Whether requests to this URL leave the device unencrypted.
pub(super) fn is_unencrypted(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() == "http" && !is_host_local(&url))
}

/// Whether the host of this URL is this device.
pub(super) fn is_local(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| is_host_local(&url))
}

fn is_host_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => true,
    }
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

fn has_credential(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Also checks the URL with the parsers of both HTTP libraries of the transport.
fn normalize(url: &Url) -> Result<String, String> {
    let text = url.as_str().trim_end_matches('/');
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("must have at most {TEXT_BYTES_MAX} bytes in ASCII"));
    }
    text.parse::<http::Uri>().map_err(|error| format!("cannot be used: {error}"))?;
    text.parse::<http02::Uri>().map_err(|error| format!("cannot be used: {error}"))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_that_is_too_long_in_ascii_is_refused() {
        let host = "ü.".repeat(1300);
        for read in [read_server_url, read_proxy_url] {
            let error = read(&format!("http://{host}")).unwrap_err();
            assert!(error.contains("4095 bytes"), "{error}");
        }
    }

    proptest! {
        /// Parsing the result again gives the same result.
        #[test]
        fn a_parsed_address_does_not_change_when_it_is_parsed_again(
            text in "[hH]ttps?:[/\\\\]{1,3}[a-zA-Zäß\u{1F600}%0-9._:@\\[\\] \r\t-]{0,12}(:[0-9]{0,6})?[/a-z%ä ?#|^{}\\\\]{0,8}",
        ) {
            if let Ok(read) = read_server_url(&text) {
                prop_assert!(read.is_ascii() && !read.ends_with('/'));
                prop_assert_eq!(read_server_url(&read), Ok(read.clone()));
                let (url, uri) = (Url::parse(&read).unwrap(), read.parse::<http::Uri>().unwrap());
                prop_assert_eq!(url.host_str(), uri.host());
                prop_assert_eq!(url.port(), uri.port_u16());
            }
            if let Ok(read) = read_proxy_url(&text) {
                prop_assert_eq!(read_proxy_url(&read), Ok(read.clone()));
            }
        }
    }
}
