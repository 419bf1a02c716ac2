//! The connections of the devices: each carries one request at a time, and the device that waits longest gets the next one
//! that is free.
//!
//! Either all devices share some connections, as behind a proxy, or each has its own, as where devices connect to the
//! gateway directly. The gateway limits open connections, so the two differ in a storm.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

/// A listener on this machine accepts at once, or is gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which connections there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topology {
    /// So many, which all devices share and which stay open.
    Shared(usize),
    /// One for each device, used as the daemon does: closed when a gateway refuses a batch, and kept for this time after the
    /// last response.
    PerDevice { idle_time: Duration },
}

/// All pools of a fleet: one, or one for each device.
pub(crate) struct Connections {
    pools: Vec<ConnectionPool>,
    topology: Topology,
}

impl Connections {
    /// They are spread evenly over the gateways, and opened when they are needed.
    pub(crate) fn new(gateways: &[SocketAddr], topology: Topology, devices: usize) -> Self {
        let addresses: Rc<[SocketAddr]> = gateways.into();
        let pools = match topology {
            Topology::Shared(connections) => vec![ConnectionPool::new(addresses, 0, connections)],
            Topology::PerDevice { .. } => {
                (0..devices).map(|device| ConnectionPool::new(Rc::clone(&addresses), device, 1)).collect()
            }
        };
        Self { pools, topology }
    }

    /// Waits for a connection that the device may use.
    pub(crate) async fn lease(&self, device: usize) -> Lease<'_> {
        self.pools[device % self.pools.len()].lease().await
    }

    /// Whether a device closes its connection when its batch is refused.
    pub(crate) fn closes_on_refusal(&self) -> bool {
        matches!(self.topology, Topology::PerDevice { .. })
    }

    /// A device that has nothing more to send keeps its own connection open for a while.
    pub(crate) async fn end_idle(&self, device: usize) {
        let Topology::PerDevice { idle_time } = self.topology else { return };
        let mut lease = self.lease(device).await;
        sleep(idle_time).await;
        lease.close();
    }
}

/// A bounded number of connections to the gateways.
struct ConnectionPool {
    addresses: Rc<[SocketAddr]>,
    permits: Semaphore,
    idle: RefCell<VecDeque<Slot>>,
}

/// A place for a connection.
struct Slot {
    /// The gateway that it prefers.
    gateway: usize,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// A response that arrived completely.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// The seconds of `Retry-After`.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()
    }
}

/// Why there is no response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExchangeFailure {
    /// No gateway accepts connections.
    NotSent,
    /// The connection was lost, or the time was over: the gateway may have received the request.
    Unclear,
}

impl ConnectionPool {
    fn new(addresses: Rc<[SocketAddr]>, first_gateway: usize, connections: usize) -> Self {
        let gateways = addresses.len();
        let slot = |number: usize| Slot { gateway: (first_gateway + number) % gateways, connection: None };
        let idle = (0..connections).map(slot).collect();
        Self { permits: Semaphore::new(connections), idle: RefCell::new(idle), addresses }
    }

    /// Waits for a connection that is free.
    async fn lease(&self) -> Lease<'_> {
        let permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let slot = self.idle.borrow_mut().pop_front().expect("there are as many slots as permits");
        Lease { pool: self, slot: Some(slot), _permit: permit }
    }

    /// Connects to a gateway, to the preferred one if it accepts connections.
    async fn connect(&self, preferred: usize) -> Option<SendRequest<Full<Bytes>>> {
        for offset in 0..self.addresses.len() {
            let address = self.addresses[(preferred + offset) % self.addresses.len()];
            let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
            let Ok(Ok(stream)) = connected else { continue };
            stream.set_nodelay(true).expect("the connection is open");
            let Ok((sender, connection)) = http1::handshake(TokioIo::new(stream)).await else { continue };
            // It ends with an error when the gateway is killed, which the request reports.
            tokio::spawn(async move { drop(connection.await) });
            return Some(sender);
        }
        None
    }
}

/// A connection for one device; it returns to the pool when dropped.
pub(crate) struct Lease<'a> {
    pool: &'a ConnectionPool,
    slot: Option<Slot>,
    _permit: SemaphorePermit<'a>,
}

impl Lease<'_> {
    /// Sends a request and reads the complete response.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Reply, ExchangeFailure> {
        let slot = self.slot.as_mut().expect("it is taken only by drop");
        let mut kept = slot.connection.take();
        if let Some(connection) = &mut kept
            && connection.ready().await.is_err()
        {
            kept = None;
        }
        let mut sender = match kept {
            Some(kept) => kept,
            None => self.pool.connect(slot.gateway).await.ok_or(ExchangeFailure::NotSent)?,
        };
        let exchange = async {
            let response = sender.send_request(request).await.ok()?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            Some(Reply { status: parts.status, headers: parts.headers, body })
        };
        let reply = timeout(limit, exchange).await.ok().flatten().ok_or(ExchangeFailure::Unclear)?;
        slot.connection = Some(sender);
        Ok(reply)
    }

    /// Closes the connection; the next request opens another.
    pub(crate) fn close(&mut self) {
        if let Some(slot) = &mut self.slot {
            slot.connection = None;
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.pool.idle.borrow_mut().push_back(slot);
        }
    }
}
