//! Addresses of the server and of its proxy: one reader, whose result is what is used.
//!
//! A host is in ASCII afterwards (punycode), a path is percent-encoded, and no slash stands at the end: so every
//! part of the program that reads the address again reads the same.

use url::{Host, Url};

use super::texts::MAX_TEXT_BYTES;

/// The base URL of a server.
pub(super) fn read_server_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !is_http(&url) {
        return Err("must be http://HOST or https://HOST".into());
    }
    if has_credential(&url) {
        return Err("must not hold a user or password: use server.token_file".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not hold a query or a fragment".into());
    }
    as_used(&url)
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
        return Err("must not hold a user or password: use server.proxy_credential_file".into());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("must not hold more than a scheme, a host and a port".into());
    }
    as_used(&url)
}

/// Whether requests to this URL leave the device, and are not encrypted.
pub(super) fn is_unencrypted(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| {
        let stays_here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
            None => true,
        };
        url.scheme() == "http" && !stays_here
    })
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

fn has_credential(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// The transport has a parser of its own for each of the two libraries that it sends by.
fn as_used(url: &Url) -> Result<String, String> {
    let text = url.as_str().trim_end_matches('/');
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!("must have at most {MAX_TEXT_BYTES} bytes in ASCII"));
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
    fn an_address_that_grows_too_long_in_ascii_is_refused() {
        let host = "ü.".repeat(1300);
        for read in [read_server_url, read_proxy_url] {
            let error = read(&format!("http://{host}")).unwrap_err();
            assert!(error.contains("4095 bytes"), "{error}");
        }
    }

    proptest! {
        /// What was read is read as itself by everything that reads it again.
        #[test]
        fn an_address_that_was_read_does_not_change_any_more(
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
