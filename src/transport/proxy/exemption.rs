//! Servers that are reached without the proxy from the environment: `NO_PROXY` as curl interprets it, plus
//! extensions of other programs: ports, brackets around IPv6 addresses, and `*.` before a domain.

use std::net::IpAddr;

use hyper::Uri;

use crate::transport::host::{host_without_brackets, port_or_default};

/// Both are read, so that an empty one does not hide the other.
const NO_PROXY_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Whether the environment exempts the server from its proxies.
pub(super) fn is_exempt_by_environment(server: &Uri) -> bool {
    NO_PROXY_VARIABLES.iter().filter_map(|name| std::env::var(name).ok()).any(|list| is_exempt(&list, server))
}

/// Whether a list exempts the server. Its entries are separated by commas or blanks.
fn is_exempt(list: &str, server: &Uri) -> bool {
    let host = host_without_brackets(server).trim_end_matches('.');
    let entries = list.split([',', ' ', '\t', '\r', '\n']).filter(|entry| !entry.is_empty());
    entries.into_iter().any(|entry| match host.parse::<IpAddr>() {
        _ if entry == "*" => true,
        Ok(address) => matches_address(entry, address, port_or_default(server)),
        Err(_) => matches_name(entry, host, port_or_default(server)),
    })
}

fn matches_address(entry: &str, address: IpAddr, port: u16) -> bool {
    if let Some((network, length)) = entry.split_once('/') {
        let (network, length) = (parse_address(network), length.parse::<u32>());
        return network
            .zip(length.ok())
            .is_some_and(|(network, length)| is_in_network(address, network, length));
    }
    let (entry_address, entry_port) = match parse_address(entry) {
        Some(address) => (Some(address), None),
        None => split_port(entry).map_or((None, None), |(host, port)| (parse_address(host), Some(port))),
    };
    entry_address.is_some_and(|entry| entry.to_canonical() == address.to_canonical())
        && entry_port.is_none_or(|entry| entry == port)
}

/// A name also exempts its subdomains, with or without a leading dot.
fn matches_name(entry: &str, host: &str, port: u16) -> bool {
    let (name, entry_port) = match split_port(entry) {
        Some((name, port)) => (name, Some(port)),
        None => (entry, None),
    };
    let name = name.strip_prefix('*').unwrap_or(name).trim_start_matches('.').trim_end_matches('.');
    let Some(start) = host.len().checked_sub(name.len()).filter(|_| !name.is_empty()) else { return false };
    let is_name = host.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(name));
    let is_whole = start == 0 || host.get(..start).is_some_and(|before| before.ends_with('.'));
    is_name && is_whole && entry_port.is_none_or(|entry| entry == port)
}

fn split_port(entry: &str) -> Option<(&str, u16)> {
    let (host, port) = entry.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text).parse().ok()
}

/// Whether the first `length` bits of both are equal.
fn is_in_network(address: IpAddr, network: IpAddr, length: u32) -> bool {
    let (differing, bits) = match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => ((address.to_bits() ^ network.to_bits()).into(), 32),
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits() ^ network.to_bits(), 128),
        _ => return false,
    };
    let others = u32::checked_sub(bits, length);
    others.is_some_and(|others| differing.checked_shr(others).unwrap_or(0_u128) == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn servers_are_exempt_as_with_curl_and_by_port() {
        for (list, url, exempt) in [
            // Every server.
            ("*", "https://crm.example", true),
            ("*", "https://10.1.2.3:8443", true),
            ("*", "http://[::1]", true),
            (" * ", "https://10.1.2.3", true),
            ("elsewhere, *", "https://10.1.2.3", true),
            ("", "https://crm.example", false),
            (" ,, ", "https://crm.example", false),
            // Names and their subdomains.
            ("crm.example", "https://crm.example", true),
            ("CRM.Example", "https://crm.eXAMPLE", true),
            ("example", "https://crm.example", true),
            (".example", "https://crm.example", true),
            ("*.example", "https://crm.example", true),
            (".crm.example", "https://crm.example", true),
            ("ample", "https://crm.example", false),
            ("crm.example.org", "https://crm.example", false),
            ("other.example", "https://crm.example", false),
            ("crm.example.", "https://crm.example", true),
            ("crm.example", "https://crm.example.", true),
            (".", "https://crm.example", false),
            ("é", "https://crm.example", false),
            ("localhost", "http://localhost:8080", true),
            // Lists with commas, blanks, and both.
            ("a, crm.example ,b", "https://crm.example", true),
            ("a crm.example b", "https://crm.example", true),
            ("a,\tcrm.example", "https://crm.example", true),
            // Ports.
            ("crm.example:443", "https://crm.example", true),
            ("crm.example:443", "http://crm.example", false),
            (".example:8443", "https://crm.example:8443", true),
            (".example:8443", "https://crm.example", false),
            ("crm.example:https", "https://crm.example", false),
            ("10.1.2.3:8443", "https://10.1.2.3:8443", true),
            ("10.1.2.3:443", "https://10.1.2.3", true),
            ("10.1.2.3:8443", "https://10.1.2.3", false),
            ("[::1]:8443", "https://[::1]:8443", true),
            ("[::1]:8443", "https://[::1]", false),
            // Addresses are not names.
            ("10.1.2.3", "https://10.1.2.3:8443", true),
            ("2.3", "https://10.1.2.3", false),
            ("[::1]", "https://[::1]:8443", true),
            ("::1", "https://[::1]:8443", true),
            ("0:0:0:0:0:0:0:1", "https://[::1]", true),
            ("[FE80::1]", "https://[fe80::1]", true),
            ("10.1.2.3", "http://[::ffff:10.1.2.3]", true),
            ("::2", "https://[::1]", false),
            // Networks.
            ("10.0.0.0/8", "https://10.1.2.3", true),
            ("10.1.2.99/24", "https://10.1.2.3", true),
            ("10.1.2.4/32", "https://10.1.2.3", false),
            ("0.0.0.0/0", "https://10.1.2.3", true),
            ("10.0.0.0/33", "https://10.1.2.3", false),
            ("10.0.0.0/", "https://10.1.2.3", false),
            ("fd00::/8", "https://[fd12::3]", true),
            ("[fd00::]/8", "https://[fd12::3]", true),
            ("fd00::/128", "https://[fd12::3]", false),
            ("::/0", "https://[fd12::3]", true),
            ("::/0", "https://10.1.2.3", false),
            ("10.0.0.0/8", "https://10.example", false),
        ] {
            assert_eq!(is_exempt(list, &url.parse().unwrap()), exempt, "{list:?} {url}");
        }
    }

    proptest! {
        #[test]
        fn any_list_can_be_parsed(
            list in prop_oneof![any::<String>(), r"[\[\]*.:/,a0-9 é-]{0,24}"],
            url in prop::sample::select(vec!["https://crm.example", "http://10.1.2.3:80", "https://[::1]:8443"]),
        ) {
            is_exempt(&list, &url.parse().unwrap());
        }
    }
}
