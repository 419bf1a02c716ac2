//! Whether a request may be heard: one that means this device, and that no other site has caused. Pure.
//!
//! A page of another site can send requests here. It can make them seem its own by having its name point
//! to 127.0.0.1 (DNS rebinding): then the `Host` is a foreign one. Else browsers say that it is another
//! site, by `Origin` and `Sec-Fetch-Site`. Programs send neither, and need neither: what could be done in
//! somebody's name takes the code, which a browser never adds by itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::{Method, Uri};

static SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
static MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
static DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Why a request is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// It means another server.
    Host,
    /// Another site has caused it.
    Site,
}

/// The addresses that the page is asked for by, each with the port.
#[derive(Debug)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    /// Of a page that is served on these sockets, all of one port. `localhost` stands for the loopback addresses of
    /// both families: unless both are ours, another process may hear what is sent to it.
    pub(super) fn of(listening: &[SocketAddr]) -> Self {
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

    /// Whether a request with this head may be heard.
    pub(super) fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Stranger> {
        let Value::One(host) = value(headers, &HOST) else {
            return Err(Stranger::Host);
        };
        if uri.authority().is_some() || !self.0.iter().any(|known| known == host) {
            return Err(Stranger::Host);
        }
        let own_origin = match value(headers, &ORIGIN) {
            Value::Missing => true,
            Value::One(origin) => origin.strip_prefix("http://") == Some(host),
            Value::Odd => false,
        };
        let own_site = match value(headers, &SITE) {
            Value::Missing | Value::One("same-origin" | "none") => true,
            Value::One(_) => is_link(method, uri, headers),
            Value::Odd => false,
        };
        if own_origin && own_site { Ok(()) } else { Err(Stranger::Site) }
    }
}

/// A link to the page in another one, which leaves that: nobody but the person sees what comes of it.
fn is_link(method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    let says = |name, what| value(headers, name) == Value::One(what);
    method == Method::GET && uri.path() == "/" && says(&MODE, "navigate") && says(&DESTINATION, "document")
}

#[derive(Debug, PartialEq, Eq)]
enum Value<'a> {
    Missing,
    One(&'a str),
    /// It stands there twice, or is no text.
    Odd,
}

/// The value of a header that may stand there once.
fn value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Value<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(|value| value.to_str()), values.next()) {
        (None, _) => Value::Missing,
        (Some(Ok(text)), None) => Value::One(text),
        _ => Value::Odd,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const BOTH: &str = "127.0.0.1:7077 [::1]:7077";

    /// `addresses` are those that the page is served on, with a space between them.
    fn asked(addresses: &str, method: &Method, uri: &str, head: &[(&str, &str)]) -> Result<(), Stranger> {
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let listening: Vec<SocketAddr> =
            addresses.split(' ').map(|address| address.parse().unwrap()).collect();
        Hosts::of(&listening).admit(method, &uri.parse().unwrap(), &headers)
    }

    #[test]
    fn only_the_addresses_that_the_page_is_served_on_are_heard() {
        let host = |addresses: &str, host: &str| asked(addresses, &Method::GET, "/", &[("host", host)]);
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
            assert_eq!(host(addresses, bad), Err(Stranger::Host), "{addresses} {bad}");
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
            assert_eq!(host(BOTH, bad), Err(Stranger::Host), "{bad}");
        }
        let twice = [("host", "localhost:7077"), ("host", "localhost:7077")];
        assert_eq!(asked(BOTH, &Method::GET, "/", &twice), Err(Stranger::Host));
        assert_eq!(asked(BOTH, &Method::GET, "/", &[]), Err(Stranger::Host));
        let absolute = asked(BOTH, &Method::GET, "http://evil.example/", &twice[..1]);
        assert_eq!(absolute, Err(Stranger::Host));
    }

    #[test]
    fn what_another_site_has_caused_is_not_heard_but_for_a_link() {
        let link = &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")][..];
        let frame = &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")][..];
        let get = Method::GET;
        for (method, path, site, origin, more, heard) in [
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
            let answer = asked(BOTH, method, path, &head);
            assert_eq!(answer.is_ok(), heard, "{method} {path} {head:?}");
            for repeated in head.iter().filter(|(name, _)| ["sec-fetch-site", "origin"].contains(name)) {
                let twice = [&head[..], &[*repeated]].concat();
                assert_eq!(asked(BOTH, method, path, &twice), Err(Stranger::Site), "{twice:?}");
            }
        }
    }
}
