//! Compares what the devices were told with what the ledger holds.

use std::collections::HashMap;
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

const LEDGER_PATH: &str = "/ledger";

/// What became of the records of a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LedgerCheck {
    /// Records of confirmed batches.
    pub(crate) confirmed: usize,
    /// Confirmed, but not in the ledger.
    pub(crate) lost: usize,
    /// In the ledger more than once.
    pub(crate) twice: usize,
    /// In the ledger, but never confirmed.
    pub(crate) unconfirmed: usize,
}

#[derive(Deserialize)]
struct LedgerLine {
    id: Uuid,
}

impl LedgerCheck {
    /// Reads the ledger of a gateway, to which only these batches were sent.
    pub(crate) async fn run(gateway: SocketAddr, settled: impl IntoIterator<Item = &Batch>) -> Self {
        let mut rows = read_ledger(gateway).await;
        let mut check = Self { twice: rows.values().filter(|rows| **rows > 1).count(), ..Self::default() };
        for id in settled.into_iter().flat_map(Batch::record_ids) {
            check.confirmed += 1;
            check.lost += usize::from(rows.remove(&id).is_none());
        }
        check.unconfirmed = rows.len();
        check
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
