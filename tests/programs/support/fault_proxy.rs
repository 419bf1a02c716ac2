//! A link that is slow and breaks on command: a TCP proxy of the tests' own, for which nobody has to be root.
//!
//! Each way has its latency, its bandwidth, which all connections share, and the point where it ends.
//! The sockets hold next to nothing: with the usual buffers whatever is sent would seem to have arrived
//! long before it went over the link. The handshake is the kernel's own and costs no time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fieldsync::clock::Clock;
use socket2::{Domain, SockRef, Socket, Type};

use super::reply::Gate;
use super::wait::pace;

/// Nobody else listens here: a port that is free for a moment stays free.
const ANY_PORT: &str = "127.77.0.3:0";
/// Of each socket. The kernel doubles it, and uses half of that for its own books.
const BUFFER: usize = 4096;
const LARGEST_CHUNK: usize = 16 << 10;
/// Chunks on their way: more than latency and bandwidth of any link here make.
const ON_THE_WAY: usize = 256;

/// How a connection ends.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// In order, as far as both sides can tell.
    Close,
    /// With a reset.
    Reset,
    /// Not at all: nothing is read or forwarded any more.
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
    up: Way,
    down: Way,
    /// Open when nobody has to fall into a black hole any more.
    over: Gate,
}

/// One way of the link.
#[derive(Default)]
pub(crate) struct Way(Mutex<State>);

struct State {
    clock: Clock,
    delay: Duration,
    bytes_per_second: Option<u32>,
    /// When the last byte so far has left.
    free_at: Duration,
    /// Bytes until an end, for the connection that gets there.
    end: Option<(usize, End)>,
    carried: usize,
}

impl Default for State {
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

/// What a way makes of bytes that wait to go over it.
struct Passage {
    bytes: usize,
    leaves_at: Duration,
    arrives_at: Duration,
    end: Option<End>,
}

impl Way {
    pub(crate) fn delay(&self, one_way: Duration) {
        self.0.lock().unwrap().delay = one_way;
    }

    pub(crate) fn bytes_per_second(&self, bytes: u32) {
        self.0.lock().unwrap().bytes_per_second = Some(bytes);
    }

    /// Ends one connection, the first that gets there, so many bytes from now.
    pub(crate) fn end_after(&self, bytes: usize, how: End) {
        self.0.lock().unwrap().end = Some((bytes, how));
    }

    /// The end that was asked for has come.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.lock().unwrap().end.is_none()
    }

    /// Bytes that went over it, of all connections.
    pub(crate) fn carried(&self) -> usize {
        self.0.lock().unwrap().carried
    }

    /// The most that may be taken at a time.
    fn chunk(&self) -> usize {
        let rate = self.0.lock().unwrap().bytes_per_second;
        // What goes over the link in 20 ms.
        rate.map_or(LARGEST_CHUNK, |rate| (rate as usize / 50).clamp(64, LARGEST_CHUNK))
    }

    fn pass(&self, bytes: usize) -> Passage {
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
        Passage { bytes, leaves_at, arrives_at: leaves_at + state.delay, end }
    }

    fn wait_until(&self, moment: Duration) {
        let clock = self.0.lock().unwrap().clock;
        pace(moment.saturating_sub(clock.now()));
    }
}

impl FaultProxy {
    /// A link to a server, and nothing wrong with it.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let link = Link { to: server, up: Way::default(), down: Way::default(), over: Gate::default() };
        let mut proxy = Self { address: ANY_PORT.parse().unwrap(), link: Arc::new(link), accepting: None };
        proxy.accept();
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From the device to the server.
    pub(crate) fn up(&self) -> &Way {
        &self.link.up
    }

    /// From the server to the device.
    pub(crate) fn down(&self) -> &Way {
        &self.link.down
    }

    /// New connections are refused from now on.
    pub(crate) fn refuse(&mut self) {
        let Some((listener, thread)) = self.accepting.take() else { return };
        // This is what wakes a thread that waits for connections.
        SockRef::from(&listener).shutdown(Shutdown::Both).unwrap();
        thread.join().unwrap();
    }

    /// New connections are taken from now on.
    pub(crate) fn accept(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        // What is accepted has the buffers of what listens.
        shrink(SockRef::from(&listener)).unwrap();
        self.address = listener.local_addr().unwrap();
        let (link, incoming) = (Arc::clone(&self.link), listener.try_clone().unwrap());
        let thread = thread::spawn(move || {
            while let Ok((device, _)) = incoming.accept() {
                // A server that is gone is for the device to notice.
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

/// One connection of a device, and the one to the server that belongs to it.
struct Connection {
    device: TcpStream,
    server: TcpStream,
    /// Ended by a fault: what comes to its threads now is not the other side's doing.
    cut: AtomicBool,
}

/// What is on its way.
enum Item {
    Bytes(Duration, Vec<u8>),
    End(Duration, End),
}

impl Connection {
    fn open(device: TcpStream, link: &Arc<Link>) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(link.to), Type::STREAM, None)?;
        shrink(SockRef::from(&socket))?;
        socket.connect(&link.to.into())?;
        let this = Arc::new(Self { device, server: socket.into(), cut: AtomicBool::new(false) });
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

    /// Takes bytes from one side, no faster than the link does.
    fn take(&self, link: &Link, is_up: bool, on_the_way: &SyncSender<Item>) {
        let (mut from, _) = self.ends(is_up);
        let way = if is_up { &link.up } else { &link.down };
        let mut buffer = vec![0; LARGEST_CHUNK];
        let mut passage = way.pass(0);
        loop {
            if let Some(how) = passage.end {
                drop(on_the_way.send(Item::End(passage.arrives_at, how)));
                return;
            }
            // A reset of one side ends the other, too, if not by a reset.
            let Ok(size @ 1..) = from.read(&mut buffer[..way.chunk()]) else { return };
            passage = way.pass(size);
            way.wait_until(passage.leaves_at);
            let bytes = buffer[..passage.bytes].to_vec();
            if on_the_way.send(Item::Bytes(passage.arrives_at, bytes)).is_err() {
                return;
            }
        }
    }

    /// Hands bytes over to the other side when they arrive there.
    fn deliver(&self, link: &Link, is_up: bool, on_the_way: &Receiver<Item>) {
        let (_, mut to) = self.ends(is_up);
        let way = if is_up { &link.up } else { &link.down };
        for item in on_the_way {
            match item {
                Item::Bytes(at, bytes) => {
                    way.wait_until(at);
                    if to.write_all(&bytes).is_err() {
                        break;
                    }
                }
                Item::End(at, how) => {
                    way.wait_until(at);
                    self.end(how, &link.over);
                }
            }
        }
        if !self.cut.load(Ordering::SeqCst) {
            drop(to.shutdown(Shutdown::Write));
        }
    }

    fn end(&self, how: End, over: &Gate) {
        self.cut.store(true, Ordering::SeqCst);
        for side in [&self.device, &self.server] {
            match how {
                End::Close => drop(side.shutdown(Shutdown::Both)),
                // It goes out when the threads, which this wakes, have let go of the socket.
                End::Reset => {
                    drop(SockRef::from(side).set_linger(Some(Duration::ZERO)));
                    drop(side.shutdown(Shutdown::Read));
                }
                End::BlackHole => {}
            }
        }
        if matches!(how, End::BlackHole) {
            over.pass();
        }
    }
}
