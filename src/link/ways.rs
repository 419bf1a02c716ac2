//! Whether there is a way to the server: by the kernel's own choice of route, without sending a byte.
//!
//! Connecting a datagram socket makes the kernel choose route and source address, and nothing else; the
//! interface of that address must be up and running. Where the server has only a name, asking for
//! its address would be traffic: any interface that could lead out will do, and only where there is none
//! the file of hosts is read, in case that the server is on this very device.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use super::interface;
use crate::model::{InterfaceKind, Uplink};

/// The names that this device knows by itself.
const HOSTS: &str = "/etc/hosts";
/// The discard port: no packet is ever sent to it.
const ANY_PORT: u16 = 9;

/// The host that is connected to: the server, or the proxy in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    /// None is configured.
    Nowhere,
    /// By its address.
    Address(IpAddr),
    /// By its name.
    Name(String),
}

impl Hop {
    /// By the host's name or address.
    pub fn to(host: Option<String>) -> Self {
        let Some(host) = host else { return Self::Nowhere };
        host.parse().map_or(Self::Name(host), Self::Address)
    }
}

/// What there is to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Whether there is a way.
    pub way: Uplink,
    /// What leads there, where one thing does.
    pub interface: Option<InterfaceKind>,
}

/// Looks at the ways to `hop` as they are now.
pub fn look(hop: &Hop) -> Sight {
    let interfaces = match interfaces() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(%error, "the interfaces cannot be listed: only traffic tells of the link");
            return Sight::default();
        }
    };
    let way = match hop {
        Hop::Address(address) => way_to(*address, &interfaces),
        Hop::Nowhere => any_way(&interfaces),
        Hop::Name(name) => match any_way(&interfaces) {
            Uplink::Down => way_by_name(name, &interfaces),
            open => open,
        },
    };
    Sight { interface: interface_of(&way, &interfaces), way }
}

/// None where several lead there: which of them is taken shows only on the way.
fn interface_of(way: &Uplink, interfaces: &[Interface]) -> Option<InterfaceKind> {
    let Uplink::Up(addresses) = way else { return None };
    let names: BTreeSet<&str> = interfaces
        .iter()
        .filter(|interface| addresses.contains(&interface.address))
        .map(|interface| interface.name.as_str())
        .collect();
    let [name] = names.into_iter().collect::<Vec<_>>()[..] else { return None };
    interface::kind(Path::new(interface::INTERFACES), name)
}

/// An address of an interface, and whether the interface is up and running.
struct Interface {
    name: String,
    address: IpAddr,
    runs: bool,
}

fn interfaces() -> nix::Result<Vec<Interface>> {
    // The kernel announces at most once a second that an interface runs; its carrier shows at once.
    let runs = InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_LOWER_UP;
    let found = getifaddrs()?.filter_map(|interface| {
        let address = ip_of(&interface.address?)?;
        let is_up = interface.flags.contains(InterfaceFlags::IFF_UP);
        Some(Interface {
            name: interface.interface_name,
            address,
            runs: is_up && interface.flags.intersects(runs),
        })
    });
    Ok(found.collect())
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn any_way(interfaces: &[Interface]) -> Uplink {
    let leading_out = interfaces.iter().filter(|interface| interface.runs && leads_out(interface.address));
    let addresses: BTreeSet<IpAddr> = leading_out.map(|interface| interface.address).collect();
    if addresses.is_empty() { Uplink::Down } else { Uplink::Up(addresses) }
}

fn leads_out(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_link_local() || v4.is_unspecified()),
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified()),
    }
}

fn way_to(address: IpAddr, interfaces: &[Interface]) -> Uplink {
    let Some(source) = source_towards(address) else { return Uplink::Down };
    let stands_still = |interface: &Interface| interface.address == source && !interface.runs;
    if interfaces.iter().any(stands_still) { Uplink::Down } else { Uplink::Up(BTreeSet::from([source])) }
}

fn source_towards(address: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(address, ANY_PORT)).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

/// By hosts(5), which knows the names of this device.
fn way_by_name(name: &str, interfaces: &[Interface]) -> Uplink {
    let hosts = fs::read_to_string(HOSTS).unwrap_or_default();
    let mut ways = addresses_in(&hosts, name).map(|address| way_to(address, interfaces));
    ways.find(|way| *way != Uplink::Down).unwrap_or(Uplink::Down)
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
    fn the_hop_is_the_server_or_the_proxy_in_front_of_it() {
        let hop = |url: &str, proxy: &str| {
            let (url, proxy) = (url.to_owned(), proxy.to_owned());
            Hop::to(first_hop_host(&config::Server { url, proxy, ..config::Server::default() }))
        };
        assert_eq!(hop("", "none"), Hop::Nowhere);
        assert_eq!(hop("https://crm.example.com/base", "none"), Hop::Name("crm.example.com".into()));
        assert_eq!(hop("http://127.0.0.1:8080", "none"), Hop::Address(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(hop("http://[::1]:8080", "none"), Hop::Address(Ipv6Addr::LOCALHOST.into()));
        let proxied = hop("https://crm.example.com", "http://10.0.0.1:3128");
        assert_eq!(proxied, Hop::Address(Ipv4Addr::new(10, 0, 0, 1).into()));
    }

    #[test]
    fn a_server_on_this_device_is_always_on_the_way() {
        let here = Uplink::Up(BTreeSet::from([Ipv4Addr::LOCALHOST.into()]));
        let seen = look(&Hop::Address(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(seen, Sight { way: here, interface: Some(InterfaceKind::Loopback) });
        let hosts = "# ours\n127.0.0.1 localhost crm.test # not this\n\n::1 Localhost\nnonsense crm.test\n";
        let known = |name| addresses_in(hosts, name).collect::<Vec<_>>();
        assert_eq!(known("localhost"), [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]);
        assert_eq!(known("crm.test"), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
        assert!(known("this").is_empty());
    }

    #[test]
    fn only_interfaces_that_run_and_lead_out_are_ways() {
        let interface = |address: &str, runs| {
            let name = address.split('.').next().unwrap().to_owned();
            Interface { name, address: address.parse().unwrap(), runs }
        };
        let none = [
            interface("127.0.0.1", true),
            interface("::1", true),
            interface("fe80::1", true),
            interface("169.254.7.7", true),
            interface("192.168.1.7", false),
        ];
        assert_eq!(any_way(&none), Uplink::Down);
        let one =
            [interface("127.0.0.1", true), interface("192.168.1.7", true), interface("10.0.0.1", false)];
        assert_eq!(any_way(&one), Uplink::Up(BTreeSet::from(["192.168.1.7".parse().unwrap()])));
        let source = source_towards(Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_eq!(way_to(source, &[interface(&source.to_string(), false)]), Uplink::Down);
    }
}
