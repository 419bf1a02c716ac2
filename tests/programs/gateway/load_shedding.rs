//! A gateway with more batches than it can answer in time refuses some, and asks their devices to return one after the
//! other.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::configuration::Setup;
use crate::support::device::{Batch, Record};
use crate::support::gateway::Gateway;
use crate::support::wait::{pace, wait_for};

/// Waits until so many batches are being processed.
fn wait_for_processing(gateway: &Gateway, batches: u64) {
    wait_for("batches to be at work", || {
        (gateway.metric("fieldsync_gateway_processing") == batches).then_some(())
    });
}

#[test]
fn a_batch_without_a_place_is_refused_before_its_body_is_sent() {
    let setup = Setup::with("max_in_flight = 2\n[faults]\nrecord_cost = \"5s\"\n");
    let gateway = setup.start(&[]);
    thread::scope(|scope| {
        let senders = [(); 2].map(|()| scope.spawn(|| gateway.post(&Batch::of(&["{}"])).batch()));
        wait_for_processing(&gateway, 2);
        let refused = Batch::of(&["{}"]);
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.write_all(refused.head("Content-Length: 100000").as_bytes()).unwrap();
        let mut response = [0; 12];
        stream.read_exact(&mut response).unwrap();
        assert_eq!(&response, b"HTTP/1.1 429");
        let response = gateway.post(&refused);
        assert_eq!((response.status, response.code().as_str()), (429, "BUSY"));
        let wait: u64 = response.header("retry-after").parse().unwrap();
        assert!((1..=300).contains(&wait), "{wait}");
        assert_eq!(gateway.query_outcome(&refused).status, 404);
        assert!(gateway.metric("fieldsync_gateway_batches_throttled_total{limit=\"gateway\"}") >= 2);
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn while_it_is_busy_resends_of_known_batches_and_outcome_queries_are_answered() {
    let setup = Setup::with("max_in_flight = 1\n");
    let known = Batch::of(&["{}"]);
    let first = setup.start(&[]);
    first.post(&known).batch();
    drop(first);
    setup.write("max_in_flight = 1\n[faults]\nrecord_cost = \"5s\"\n");
    let gateway = setup.start(&[]);
    let slow = Batch::of(&["{}"]);
    let resend = |batch: &Batch| {
        let mut headers = batch.headers();
        headers.retain(|(name, _)| name != "x-sync-attempt");
        headers.push(("x-sync-attempt".into(), "2".into()));
        gateway.post_raw(&headers, batch.body())
    };
    thread::scope(|scope| {
        let sender = scope.spawn(|| gateway.post(&slow).batch());
        wait_for_processing(&gateway, 1);
        assert!(resend(&known).batch().replayed);
        assert_eq!(resend(&slow).code(), "PROCESSING");
        assert_eq!(gateway.query_outcome(&slow).status, 202);
        assert_eq!(gateway.query_outcome(&known).status, 200);
        assert_eq!(resend(&Batch::of(&["{}"])).code(), "BUSY");
        sender.join().unwrap();
    });
}

#[test]
fn slow_batches_that_do_not_slow_others_cost_nobody_a_place() {
    const SLOW: u64 = 8;
    let setup = Setup::with("device_time_limit = \"2s\"\n[faults]\nrecord_cost = \"20ms\"\n");
    let gateway = setup.start(&[]);
    let slow_batch = || Batch::with((0..200).map(|_| Record::new("{}")).collect());
    let post_slow = || gateway.post(&slow_batch()).status;
    thread::scope(|scope| {
        // It learns that these take longer than devices wait.
        let first: Vec<_> = (0..SLOW).map(|_| scope.spawn(post_slow)).collect();
        for sender in first {
            assert_eq!(sender.join().unwrap(), 200);
        }
        let beside: Vec<_> = (0..SLOW).map(|_| scope.spawn(post_slow)).collect();
        wait_for_processing(&gateway, SLOW);
        for _ in 0..10 {
            gateway.post(&Batch::of(&["{}"])).batch();
        }
        for sender in beside {
            assert_eq!(sender.join().unwrap(), 200);
        }
    });
    assert_eq!(gateway.metric("fieldsync_gateway_batches_throttled_total{limit=\"gateway\"}"), 0);
}

#[test]
fn while_half_of_the_connections_are_open_responses_close_theirs() {
    let setup = Setup::with("max_connections = 8\n");
    let gateway = setup.start(&[]);
    let exchange = |stream: &mut TcpStream| {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"}") {
            let mut part = [0; 1024];
            let length = stream.read(&mut part).unwrap();
            assert!(length > 0, "the response ends early");
            response.extend_from_slice(&part[..length]);
        }
        String::from_utf8(response).unwrap().contains("connection: close")
    };
    let connect = || TcpStream::connect(gateway.address).unwrap();
    let mut kept = [connect(), connect(), connect()];
    for stream in &mut kept {
        assert!(!exchange(stream));
    }
    // Devices that would keep theirs.
    for _ in 0..20 {
        assert!(exchange(&mut connect()));
    }
}

#[test]
fn in_a_storm_every_batch_is_applied_once_and_devices_return_when_they_are_asked_to() {
    const DEVICES: usize = 24;
    let setup = Setup::with("max_in_flight = 4\n[faults]\nrecord_cost = \"300ms\"\n");
    let gateway = setup.start(&[]);
    let batches: Vec<Batch> = (0..DEVICES).map(|_| Batch::with(vec![Record::new("{}")])).collect();
    let all_ready = Barrier::new(DEVICES);
    let send = |batch: &Batch| {
        all_ready.wait();
        loop {
            let response = gateway.post(batch);
            if response.status != 429 {
                return response.batch();
            }
            pace(Duration::from_secs(response.header("retry-after").parse().unwrap()));
        }
    };
    thread::scope(|scope| {
        let senders: Vec<_> = batches.iter().map(|batch| scope.spawn(|| send(batch))).collect();
        for sender in senders {
            assert!(!sender.join().unwrap().replayed);
        }
    });
    let applied: HashSet<_> = gateway.applied_ids().into_iter().collect();
    assert_eq!((applied.len(), gateway.ledger().len()), (DEVICES, DEVICES));
    assert!(gateway.metric("fieldsync_gateway_batches_throttled_total{limit=\"gateway\"}") > 0);
}
