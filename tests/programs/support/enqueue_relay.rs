//! A socket in front of a daemon that forwards all requests, but disturbs the second one that enqueues.

use std::io::{Read, Write, copy, sink};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::daemon::Home;

/// What happens to the second request that enqueues.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// It does not reach the daemon, and its connection stays open.
    Held,
    /// It reaches the daemon, but its response does not come back. Its connection ends with the daemon.
    ResponseLost,
}

/// The socket, which works until the tests end. The receiver reports the second request.
pub(crate) fn enqueue_relay(home: &Home, second: Disturbance) -> (PathBuf, Receiver<()>) {
    let (socket, behind) = (home.path("relay.sock"), home.socket());
    let listener = UnixListener::bind(&socket).unwrap();
    let (sender, second_request) = channel();
    thread::spawn(move || {
        let mut enqueueings = 0;
        let mut kept = Vec::new();
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut first = [0; 5];
            client.read_exact(&mut first).unwrap();
            let enqueues = &first == b"POST ";
            enqueueings += u32::from(enqueues);
            let is_second = enqueues && enqueueings == 2;
            if is_second {
                sender.send(()).ok();
            }
            if is_second && second == Disturbance::Held {
                kept.push(client);
                continue;
            }
            // While no daemon runs, the connection ends at once.
            let Ok(mut daemon) = UnixStream::connect(&behind) else { continue };
            if daemon.write_all(&first).is_err() {
                continue;
            }
            let (mut responses, mut reader) = (daemon.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                if is_second {
                    drop(copy(&mut responses, &mut sink()));
                } else {
                    drop(copy(&mut responses, &mut client));
                }
                drop(client.shutdown(Shutdown::Both));
            });
            thread::spawn(move || {
                drop(copy(&mut reader, &mut daemon));
                drop(daemon.shutdown(Shutdown::Write));
            });
        }
    });
    (socket, second_request)
}
