//! An HTTP proxy that supports only CONNECT, optionally over TLS.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;

/// The head of a request, line by line.
type Head = Vec<String>;

/// It listens until the tests end.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<Head>>>,
}

impl Proxy {
    /// A proxy that responds to every request with this status, and opens a tunnel if it is 200.
    pub(crate) fn start(status: &'static str) -> Self {
        Self::start_over(None, status)
    }

    /// As [`Self::start`], over TLS.
    pub(crate) fn start_over(tls: Option<Arc<ServerConfig>>, status: &'static str) -> Self {
        Self::start_at("127.0.0.1:0", tls, status)
    }

    /// As [`Self::start_over`], at the given address.
    pub(crate) fn start_at(listen: &str, tls: Option<Arc<ServerConfig>>, status: &'static str) -> Self {
        let listener = StdListener::bind(listen).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<Head>>> = Arc::default();
        let proxy = Self { address, heads: Arc::clone(&heads) };
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (tls, heads) = (tls.clone(), Arc::clone(&heads));
                    tokio::task::spawn_local(async move {
                        match tls {
                            None => serve(stream, status, &heads).await,
                            Some(tls) => match TlsAcceptor::from(tls).accept(stream).await {
                                Ok(stream) => serve(stream, status, &heads).await,
                                Err(_) => Some(()),
                            },
                        }
                    });
                }
            });
        });
        proxy
    }

    /// The requests that were received.
    pub(crate) fn heads(&self) -> Vec<Head> {
        self.heads.lock().unwrap().clone()
    }
}

/// `None` if the client closed the connection.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    status: &str,
    heads: &Mutex<Vec<Head>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        if line.trim_end().is_empty() {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let to = head.first()?.strip_prefix("CONNECT ")?.strip_suffix(" HTTP/1.1")?.to_owned();
    heads.lock().unwrap().push(head);
    let length = if status.starts_with("200") { "" } else { "Content-Length: 0\r\n" };
    stream.write_all(format!("HTTP/1.1 {status}\r\n{length}\r\n").as_bytes()).await.ok()?;
    stream.flush().await.ok()?;
    if status.starts_with("200") {
        // Not every hosts file has absolute names.
        let mut server = TcpStream::connect(to.replace(".:", ":")).await.ok()?;
        copy_bidirectional(&mut stream, &mut server).await.ok()?;
    }
    Some(())
}
