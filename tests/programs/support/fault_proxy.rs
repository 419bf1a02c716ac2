//! A link that is slow and breaks on command: a TCP proxy, which does not need root.
//!
//! Each direction has a latency, a bandwidth that all connections share, and the point where it breaks. The sockets
//! have tiny buffers: with the usual ones, data would seem to have arrived long before it passed the link. The
//! kernel makes the handshake, which takes no time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fieldsync::clock::Clock;
use socket2::{Domain, SockRef, Socket, Type};

use super::reply::Gate;
use super::wait::pace;

/// No other process listens at this address, so a port that is free for a moment stays free.
const ANY_PORT: &str = "127.77.0.3:0";
/// Buffer of each socket. The kernel doubles it, and uses half of that for its own data.
const BUFFER: usize = 4096;
const LARGEST_CHUNK: usize = 16 << 10;
/// Chunks in flight: more than latency and bandwidth of any link here allow.
const ON_THE_WAY: usize = 256;

/// How a connection ends.
#[derive(Clone, Copy)]
pub(crate) enum ConnectionEnd {
    /// Closed in order, as far as both sides can see.
    Close,
    /// With a reset.
    Reset,
    /// It stays open, but nothing is read or forwarded any more.
    BlackHole,
}

/// The proxy; it forwards until it is dropped.
pub(crate) struct FaultProxy {
    pub(crate) address: SocketAddr,
    link: Arc<Link>,
    accepting: Option<(TcpListener, JoinHandle<()>)>,
}

struct Link {
    to: SocketAddr,
    up: LinkDirection,
    down: LinkDirection,
    /// Opened when connections no longer have to stall.
    over: Gate,
    connections: Mutex<Vec<Weak<Connection>>>,
}

/// One direction of the link.
#[derive(Default)]
pub(crate) struct LinkDirection(Mutex<DirectionState>);

struct DirectionState {
    clock: Clock,
    delay: Duration,
    bytes_per_second: Option<u32>,
    /// When the last byte so far has left.
    free_at: Duration,
    /// Bytes until an end, for the connection that reaches it.
    end: Option<(usize, ConnectionEnd)>,
    carried: usize,
}

impl Default for DirectionState {
    fn default() -> Self {
        Self {
            clock: Clock::start(),
            delay: Duration::ZERO,
            bytes_per_second: None,
            free_at: Duration::ZERO,
            end: None,
            carried: 0,
        }
    }
}

/// How a direction handles bytes that wait to be sent.
struct SendStep {
    bytes: usize,
    leaves_at: Duration,
    arrives_at: Duration,
    end: Option<ConnectionEnd>,
}

impl LinkDirection {
    pub(crate) fn delay(&self, one_way: Duration) {
        self.0.lock().unwrap().delay = one_way;
    }

    pub(crate) fn bytes_per_second(&self, bytes: u32) {
        self.0.lock().unwrap().bytes_per_second = Some(bytes);
    }

    /// Ends the first connection that reaches this number of bytes, counted from now.
    pub(crate) fn end_after(&self, bytes: usize, how: ConnectionEnd) {
        self.0.lock().unwrap().end = Some((bytes, how));
    }

    /// The requested end has happened.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.lock().unwrap().end.is_none()
    }

    /// Bytes that it has carried, of all connections.
    pub(crate) fn carried_bytes(&self) -> usize {
        self.0.lock().unwrap().carried
    }

    /// The maximum number of bytes to take at a time.
    fn chunk(&self) -> usize {
        let rate = self.0.lock().unwrap().bytes_per_second;
        // What the link carries in 20 ms.
        rate.map_or(LARGEST_CHUNK, |rate| (rate as usize / 50).clamp(64, LARGEST_CHUNK))
    }

    fn pass(&self, bytes: usize) -> SendStep {
        let mut state = self.0.lock().unwrap();
        let (bytes, end) = match state.end {
            Some((left, how)) if bytes >= left => {
                state.end = None;
                (left, Some(how))
            }
            Some((left, how)) => {
                state.end = Some((left - bytes, how));
                (bytes, None)
            }
            None => (bytes, None),
        };
        let micros = state.bytes_per_second.map_or(0, |rate| bytes as u64 * 1_000_000 / u64::from(rate));
        let leaves_at = state.free_at.max(state.clock.now()) + Duration::from_micros(micros);
        state.free_at = leaves_at;
        state.carried += bytes;
        SendStep { bytes, leaves_at, arrives_at: leaves_at + state.delay, end }
    }

    fn wait_until(&self, moment: Duration) {
        let clock = self.0.lock().unwrap().clock;
        pace(moment.saturating_sub(clock.now()));
    }
}

