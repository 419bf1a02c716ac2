//! A load balancer: each connection goes to the next server, byte for byte.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The balancer; it listens until it is dropped.
pub(crate) struct Balancer {
    address: SocketAddr,
    has_ended: Arc<AtomicBool>,
}

impl Balancer {
    /// Starts it in front of these servers.
    pub(crate) fn start(servers: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&has_ended);
        thread::spawn(move || {
            for (client, server) in listener.incoming().zip(servers.iter().cycle()) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let client = Arc::new(client.unwrap());
                // A server that refuses the connection closes that of the client.
                if let Ok(server) = TcpStream::connect(server).map(Arc::new) {
                    copy_in_thread(&client, &server);
                    copy_in_thread(&server, &client);
                }
            }
        });
        Self { address, has_ended }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::SeqCst);
        // The listener waits for a connection; this one ends the wait.
        drop(TcpStream::connect(self.address));
    }
}

fn copy_in_thread(from: &Arc<TcpStream>, to: &Arc<TcpStream>) {
    let (from, to) = (Arc::clone(from), Arc::clone(to));
    thread::spawn(move || {
        // It ends when one side does; the other side learns it.
        drop(io::copy(&mut &*from, &mut &*to));
        drop(to.shutdown(Shutdown::Write));
    });
}
