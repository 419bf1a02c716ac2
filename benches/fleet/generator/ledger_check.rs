//! Compares the responses that the devices got with what the ledger holds.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use memchr::memchr;
use serde::Deserialize;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::batch::Batch;
use super::tally::Counts;

const LEDGER_PATH: &str = "/ledger";

/// What became of the records of a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LedgerCheck {
    /// Records of confirmed batches.
    pub(crate) confirmed: usize,
    /// Confirmed, but not in the ledger.
    pub(crate) lost: usize,
    /// In the ledger more than once, or reported as applied more than once.
    pub(crate) twice: usize,
    /// In the ledger, but never confirmed.
    pub(crate) unconfirmed: usize,
}

#[derive(Deserialize)]
struct LedgerLine {
    id: Uuid,
}

impl LedgerCheck {
    /// Reads the ledger of a gateway, to which only these fleets sent.
    pub(crate) async fn run(gateway: SocketAddr, fleets: &[&Counts]) -> Self {
        let rows = read_ledger(gateway).await;
        let settled = fleets.iter().flat_map(|counts| &counts.settled);
        let confirmed: HashSet<Uuid> = settled.flat_map(Batch::record_ids).collect();
        let listed_twice = rows.iter().filter(|(_, rows)| **rows > 1).map(|(id, _)| *id);
        let applied_twice = fleets.iter().flat_map(|counts| counts.applied_twice());
        Self {
            confirmed: confirmed.len(),
            lost: confirmed.iter().filter(|id| !rows.contains_key(id)).count(),
            twice: listed_twice.chain(applied_twice).collect::<HashSet<Uuid>>().len(),
            unconfirmed: rows.keys().filter(|id| !confirmed.contains(id)).count(),
        }
    }
}

/// The number of rows of each record.
async fn read_ledger(gateway: SocketAddr) -> HashMap<Uuid, u32> {
    let stream = TcpStream::connect(gateway).await.expect("the gateway listens");
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.expect("the gateway speaks HTTP");
    // Its end is that of the response.
    tokio::spawn(async move { drop(connection.await) });
    let request = Request::get(LEDGER_PATH).header(HOST, "gateway").body(Empty::<Bytes>::new());
    let response = sender.send_request(request.expect("the request is valid")).await;
    let mut response = response.expect("the gateway lists its ledger");
    assert_eq!(response.status(), StatusCode::OK);
    let (mut rows, mut rest) = (HashMap::new(), Vec::new());
    while let Some(frame) = response.frame().await {
        let frame = frame.expect("the listing continues");
        rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        let mut start = 0;
        while let Some(length) = memchr(b'\n', &rest[start..]) {
            let line: LedgerLine =
                serde_json::from_slice(&rest[start..start + length]).expect("a line of the ledger");
            *rows.entry(line.id).or_default() += 1;
            start += length + 1;
        }
        rest.drain(..start);
    }
    assert!(rest.is_empty(), "the listing broke off");
    rows
}
