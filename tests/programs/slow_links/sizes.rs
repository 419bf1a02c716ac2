//! A link as in the field: 64 kbit/s, a round trip of 600 ms, and a gateway with a fixed time limit.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use fieldsync::clock::Clock;
use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::fault_proxy::FaultProxy;
use crate::support::ledger::Ledger;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

const BYTES_PER_SECOND: u32 = 8000;
const ONE_WAY: Duration = Duration::from_millis(300);
/// The limit of the gateway, from the first byte of a request: 23 records of 1.3 kB are too many.
const TIME_LIMIT: Duration = Duration::from_secs(4);
const RECORDS: u64 = 120;

fn slow_link_to(server: &ScriptedServer) -> FaultProxy {
    let link = FaultProxy::to(server.address);
    for way in [link.upstream(), link.downstream()] {
        way.delay(ONE_WAY);
        way.bytes_per_second(BYTES_PER_SECOND);
    }
    link
}

/// Text that hardly compresses.
fn incompressible_text(characters: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(characters).collect()
}

/// The number of records in a batch that was sent.
fn size(send: &Value) -> u64 {
    send["records"].as_u64().unwrap()
}

#[test]
fn the_test_link_is_not_faster_than_configured() {
    let body = incompressible_text(4000);
    let response = Reply::text(200, "text/plain", &body);
    let server = ScriptedServer::start(move |_| response.clone());
    let link = slow_link_to(&server);
    let mut device = TcpStream::connect(link.address).unwrap();
    let clock = Clock::start();
    write!(device, "POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut response = Vec::new();
    while response.len() < body.len() {
        let mut buffer = [0; 1024];
        let size = device.read(&mut buffer).unwrap();
        response.extend_from_slice(&buffer[..size]);
    }
    // Half a second for each body; there is no upper limit on a busy machine.
    assert!(clock.now() >= ONE_WAY * 2 + Duration::from_secs(1), "{:?}", clock.now());
}

#[test]
fn batches_adapt_to_a_slow_link_and_progress_is_reported_throughout() {
    let ledger = Ledger::default();
    let books = ledger.clone();
    let server = ScriptedServer::start(move |request| books.respond(request));
    server.limit_time(TIME_LIMIT);
    let link = slow_link_to(&server);
    let settings = Settings::for_server(&link.url())
        .with("server.request_timeout", "4s")
        .with("server.connect_timeout", "5s")
        .with("batch.learn", "true");
    let daemon = Daemon::start(&settings);
    let ids = daemon.paused(|daemon| {
        let records: Vec<Value> = (0..RECORDS)
            .map(|_| json!({"type": "Visits", "payload": {"text": incompressible_text(1000)}}))
            .collect();
        daemon.enqueue(&records)
    });
    let (mut done, mut steps) = (0, 0);
    while done < RECORDS {
        let status = daemon.wait_until("progress", |status| status["sync"]["done"].as_u64() > Some(done));
        done = status["sync"]["done"].as_u64().unwrap();
        assert!(status["sync"]["total"] == RECORDS, "{status:#}");
        steps += 1;
    }
    let trace = daemon.cli(&["batches", "--limit", "500"]).stdout;
    assert_eq!(daemon.counts(), Counts::all_synced(RECORDS), "{trace}");
    ledger.assert_holds(&ids);
    // A busy machine delays batches whose size is right. Larger ones than any that was in time are too large.
    let sent = daemon.get("/v1/batches?limit=500").expect_json(200);
    let (in_time, late): (Vec<&Value>, Vec<&Value>) =
        sent["batches"].as_array().unwrap().iter().partition(|send| send["outcome"] == "answered");
    let largest = in_time.iter().map(|send| size(send)).max();
    let too_large = late.iter().filter(|send| Some(size(send)) > largest).count();
    assert!(too_large <= 2, "{too_large} batches were too large\n{trace}");
    assert!(steps >= 6, "{steps} steps\n{trace}");
}