impl FaultProxy {
    /// A link to a server, without faults.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let link = Link {
            to: server,
            up: LinkDirection::default(),
            down: LinkDirection::default(),
            over: Gate::default(),
            connections: Mutex::default(),
        };
        let mut proxy = Self { address: ANY_PORT.parse().unwrap(), link: Arc::new(link), accepting: None };
        proxy.accept();
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From the device to the server.
    pub(crate) fn upstream(&self) -> &LinkDirection {
        &self.link.up
    }

    /// From the server to the device.
    pub(crate) fn downstream(&self) -> &LinkDirection {
        &self.link.down
    }

    /// Refuses new connections from now on.
    pub(crate) fn refuse(&mut self) {
        let Some((listener, thread)) = self.accepting.take() else { return };
        // This wakes the thread that waits for connections.
        SockRef::from(&listener).shutdown(Shutdown::Both).unwrap();
        thread.join().unwrap();
    }

    /// Resets all connections that are open.
    pub(crate) fn reset_connections(&self) {
        let open = std::mem::take(&mut *self.link.connections.lock().unwrap());
        for connection in open.iter().filter_map(Weak::upgrade) {
            connection.end(ConnectionEnd::Reset, &self.link.over);
        }
    }

    /// Accepts new connections from now on.
    pub(crate) fn accept(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        // Accepted sockets inherit the buffers of the listener.
        shrink(SockRef::from(&listener)).unwrap();
        self.address = listener.local_addr().unwrap();
        let (link, incoming) = (Arc::clone(&self.link), listener.try_clone().unwrap());
        let thread = thread::spawn(move || {
            while let Ok((device, _)) = incoming.accept() {
                // The device has to notice that the server is gone.
                drop(Connection::open(device, &link));
            }
        });
        self.accepting = Some((listener, thread));
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.refuse();
        self.link.over.open();
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a reference to a socket is passed as it is made")]
fn shrink(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_tcp_nodelay(true)
}

/// One connection of a device, and its connection to the server.
struct Connection {
    device: TcpStream,
    server: TcpStream,
    /// Ended by a fault: errors of its threads from now on do not come from the other side.
    cut: AtomicBool,
}

/// Data in flight.
enum InFlight {
    Bytes(Duration, Vec<u8>),
    End(Duration, ConnectionEnd),
}

impl Connection {
    fn open(device: TcpStream, link: &Arc<Link>) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(link.to), Type::STREAM, None)?;
        shrink(SockRef::from(&socket))?;
        socket.connect(&link.to.into())?;
        let this = Arc::new(Self { device, server: socket.into(), cut: AtomicBool::new(false) });
        link.connections.lock().unwrap().push(Arc::downgrade(&this));
        for is_up in [true, false] {
            let (sender, receiver) = sync_channel(ON_THE_WAY);
            let (connection, way) = (Arc::clone(&this), Arc::clone(link));
            thread::spawn(move || connection.take(&way, is_up, &sender));
            let (connection, way) = (Arc::clone(&this), Arc::clone(link));
            thread::spawn(move || connection.deliver(&way, is_up, &receiver));
        }
        Ok(())
    }

    fn ends(&self, is_up: bool) -> (&TcpStream, &TcpStream) {
        if is_up { (&self.device, &self.server) } else { (&self.server, &self.device) }
    }

    /// Takes bytes from one side, no faster than the link carries them.
    fn take(&self, link: &Link, is_up: bool, on_the_way: &SyncSender<InFlight>) {
        let (mut from, _) = self.ends(is_up);
        let way = if is_up { &link.up } else { &link.down };
        let mut buffer = vec![0; LARGEST_CHUNK];
        let mut passage = way.pass(0);
        loop {
            if let Some(how) = passage.end {
                drop(on_the_way.send(InFlight::End(passage.arrives_at, how)));
                return;
            }
            // A reset of one side also ends the other, though perhaps not with a reset.
            let Ok(size @ 1..) = from.read(&mut buffer[..way.chunk()]) else { return };
            passage = way.pass(size);
            way.wait_until(passage.leaves_at);
            let bytes = buffer[..passage.bytes].to_vec();
            if on_the_way.send(InFlight::Bytes(passage.arrives_at, bytes)).is_err() {
                return;
            }
        }
    }

    /// Passes bytes to the other side when they arrive there.
    fn deliver(&self, link: &Link, is_up: bool, on_the_way: &Receiver<InFlight>) {
        let (_, mut to) = self.ends(is_up);
        let way = if is_up { &link.up } else { &link.down };
        for item in on_the_way {
            match item {
                InFlight::Bytes(at, bytes) => {
                    way.wait_until(at);
                    if to.write_all(&bytes).is_err() {
                        break;
                    }
                }
                InFlight::End(at, how) => {
                    way.wait_until(at);
                    self.end(how, &link.over);
                }
            }
        }
        if !self.cut.load(Ordering::SeqCst) {
            drop(to.shutdown(Shutdown::Write));
        }
    }

    fn end(&self, how: ConnectionEnd, over: &Gate) {
        self.cut.store(true, Ordering::SeqCst);
        for side in [&self.device, &self.server] {
            match how {
                ConnectionEnd::Close => drop(side.shutdown(Shutdown::Both)),
                // It is closed when the threads, which this wakes, have dropped the socket.
                ConnectionEnd::Reset => {
                    drop(SockRef::from(side).set_linger(Some(Duration::ZERO)));
                    drop(side.shutdown(Shutdown::Read));
                }
                ConnectionEnd::BlackHole => {}
            }
        }
        if matches!(how, ConnectionEnd::BlackHole) {
            over.wait_until_open();
        }
    }
}
