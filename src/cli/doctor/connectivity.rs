//! Whether a way leads to the server: links, names, proxies, and what the daemon thinks of them.

use std::io;
use std::time::Duration;

use hyper::Uri;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::finding::Finding;
use super::server::Tried;
use crate::api::{Phase, Status};
use crate::cli::words::when;
use crate::clock::wall_ms;
use crate::config;
use crate::link::ways::{self, Hop, Sight};
use crate::model::{LinkState, Uplink};
use crate::transport::http::TransportError;
use crate::transport::proxy::first_hop_host;

/// What a resolver gives up after by default.
const NAME_WITHIN: Duration = Duration::from_secs(10);
/// A name is looked up for some port.
const ANY_PORT: u16 = 0;

pub(super) async fn check(server: &config::Server, tried: &Tried, status: Option<&Status>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if server.url.is_empty() {
        findings.push(Finding::unchecked("no server is configured", "set server.url"));
    } else if let Tried::Unusable(TransportError::Proxy(error)) = tried {
        findings.push(Finding::problem(
            format!("the proxy cannot be used: {error}"),
            "mend server.proxy, or the variables HTTPS_PROXY and HTTP_PROXY of the service",
        ));
    } else if let Some(host) = first_hop_host(server) {
        let by_proxy = is_proxy(server, &host);
        let hop = Hop::to(Some(host.clone()));
        findings.push(way(&host, by_proxy, &ways::look(&hop)));
        if matches!(hop, Hop::Name(_)) {
            findings.extend(name(&host, &resolve(&host).await));
        }
    }
    findings.extend(status.map(daemon).into_iter().flatten());
    findings
}

fn is_proxy(server: &config::Server, first_hop: &str) -> bool {
    let url = server.url.parse::<Uri>().ok();
    url.as_ref().and_then(Uri::host).is_some_and(|host| host.trim_matches(['[', ']']) != first_hop)
}

/// How many addresses a name has.
async fn resolve(host: &str) -> io::Result<usize> {
    match timeout(NAME_WITHIN, lookup_host((host, ANY_PORT))).await {
        Ok(found) => Ok(found?.count()),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {NAME_WITHIN:?}"))),
    }
}

fn way(host: &str, by_proxy: bool, sight: &Sight) -> Finding {
    let to = if by_proxy { format!("the proxy {host}") } else { host.to_owned() };
    match &sight.way {
        Uplink::Down => Finding::problem(
            format!("nothing leads to {to}: no interface that runs has an address that gets there"),
            "join a network; ip address and ip route show what there is",
        ),
        Uplink::Up(_) | Uplink::Unknown => Finding::ok(match sight.interface {
            Some(kind) => format!("the way to {to} is open ({})", kind.name()),
            None => format!("the way to {to} is open"),
        }),
    }
}

fn name(host: &str, found: &io::Result<usize>) -> Option<Finding> {
    let why = match found {
        Ok(0) => "it has no address".to_owned(),
        Ok(_) => return None,
        Err(error) => error.to_string(),
    };
    Some(Finding::problem(
        format!("the name {host} does not lead to an address: {why}"),
        format!(
            "check server.url and server.proxy for a mistake; else the name servers: getent hosts {host}; cat /etc/resolv.conf"
        ),
    ))
}

/// What the daemon thinks.
fn daemon(status: &Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    match status.connectivity.state.known() {
        Some(LinkState::Offline) => findings.push(Finding::warning(
            format!(
                "the daemon takes the device for offline, since {}",
                when(status.connectivity.since, wall_ms())
            ),
            "see what is found of the way and the server; once both are well: fieldsync sync",
        )),
        Some(LinkState::CaptivePortal) => findings.push(Finding::problem(
            "the daemon met a captive portal: somebody else answers in the server's place",
            "open any page in a browser and log in to the network, then: fieldsync sync",
        )),
        _ => {}
    }
    if let Some(retry_at) = status.breaker.retry_at {
        findings.push(Finding::warning(
            format!(
                "the daemon spares the server after {} failures in a row, and tries again {}",
                status.breaker.consecutive_failures,
                when(retry_at, wall_ms())
            ),
            "see what is found of the server; fieldsync batches shows what failed",
        ));
    }
    if status.sync.phase == Phase::Deferred {
        findings.push(Finding::warning(
            "the daemon waits for a network that is not metered, or for a charger, as it is configured",
            "fieldsync sync sends once all the same; connectivity.metered and connectivity.min_battery_percent decide",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Outcome;
    use super::*;
    use crate::api::Counts;
    use crate::cli::testing::status;

    #[test]
    fn a_name_without_an_address_and_a_way_that_is_closed_are_problems() {
        assert_eq!(name("crm", &Ok(2)), None);
        assert_eq!(name("crm", &Ok(0)).unwrap().result, Outcome::Problem);
        let closed = way("10.0.0.1", true, &Sight { way: Uplink::Down, interface: None });
        assert_eq!(closed.result, Outcome::Problem);
        assert!(closed.text.contains("the proxy 10.0.0.1"), "{closed:?}");
    }

    #[test]
    fn what_the_daemon_thinks_is_told() {
        let mut status = status(Phase::Deferred, "", Counts::default());
        status.connectivity.state = LinkState::CaptivePortal.into();
        status.breaker.retry_at = Some(wall_ms() + 60_000);
        let told: Vec<Outcome> = daemon(&status).into_iter().map(|finding| finding.result).collect();
        assert_eq!(told, [Outcome::Problem, Outcome::Warning, Outcome::Warning]);
    }
}
