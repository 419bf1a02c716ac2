//! Decides whether a request means this device and comes from the page itself. Pure.
//!
//! Web sites can send requests to this device. With DNS rebinding, where the name of the site resolves to 127.0.0.1, browsers
//! treat them as requests of the same origin, but then the `Host` is the name of the site. Without it, browsers name another
//! origin in `Origin` and `Sec-Fetch-Site`. Programs send neither and need neither: what needs authority takes the access
//! code, which a browser never adds by itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::{Method, Uri};

static FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
static FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
static FETCH_DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForeignRequest {
    /// It is meant for another server.
    WrongHost,
    /// It comes from another web site.
    OtherSite,
}

/// The values of `Host` that mean the page.
#[derive(Debug)]
pub(super) struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    /// For a page that is served on these sockets, all of one port. `localhost` means the loopback addresses of both
    /// families. If only one of them is ours, another process may receive what is sent to the other.
    pub(super) fn new(listening: &[SocketAddr]) -> Self {
        let mut hosts: Vec<String> = listening.iter().map(SocketAddr::to_string).collect();
        let is_ours = |ip: IpAddr| listening.iter().any(|address| address.ip() == ip);
        if is_ours(Ipv4Addr::LOCALHOST.into()) && is_ours(Ipv6Addr::LOCALHOST.into()) {
            hosts.extend(listening.first().map(|address| format!("localhost:{}", address.port())));
        }
        let without_port: Vec<String> =
            hosts.iter().filter_map(|host| Some(host.strip_suffix(":80")?.to_owned())).collect();
        hosts.extend(without_port);
        Self(hosts)
    }

    pub(super) fn check_origin(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), ForeignRequest> {
        let HeaderText::One(host) = header_text(headers, &HOST) else {
            return Err(ForeignRequest::WrongHost);
        };
        if uri.authority().is_some() || !self.0.iter().any(|known| known == host) {
            return Err(ForeignRequest::WrongHost);
        }
        let is_own_origin = match header_text(headers, &ORIGIN) {
            HeaderText::Missing => true,
            HeaderText::One(origin) => origin.strip_prefix("http://") == Some(host),
            HeaderText::Invalid => false,
        };
        let is_own_site = match header_text(headers, &FETCH_SITE) {
            HeaderText::Missing | HeaderText::One("same-origin" | "none") => true,
            HeaderText::One(_) => is_link(method, uri, headers),
            HeaderText::Invalid => false,
        };
        if is_own_origin && is_own_site { Ok(()) } else { Err(ForeignRequest::OtherSite) }
    }
}

/// Whether a link on another site opens the page. That site cannot see the page.
fn is_link(method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    let has = |name, text| header_text(headers, name) == HeaderText::One(text);
    method == Method::GET
        && uri.path() == "/"
        && has(&FETCH_MODE, "navigate")
        && has(&FETCH_DESTINATION, "document")
}

#[derive(Debug, PartialEq, Eq)]
enum HeaderText<'a> {
    Missing,
    One(&'a str),
    /// The header is repeated, or is not text.
    Invalid,
}

fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> HeaderText<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(|value| value.to_str()), values.next()) {
        (None, _) => HeaderText::Missing,
        (Some(Ok(text)), None) => HeaderText::One(text),
        _ => HeaderText::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const BOTH: &str = "127.0.0.1:7077 [::1]:7077";

    /// `addresses` are those that the page is served on, separated by spaces.
    fn check_request(
        addresses: &str,
        method: &Method,
        uri: &str,
        head: &[(&str, &str)],
    ) -> Result<(), ForeignRequest> {
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let listening: Vec<SocketAddr> =
            addresses.split(' ').map(|address| address.parse().unwrap()).collect();
        AllowedHosts::new(&listening).check_origin(method, &uri.parse().unwrap(), &headers)
    }

    #[test]
    fn only_the_addresses_that_the_page_is_served_on_are_accepted_as_host() {
        let host =
            |addresses: &str, host: &str| check_request(addresses, &Method::GET, "/", &[("host", host)]);
        for good in ["127.0.0.1:7077", "localhost:7077", "[::1]:7077"] {
            assert_eq!(host(BOTH, good), Ok(()), "{good}");
        }
        for (addresses, good) in [
            ("127.0.0.1:7077", "127.0.0.1:7077"),
            ("[::1]:7077", "[::1]:7077"),
            ("127.0.0.2:7077", "127.0.0.2:7077"),
            ("127.0.0.1:80 [::1]:80", "localhost"),
            ("127.0.0.1:80", "127.0.0.1"),
        ] {
            assert_eq!(host(addresses, good), Ok(()), "{addresses} {good}");
        }
        for (addresses, bad) in [
            ("127.0.0.1:7077", "localhost:7077"),
            ("127.0.0.1:7077", "[::1]:7077"),
            ("[::1]:7077", "localhost:7077"),
            ("127.0.0.2:7077", "localhost:7077"),
            ("127.0.0.2:7077", "127.0.0.1:7077"),
        ] {
            assert_eq!(host(addresses, bad), Err(ForeignRequest::WrongHost), "{addresses} {bad}");
        }
        for bad in [
            "",
            "localhost",
            "localhost:70770",
            "localhost.:7077",
            "evil.example:7077",
            "localhost:7077.evil.example",
            "127.0.0.1:7077, evil.example",
            "user@localhost:7077",
            "0.0.0.0:7077",
            "2130706433:7077",
            "192.168.0.7:7077",
        ] {
            assert_eq!(host(BOTH, bad), Err(ForeignRequest::WrongHost), "{bad}");
        }
        let twice = [("host", "localhost:7077"), ("host", "localhost:7077")];
        assert_eq!(check_request(BOTH, &Method::GET, "/", &twice), Err(ForeignRequest::WrongHost));
        assert_eq!(check_request(BOTH, &Method::GET, "/", &[]), Err(ForeignRequest::WrongHost));
        let absolute = check_request(BOTH, &Method::GET, "http://evil.example/", &twice[..1]);
        assert_eq!(absolute, Err(ForeignRequest::WrongHost));
    }

    #[test]
    fn requests_of_other_sites_are_rejected_except_for_links() {
        let link = &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")][..];
        let frame = &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")][..];
        let get = Method::GET;
        for (method, path, site, origin, more, is_accepted) in [
            (&get, "/", None, None, &[][..], true),
            (&get, "/", Some("none"), None, link, true),
            (&get, "/", Some("cross-site"), None, link, true),
            (&get, "/", Some("cross-site"), None, frame, false),
            (&get, "/", Some("cross-site"), None, &[], false),
            (&Method::POST, "/", Some("cross-site"), None, link, false),
            (&get, "/v1/status", Some("same-origin"), None, &[], true),
            (&get, "/v1/status", Some("cross-site"), None, link, false),
            (&get, "/v1/status", Some("same-site"), None, &[], false),
            (&get, "/v1/status", Some("something new"), None, &[], false),
            (&get, "/v1/status", None, Some("http://localhost:7077"), &[], true),
            (&get, "/v1/status", None, Some("http://127.0.0.1:7077"), &[], false),
            (&get, "/v1/status", None, Some("https://localhost:7077"), &[], false),
            (&get, "/v1/status", None, Some("http://localhost:3000"), &[], false),
            (&get, "/v1/status", None, Some("http://evil.example"), &[], false),
            (&get, "/v1/status", Some("same-origin"), Some("null"), &[], false),
        ] {
            let mut head = vec![("host", "localhost:7077")];
            head.extend(site.map(|site| ("sec-fetch-site", site)));
            head.extend(origin.map(|origin| ("origin", origin)));
            head.extend(more);
            let result = check_request(BOTH, method, path, &head);
            assert_eq!(result.is_ok(), is_accepted, "{method} {path} {head:?}");
            for repeated in head.iter().filter(|(name, _)| ["sec-fetch-site", "origin"].contains(name)) {
                let twice = [&head[..], &[*repeated]].concat();
                assert_eq!(
                    check_request(BOTH, method, path, &twice),
                    Err(ForeignRequest::OtherSite),
                    "{twice:?}"
                );
            }
        }
    }
}
