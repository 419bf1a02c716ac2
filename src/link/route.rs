//! Whether there is a route to the server: by the kernel's own choice of route, without sending a byte.
//!
//! Connecting a datagram socket makes the kernel choose route and source address, and nothing else. The interface of
//! that address must be up and running. If only the server's name is known, resolving it would be traffic: then any
//! running interface with an external address counts. If there is none, `/etc/hosts` shows whether the server is on this
//! device.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use super::interface::{INTERFACES_DIR, interface_kind};
use crate::model::{InterfaceKind, Uplink};

/// The host names that this device knows without DNS.
const HOSTS_FILE: &str = "/etc/hosts";
/// The discard port: no packet is ever sent to it.
const DISCARD_PORT: u16 = 9;

/// The host to connect to: the server, or the proxy in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstHop {
    /// No server is configured.
    None,
    /// By its address.
    Address(IpAddr),
    /// By its name.
    Name(String),
}

impl FirstHop {
    /// From a host name or address.
    pub fn from_host(host: Option<String>) -> Self {
        let Some(host) = host else { return Self::None };
        host.parse().map_or(Self::Name(host), Self::Address)
    }
}

/// The state of the routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteStatus {
    /// Whether there is a route.
    pub uplink: Uplink,
    /// The kind of the interface, if only one leads there.
    pub interface: Option<InterfaceKind>,
}

/// The present routes to `hop`.
pub fn find_route(hop: &FirstHop) -> RouteStatus {
    let interfaces = match list_interfaces() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(%error, "the network interfaces cannot be listed: only traffic shows whether the server can be reached");
            return RouteStatus::default();
        }
    };
    let uplink = match hop {
        FirstHop::Address(address) => uplink_to_address(*address, &interfaces),
        // Without a server, it cannot be said to be out of reach.
        FirstHop::None => Uplink::Unknown,
        FirstHop::Name(name) => match any_uplink(&interfaces) {
            Uplink::Down => uplink_by_hosts_file(name, &interfaces),
            open => open,
        },
    };
    RouteStatus { interface: interface_of(&uplink, &interfaces), uplink }
}

/// `None` if several lead there: which of them is used shows only in traffic.
fn interface_of(uplink: &Uplink, interfaces: &[InterfaceAddress]) -> Option<InterfaceKind> {
    let Uplink::Up(addresses) = uplink else { return None };
    let names: BTreeSet<&str> = interfaces
        .iter()
        .filter(|interface| addresses.contains(&interface.address))
        .map(|interface| interface.name.as_str())
        .collect();
    let [name] = names.into_iter().collect::<Vec<_>>()[..] else { return None };
    interface_kind(Path::new(INTERFACES_DIR), name)
}

/// An address of an interface, and whether the interface is up and running.
struct InterfaceAddress {
    name: String,
    address: IpAddr,
    is_running: bool,
}

fn list_interfaces() -> nix::Result<Vec<InterfaceAddress>> {
    // The kernel updates IFF_RUNNING at most once a second, and the carrier at once.
    let running_flags = InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_LOWER_UP;
    let found = getifaddrs()?.filter_map(|interface| {
        let address = ip_of(&interface.address?)?;
        let is_up = interface.flags.contains(InterfaceFlags::IFF_UP);
        Some(InterfaceAddress {
            name: interface.interface_name,
            address,
            is_running: is_up && interface.flags.intersects(running_flags),
        })
    });
    Ok(found.collect())
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn any_uplink(interfaces: &[InterfaceAddress]) -> Uplink {
    let external =
        interfaces.iter().filter(|interface| interface.is_running && is_external(interface.address));
    let addresses: BTreeSet<IpAddr> = external.map(|interface| interface.address).collect();
    if addresses.is_empty() { Uplink::Down } else { Uplink::Up(addresses) }
}

fn is_external(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_link_local() || v4.is_unspecified()),
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified()),
    }
}

fn uplink_to_address(address: IpAddr, interfaces: &[InterfaceAddress]) -> Uplink {
    let Some(source) = source_address_to(address) else { return Uplink::Down };
    let is_down = |interface: &InterfaceAddress| interface.address == source && !interface.is_running;
    if interfaces.iter().any(is_down) { Uplink::Down } else { Uplink::Up(BTreeSet::from([source])) }
}

fn source_address_to(address: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(address, DISCARD_PORT)).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

/// From hosts(5), which has the names of this device.
fn uplink_by_hosts_file(name: &str, interfaces: &[InterfaceAddress]) -> Uplink {
    let hosts = fs::read_to_string(HOSTS_FILE).unwrap_or_default();
    let mut uplinks = addresses_in(&hosts, name).map(|address| uplink_to_address(address, interfaces));
    uplinks.find(|uplink| *uplink != Uplink::Down).unwrap_or(Uplink::Down)
}

fn addresses_in<'a>(hosts: &'a str, name: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
    hosts.lines().filter_map(move |line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|alias| alias.eq_ignore_ascii_case(name)).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::transport::proxy::first_hop_host;

    #[test]
    fn the_first_hop_is_the_server_or_the_proxy_in_front_of_it() {
        let hop = |url: &str, proxy: &str| {
            let (url, proxy) = (url.to_owned(), proxy.to_owned());
            FirstHop::from_host(first_hop_host(&config::Server { url, proxy, ..config::Server::default() }))
        };
        assert_eq!(hop("", "none"), FirstHop::None);
        assert_eq!(find_route(&FirstHop::None), RouteStatus::default(), "no server is out of reach");
        assert_eq!(hop("https://crm.example.com/base", "none"), FirstHop::Name("crm.example.com".into()));
        assert_eq!(hop("http://127.0.0.1:8080", "none"), FirstHop::Address(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(hop("http://[::1]:8080", "none"), FirstHop::Address(Ipv6Addr::LOCALHOST.into()));
        let proxied = hop("https://crm.example.com", "http://10.0.0.1:3128");
        assert_eq!(proxied, FirstHop::Address(Ipv4Addr::new(10, 0, 0, 1).into()));
    }

    #[test]
    fn a_server_on_this_device_can_always_be_reached() {
        let here = Uplink::Up(BTreeSet::from([Ipv4Addr::LOCALHOST.into()]));
        let route = find_route(&FirstHop::Address(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(route, RouteStatus { uplink: here, interface: Some(InterfaceKind::Loopback) });
        let hosts = "# ours\n127.0.0.1 localhost crm.test # not this\n\n::1 Localhost\nnonsense crm.test\n";
        let known = |name| addresses_in(hosts, name).collect::<Vec<_>>();
        assert_eq!(known("localhost"), [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]);
        assert_eq!(known("crm.test"), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
        assert!(known("this").is_empty());
    }

    #[test]
    fn only_running_interfaces_with_external_addresses_are_uplinks() {
        let interface = |address: &str, is_running| {
            let name = address.split('.').next().unwrap().to_owned();
            InterfaceAddress { name, address: address.parse().unwrap(), is_running }
        };
        let none = [
            interface("127.0.0.1", true),
            interface("::1", true),
            interface("fe80::1", true),
            interface("169.254.7.7", true),
            interface("192.168.1.7", false),
        ];
        assert_eq!(any_uplink(&none), Uplink::Down);
        let one =
            [interface("127.0.0.1", true), interface("192.168.1.7", true), interface("10.0.0.1", false)];
        assert_eq!(any_uplink(&one), Uplink::Up(BTreeSet::from(["192.168.1.7".parse().unwrap()])));
        let source = source_address_to(Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_eq!(uplink_to_address(source, &[interface(&source.to_string(), false)]), Uplink::Down);
    }
}
