//! A destination that does not respond, and an address that leads nowhere.

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use tempfile::tempdir;

use super::super::driver::HttpDestination;
use super::super::mapping::HttpMapping;
use super::super::mapping_check::parse_mapping;
use super::super::reload_cache::ReloadCache;
use super::super::token_budget::LocalTokenBudget;
use super::canned_server::{APPLIED, ATOMIC_MAPPING, serve};
use super::support::{refusal, test_record, zoho_mapping_in};
use crate::destination::{Destination, DestinationCondition, Verdict, collect_verdicts};

/// No other process listens at this address, so a port that is free for a moment stays free.
const ANY_PORT: &str = "127.77.0.14:0";

fn connect(mapping: HttpMapping) -> HttpDestination {
    HttpDestination::new(mapping, &ReloadCache::new(Arc::new(LocalTokenBudget::new()))).unwrap()
}

fn deliver(destination: &HttpDestination, time_budget: Duration) -> Verdict {
    let record = test_record(1, "Accounts", None, "{}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(collect_verdicts(destination, &[&record], time_budget)).remove(0)
}

#[test]
fn a_destination_without_a_connection_waits_until_a_call_gets_a_response() {
    let directory = tempdir().unwrap();
    let token_file = directory.path().join("token");
    fs::write(&token_file, "token").unwrap();
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut mapping = parse_mapping(ATOMIC_MAPPING).unwrap();
    mapping.api = Some(format!("http://{address}"));
    mapping.auth.credentials.token_file = Some(token_file);
    let destination = connect(mapping);
    // Enough for the calls after which it counts as unreachable. The waits grow with each further one.
    let verdict = deliver(&destination, Duration::from_secs(5));
    assert!(!refusal(&verdict).1, "{verdict:?}");
    let DestinationCondition::Waiting { reason, .. } = destination.condition() else { panic!() };
    assert!(reason.starts_with("127.77.0.14 cannot be reached: "), "{reason}");
    assert!(reason.to_lowercase().contains("connection refused"), "{reason}");
    let listener = TcpListener::bind(address).unwrap();
    let (bodies, _received) = channel();
    thread::spawn(move || serve(&listener, &bodies, |_, _| APPLIED.to_owned()));
    // More than any wait before the next call.
    assert!(deliver(&destination, Duration::from_secs(45)).is_applied());
    assert_eq!(destination.condition(), DestinationCondition::Ready);
}

#[test]
fn another_token_is_asked_for_if_the_address_in_its_response_leads_nowhere() {
    let directory = tempdir().unwrap();
    for file in ["secret", "refresh"] {
        fs::write(directory.path().join(file), file).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let accounts = format!("http://{}", listener.local_addr().unwrap());
    let (sender, bodies) = channel();
    thread::spawn(move || {
        serve(&listener, &sender, |_, _| {
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 62\r\n\r\n\
             {\"access_token\": \"1000.a\", \"api_domain\": \"http://127.0.0.1:1\"}"
                .to_owned()
        });
    });
    let destination = connect(zoho_mapping_in(&accounts, directory.path()));
    // Enough for these calls and for some with another token, and less than the wait before a third one.
    assert!(!deliver(&destination, Duration::from_secs(8)).is_applied());
    // The second one has the same address, and is used for a while.
    assert_eq!(bodies.try_iter().count(), 2);
    let DestinationCondition::Waiting { reason, .. } = destination.condition() else { panic!() };
    assert!(reason.starts_with("127.0.0.1 cannot be reached: "), "{reason}");
}
