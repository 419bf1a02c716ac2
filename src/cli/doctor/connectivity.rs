//! Whether the server can be reached: routes, host names, proxies, and the daemon's own view.

use std::io;
use std::time::Duration;

use hyper::Uri;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::finding::Finding;
use super::probe::ProbeResult;
use crate::api::{Phase, Status};
use crate::cli::format::relative;
use crate::clock::wall_ms;
use crate::config;
use crate::link::route::{FirstHop, RouteStatus, find_route};
use crate::model::{LinkState, Uplink};
use crate::transport::http::TransportError;
use crate::transport::proxy::first_hop_host;

/// A resolver's default limit.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Resolving a name needs some port.
const ANY_PORT: u16 = 0;

pub(super) async fn check_connectivity(
    server: &config::Server,
    probe: &ProbeResult,
    status: Option<&Status>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if server.url.is_empty() {
        findings.push(Finding::unchecked("no server is configured", "sudo fieldsync setup --url https://…"));
    } else if let ProbeResult::Unusable(TransportError::Proxy(error)) = probe {
        findings.push(Finding::problem(
            format!("the proxy cannot be used: {error}"),
            "correct server.proxy, or the variables HTTPS_PROXY and HTTP_PROXY of the service",
        ));
    } else if let Some(host) = first_hop_host(server) {
        let is_proxy = is_proxy(server, &host);
        let hop = FirstHop::from_host(Some(host.clone()));
        findings.push(judge_route(&host, is_proxy, &find_route(&hop)));
        if matches!(hop, FirstHop::Name(_)) {
            findings.extend(judge_name(&host, &count_addresses(&host).await));
        }
    }
    findings.extend(status.map(judge_daemon_state).into_iter().flatten());
    findings
}

fn is_proxy(server: &config::Server, first_hop: &str) -> bool {
    let url = server.url.parse::<Uri>().ok();
    url.as_ref().and_then(Uri::host).is_some_and(|host| host.trim_matches(['[', ']']) != first_hop)
}

/// How many addresses a name has.
async fn count_addresses(host: &str) -> io::Result<usize> {
    match timeout(RESOLVE_TIMEOUT, lookup_host((host, ANY_PORT))).await {
        Ok(found) => Ok(found?.count()),
        Err(_) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no response within {RESOLVE_TIMEOUT:?}")))
        }
    }
}

fn judge_route(host: &str, is_proxy: bool, route: &RouteStatus) -> Finding {
    let to = if is_proxy { format!("the proxy {host}") } else { host.to_owned() };
    match &route.uplink {
        Uplink::Down => Finding::problem(
            format!("there is no route to {to}: no running interface has an address that reaches it"),
            "join a network; ip address and ip route show the present state",
        ),
        Uplink::Up(_) | Uplink::Unknown => Finding::ok(match route.interface {
            Some(kind) => format!("the route to {to} is open ({})", kind.name()),
            None => format!("the route to {to} is open"),
        }),
    }
}

fn judge_name(host: &str, addresses: &io::Result<usize>) -> Option<Finding> {
    let reason = match addresses {
        Ok(0) => "it has no address".to_owned(),
        Ok(_) => return None,
        Err(error) => error.to_string(),
    };
    Some(Finding::problem(
        format!("the name {host} cannot be resolved to an address: {reason}"),
        format!(
            "check server.url and server.proxy for a mistake, then the name servers: getent hosts {host}; cat /etc/resolv.conf"
        ),
    ))
}

/// Connectivity as the daemon's status reports it.
fn judge_daemon_state(status: &Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    match status.connectivity.state.known() {
        Some(LinkState::Offline) => findings.push(Finding::warning(
            format!(
                "the daemon considers the device offline, since {}",
                relative(status.connectivity.since, wall_ms())
            ),
            "see the findings about connectivity and the server; once both are ok: fieldsync sync",
        )),
        Some(LinkState::CaptivePortal) => findings.push(Finding::problem(
            "the daemon met the login page of a Wi-Fi: the network responds in place of the server",
            "open any page in a browser and log in to the network, then: fieldsync sync",
        )),
        _ => {}
    }
    if let Some(retry_at) = status.breaker.retry_at {
        findings.push(Finding::warning(
            format!(
                "the daemon pauses after {} consecutive failures of the server, and tries again {}",
                status.breaker.consecutive_failures,
                relative(retry_at, wall_ms())
            ),
            "see the findings about the server; fieldsync batches shows what failed",
        ));
    }
    if status.sync.phase == Phase::Deferred {
        findings.push(Finding::warning(
            "the daemon waits for a network that is not metered, or for a charger, as configured",
            "fieldsync sync sends once regardless; connectivity.metered and connectivity.min_battery_percent decide",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::CheckResult;
    use super::*;
    use crate::api::Counts;
    use crate::cli::testing::sample_status;

    #[test]
    fn a_name_without_an_address_and_a_missing_route_are_problems() {
        assert_eq!(judge_name("crm", &Ok(2)), None);
        assert_eq!(judge_name("crm", &Ok(0)).unwrap().result, CheckResult::Problem);
        let closed = judge_route("10.0.0.1", true, &RouteStatus { uplink: Uplink::Down, interface: None });
        assert_eq!(closed.result, CheckResult::Problem);
        assert!(closed.text.contains("the proxy 10.0.0.1"), "{closed:?}");
    }

    #[test]
    fn the_connectivity_that_the_daemon_reports_is_judged() {
        let mut status = sample_status(Phase::Deferred, "", Counts::default());
        status.connectivity.state = LinkState::CaptivePortal.into();
        status.breaker.retry_at = Some(wall_ms() + 60_000);
        let results: Vec<CheckResult> =
            judge_daemon_state(&status).into_iter().map(|finding| finding.result).collect();
        assert_eq!(results, [CheckResult::Problem, CheckResult::Warning, CheckResult::Warning]);
    }
}
