//! A link with a round trip: a TCP relay in front of the server that delays both directions by half of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::sleep;

/// How much is relayed at once.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces under way in one direction; far more than a window of TCP.
const PIECES_MAX: usize = 256;
/// Two of them make the connection.
const CROSSINGS_OF_FIRST_BYTE: u32 = 3;

pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    is_instant: Arc<AtomicBool>,
}

/// What is under way, and when it arrives.
struct Piece {
    due: Duration,
    bytes: Vec<u8>,
}

impl Link {
    /// It relays until the process ends.
    pub(crate) fn start(server: SocketAddr, round_trip: Duration) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        listener.set_nonblocking(true).expect("the listener is open");
        let is_instant = Arc::new(AtomicBool::new(false));
        let delay =
            Delay { one_way: round_trip / 2, is_instant: Arc::clone(&is_instant), clock: Clock::start() };
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(accept_connections(listener, server, delay));
        });
        Self { address, is_instant }
    }

    /// Ends the delay.
    pub(crate) fn heal(&self) {
        self.is_instant.store(true, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct Delay {
    one_way: Duration,
    is_instant: Arc<AtomicBool>,
    clock: Clock,
}

impl Delay {
    /// When something arrives that is sent now and crosses the link so many times.
    fn due_after(&self, crossings: u32) -> Duration {
        let one_way = if self.is_instant.load(Ordering::Relaxed) { Duration::ZERO } else { self.one_way };
        self.clock.now() + one_way * crossings
    }
}

async fn accept_connections(listener: std::net::TcpListener, server: SocketAddr, delay: Delay) {
    let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let first_due = delay.due_after(CROSSINGS_OF_FIRST_BYTE);
        let Ok(server) = TcpStream::connect(server).await else { continue };
        client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).expect("the connections are open");
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        relay(from_client, to_server, delay.clone(), first_due);
        relay(from_server, to_client, delay.clone(), Duration::ZERO);
    }
}

fn relay(from: OwnedReadHalf, to: OwnedWriteHalf, delay: Delay, first_due: Duration) {
    let (pieces, arriving) = channel(PIECES_MAX);
    tokio::spawn(write_pieces(to, arriving, delay.clock));
    tokio::spawn(read_pieces(from, pieces, delay, first_due));
}

async fn read_pieces(mut from: OwnedReadHalf, pieces: Sender<Piece>, delay: Delay, first_due: Duration) {
    loop {
        let mut bytes = vec![0; PIECE_BYTES];
        let Ok(read @ 1..) = from.read(&mut bytes).await else { return };
        bytes.truncate(read);
        let due = delay.due_after(1).max(first_due);
        if pieces.send(Piece { due, bytes }).await.is_err() {
            return;
        }
    }
}

/// Ends the connection in this direction after the last piece.
async fn write_pieces(mut to: OwnedWriteHalf, mut arriving: Receiver<Piece>, clock: Clock) {
    while let Some(Piece { due, bytes }) = arriving.recv().await {
        sleep(due.saturating_sub(clock.now())).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // The other side may be gone already.
    drop(to.shutdown().await);
}
