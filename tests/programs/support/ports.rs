//! Ports that no connection of this machine takes by chance.

use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that Linux gives to connections and to listeners at port 0.
const PORTS: Range<u32> = 16_384..32_768;
/// Spreads test processes of close ids over the ports.
const PROCESS_STRIDE: u32 = 257;

/// Whether a listener can be bound to this address.
pub(crate) fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

/// Whether this machine supports IPv6.
pub(crate) fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// An address of 127.0.0.1 whose port is free at `[::1]`, too. No other call returns it, and it stays free until a
/// test uses it.
pub(crate) fn free_address() -> SocketAddr {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let hosts = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let hosts = &hosts[..=usize::from(has_ipv6())];
    let count = PORTS.end - PORTS.start;
    let first = process::id().wrapping_mul(PROCESS_STRIDE);
    for _ in 0..count {
        let offset = first.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % count;
        let port = u16::try_from(PORTS.start + offset).unwrap();
        if hosts.iter().all(|host| is_free(SocketAddr::new(*host, port))) {
            return SocketAddr::new(hosts[0], port);
        }
    }
    panic!("no port of {PORTS:?} is free");
}

/// As [`free_address`], a port that is free at this address of the loopback network.
pub(crate) fn free_port_at(address: &str) -> u16 {
    let address = IpAddr::from(address.parse::<Ipv4Addr>().unwrap());
    let mut ports = iter::repeat_with(|| free_address().port());
    ports.find(|port| is_free(SocketAddr::new(address, *port))).unwrap()
}
