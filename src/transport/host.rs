//! Host and port of an address, in the forms that connections and headers need.

use hyper::Uri;

/// `host:port`, with the port even if it is the default of the scheme.
pub(super) fn host_and_port(uri: &Uri) -> String {
    format!("{}:{}", uri.host().unwrap_or_default(), port_or_default(uri))
}

/// The value of `Host` (RFC 9110 §7.2), without a port that is the default of the scheme.
pub(super) fn host_header(uri: &Uri) -> String {
    let is_default = uri.port_u16().is_none_or(|port| port == scheme_port(uri));
    if is_default { uri.host().unwrap_or_default().to_owned() } else { host_and_port(uri) }
}

/// The host as resolvers and TLS expect it: an IPv6 address without its brackets.
pub(super) fn host_without_brackets(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

/// The port to connect to.
pub(super) fn port_or_default(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(scheme_port(uri))
}

fn scheme_port(uri: &Uri) -> u16 {
    if uri.scheme_str() == Some("https") { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_port_unless_it_is_the_default() {
        for (url, expected) in [
            ("http://crm.example", "crm.example"),
            ("http://crm.example:80", "crm.example"),
            ("http://crm.example:443", "crm.example:443"),
            ("https://crm.example:443/base", "crm.example"),
            ("https://crm.example:80", "crm.example:80"),
            ("https://10.1.2.3:8443", "10.1.2.3:8443"),
            ("https://[fe80::1]", "[fe80::1]"),
            ("https://[fe80::1]:8443", "[fe80::1]:8443"),
        ] {
            assert_eq!(host_header(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
