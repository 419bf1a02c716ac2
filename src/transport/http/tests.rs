//! A link that goes down: no test of the programs can cause that from outside.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::*;
use crate::model::{BatchPhase, OpenBatch, QueuePosition, Sequence, SizeRule, Stage};

const UPLOADS: usize = 4;

/// A server that answers outcome queries, and takes batches without a response. It reports the connection of
/// every request.
fn server() -> (String, Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (stream, sender) = (stream.unwrap(), sender.clone());
            thread::spawn(move || serve_connection(&stream, || sender.send(number).unwrap()));
        }
    });
    (url, requests)
}

fn serve_connection(mut stream: &TcpStream, report: impl Fn()) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        if line.ends_with("\r\n\r\n") {
            report();
            if line.starts_with("POST") {
                drop(reader.read_to_end(&mut Vec::new()));
                return;
            }
            let unknown = r#"{"error":{"code":"UNKNOWN_BATCH"}}"#;
            write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{unknown}", unknown.len())
                .unwrap();
            line.clear();
        }
    }
}

fn open_batch() -> Arc<Batch> {
    let open = OpenBatch {
        id: BatchId::new(),
        parent: None,
        stage: Stage::Fresh,
        rule: SizeRule::Standard,
        place: QueuePosition(0),
        records: 0,
        bytes: 0,
        attempt: 1,
        lone_failures: 0,
        phase: BatchPhase::InFlight,
    };
    Arc::new(Batch { open, sequence: Sequence { index: 1, total: 1 }, records: Vec::new() })
}

fn transport(url: String, invalidation: &Rc<ConnectionInvalidation>) -> HttpTransport {
    let config = config::Server { url, proxy: "none".into(), ..config::Server::default() };
    HttpTransport::new(
        &config,
        UPLOADS,
        DeviceIdentity { id: DeviceId(uuid::Uuid::new_v4()), name: "van".into() },
        None,
        Rc::clone(invalidation),
    )
    .unwrap()
}

#[actix_rt::test]
async fn a_request_in_flight_ends_when_the_link_goes_down() {
    let (url, requests) = server();
    let invalidation = Rc::default();
    let transport = transport(url, &invalidation);
    let sending = actix_rt::spawn(transport.send_batch(open_batch(), SendOptions::default()));
    actix_rt::task::spawn_blocking(move || requests.recv()).await.unwrap().unwrap();
    invalidation.link_down.notify_waiters();
    let RequestResult::Failure(failure) = sending.await.unwrap().result else { panic!("a response") };
    assert_eq!(failure.message, "the link went down");
    // The server has the batch.
    assert_eq!(failure.delivery, Delivery::Sent);
}

#[actix_rt::test]
async fn no_connection_is_used_after_its_link_went_down() {
    let (url, requests) = server();
    let invalidation = Rc::default();
    let transport = transport(url, &invalidation);
    let mut seen = Vec::new();
    for goes_down in [false, true, false] {
        transport.query_outcome(BatchId::new()).await;
        seen.push(requests.try_recv().unwrap());
        if goes_down {
            invalidation.link_down.notify_waiters();
            actix_rt::task::yield_now().await;
        }
    }
    assert_eq!(seen, [0, 0, 1]);
}

#[actix_rt::test]
async fn no_connection_is_used_beyond_its_maximum_age() {
    for (age_max, connections) in [(CONNECTION_AGE_MAX, [0, 0, 0]), (Duration::ZERO, [0, 1, 2])] {
        let (url, requests) = server();
        let config = config::Server { url: url.clone(), proxy: "none".into(), ..config::Server::default() };
        let pool =
            ConnectionPool::new(&config, UPLOADS, url.parse().unwrap(), Rc::default(), age_max).unwrap();
        let limits = RequestLimits::for_short_request(&config);
        let mut seen = Vec::new();
        for _ in connections {
            let url = url.clone();
            pool.send_request(SlotUse::Query, move |client| client.get(&url), Bytes::new(), &limits).await;
            seen.push(requests.try_recv().unwrap());
        }
        assert_eq!(seen, connections, "{age_max:?}");
    }
}
