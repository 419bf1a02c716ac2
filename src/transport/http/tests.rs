//! The link that goes away, which no program can be made to meet from outside.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::*;
use crate::model::{BatchPhase, OpenBatch, QueuePosition, Sequence, SizeRule, Stage};

/// A server that answers look-ups and takes batches without a word. It tells of every request on
/// which connection it came.
fn server() -> (String, Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (stream, sender) = (stream.unwrap(), sender.clone());
            thread::spawn(move || converse(&stream, || sender.send(number).unwrap()));
        }
    });
    (url, requests)
}

fn converse(mut stream: &TcpStream, tell: impl Fn()) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        if line.ends_with("\r\n\r\n") {
            tell();
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

fn batch() -> Arc<Batch> {
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

fn transport(url: String, parting: &Rc<Parting>) -> Http {
    let config = config::Server { url, proxy: "none".into(), ..config::Server::default() };
    Http::new(&config, DeviceId(uuid::Uuid::new_v4()), None, Rc::clone(parting)).unwrap()
}

#[actix_rt::test]
async fn what_is_under_way_ends_when_the_link_goes_away() {
    let (url, requests) = server();
    let parting = Rc::default();
    let transport = transport(url, &parting);
    let sending = actix_rt::spawn(transport.send(batch(), None, None));
    actix_rt::task::spawn_blocking(move || requests.recv()).await.unwrap().unwrap();
    parting.gone.notify_waiters();
    let RequestResult::Failure(failure) = sending.await.unwrap().result else { panic!("an answer") };
    assert_eq!(failure.message, "the link went away");
    // The server has it.
    assert_eq!(failure.delivery, Delivery::Sent);
}

#[actix_rt::test]
async fn no_connection_outlives_the_link_that_it_was_made_over() {
    let (url, requests) = server();
    let parting = Rc::default();
    let transport = transport(url, &parting);
    let mut seen = Vec::new();
    for goes in [false, true, false] {
        transport.look_up(BatchId::new()).await;
        seen.push(requests.try_recv().unwrap());
        if goes {
            parting.gone.notify_waiters();
            actix_rt::task::yield_now().await;
        }
    }
    assert_eq!(seen, [0, 0, 1]);
}

#[actix_rt::test]
async fn no_connection_is_used_beyond_its_age() {
    for (age_limit, connections) in [(AGE_LIMIT, [0, 0, 0]), (Duration::ZERO, [0, 1, 2])] {
        let (url, requests) = server();
        let config = config::Server { url: url.clone(), proxy: "none".into(), ..config::Server::default() };
        let pool = Pool::new(&config, url.parse().unwrap(), Rc::default(), age_limit).unwrap();
        let limits = Limits::of_look_up(&config);
        let mut seen = Vec::new();
        for _ in connections {
            let url = url.clone();
            pool.exchange(move |client| client.get(&url), Bytes::new(), &limits).await;
            seen.push(requests.try_recv().unwrap());
        }
        assert_eq!(seen, connections, "{age_limit:?}");
    }
}
