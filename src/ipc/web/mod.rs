//! The page: the status, and the records that need review, wait or were sent today, for a browser on this device. It is
//! updated live, in the language that the browser asks for (`language`, `situation`).
//!
//! It is off until `web.listen` names a loopback address. Every user of the device and every web site in a browser can send
//! requests to a loopback port, so:
//!
//! - a request is rejected unless it names this device and comes from the page itself (`origin_check`);
//! - changes need an access code from a file (`access_code`), and so do reads if `web.reading` says so. There are no
//!   cookies, and other sites cannot read responses;
//! - an open page never sends the code, and sends nothing to another process that took over the port (`identity`);
//! - the port stays open while the daemon restarts, and the name `localhost` is accepted only if it leads to the daemon
//!   alone (`listeners`);
//! - the page shows less than the socket does: no payloads, and without the code no keys and nothing that may quote them
//!   (`view`);
//! - what it shows cannot become code: it is inserted as text, and the browser runs only the page's own script
//!   (`document`).
//!
//! The page is optional: a port that is in use is an error in the log, and the daemon continues without it. Changes of
//! `[web]` take effect on reload. Nothing runs while no page is open.

mod access_code;
mod document;
mod event_stream;
pub(crate) mod identity;
mod language;
mod listeners;
mod origin_check;
mod routes;
mod situation;
mod view;

use std::collections::HashSet;
use std::net::TcpListener as StdTcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection::{ConnectionOptions, serve_connection};
use super::state::ApiState;
use crate::actors::ConfigWatch;
use crate::actors::queue_store::Write;
use crate::config;
use crate::store::SaveNote;
use access_code::AccessCode;
use document::PageDocument;
use identity::PageIdentity;
use listeners::PageListeners;
use origin_check::AllowedHosts;
use view::PageViewer;

/// A page that has not read part of a response for this long is disconnected.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Limits what the kernel buffers for a page that does not read.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// The pause after a failed accept. The usual cause is a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);

/// What all requests for the page share.
struct PageContext {
    hosts: AllowedHosts,
    code: AccessCode,
    identity: Arc<PageIdentity>,
    document: PageDocument,
    /// One for each page that follows events.
    stream_slots: Arc<Semaphore>,
}

impl PageContext {
    fn viewer(&self, knows_code: bool) -> PageViewer {
        PageViewer {
            knows_code,
            may_change: self.code.is_configured(),
            needs_code: self.code.is_for_reading(),
        }
    }
}

/// What earlier runs of the daemon left for the page.
pub struct RestoredPage {
    /// From the store, as `identity::SECRET_NOTE`.
    pub secret: Option<Vec<u8>>,
    /// From systemd.
    pub listeners: Vec<StdTcpListener>,
}

/// Serves the page as `[web]` says, across reloads, until the daemon stops. Passes the sockets of the page to `keep` when
/// they change, so that they stay open for the next run.
pub async fn serve_page(state: ApiState, restored: RestoredPage, keep: impl Fn(Vec<OwnedFd>)) {
    let mut config = state.sources.config.clone();
    let mut shutdown = state.shutdown.clone();
    let mut listeners = PageListeners::adopt(restored.listeners);
    let clock = state.sources.clock;
    let mut identity =
        restored.secret.and_then(|secret| PageIdentity::new(&secret, clock).ok()).map(Arc::new);
    loop {
        let web = config.borrow_and_update().web.clone();
        listeners = open_listeners(&web, listeners, &keep);
        if identity.is_none() && !listeners.addresses().is_empty() {
            identity = create_identity(&state).map(Arc::new);
        }
        let serving = async {
            if let Some(identity) = &identity {
                accept_connections(&web, &listeners, &state, identity).await;
            }
        };
        let should_continue = tokio::select! {
            // Nothing can be served until a reload.
            () = serving => config.changed().await.is_ok(),
            has_changed = wait_for_config(&mut config, &web) => has_changed,
            _ = shutdown.wait_for(|is_stopping| *is_stopping) => false,
        };
        if !should_continue {
            return;
        }
    }
}

/// Creates the secret of this device's page. If the daemon crashes before the store has the secret, pages that are open
/// have to be loaded again.
fn create_identity(state: &ApiState) -> Option<PageIdentity> {
    let created = identity::create_secret().and_then(|secret| {
        let identity = PageIdentity::new(&secret, state.sources.clock)?;
        Ok((identity, secret))
    });
    let Ok((identity, secret)) = created else {
        tracing::error!(
            "the page cannot be served: the system provides no random bytes. Records are still accepted and sent"
        );
        return None;
    };
    let saved = state.store.send(Write(SaveNote { name: identity::SECRET_NOTE, note: secret }));
    actix_rt::spawn(async move {
        if !matches!(saved.await, Ok(Ok(()))) {
            tracing::warn!(
                "the secret of the page could not be saved: open pages have to be loaded again after a restart"
            );
        }
    });
    Some(identity)
}

/// Listens where `[web]` says. Passes the sockets to `keep` if they are not the previous ones.
fn open_listeners(web: &config::Web, previous: PageListeners, keep: impl Fn(Vec<OwnedFd>)) -> PageListeners {
    let addresses = |listeners: &PageListeners| listeners.addresses().into_iter().collect::<HashSet<_>>();
    let previous_addresses = addresses(&previous);
    let opened = web.address().map(|address| {
        PageListeners::open(address, previous).inspect_err(|error| {
            tracing::error!(
                "the page cannot be served on {address}: {error}. Records are still accepted and sent. To fix it: free that \
                 port or set web.listen to another one, then systemctl reload fieldsync"
            );
        })
    });
    let listeners = opened.and_then(Result::ok).unwrap_or_default();
    if addresses(&listeners) != previous_addresses {
        match listeners.duplicate_all() {
            Ok(duplicates) => keep(duplicates),
            Err(error) => tracing::warn!(%error, "the port of the page is free while the daemon restarts"),
        }
    }
    listeners
}

/// Waits until `[web]` changes. Returns false when the daemon is stopping.
async fn wait_for_config(config: &mut ConfigWatch, web: &config::Web) -> bool {
    config.wait_for(|config| config.web != *web).await.is_ok()
}

/// Ends all connections when it is dropped. Returns if there are no listeners.
async fn accept_connections(
    web: &config::Web,
    listeners: &PageListeners,
    state: &ApiState,
    identity: &Arc<PageIdentity>,
) {
    let addresses = listeners.addresses();
    let Some(address) = addresses.first() else {
        return;
    };
    let context = Arc::new(PageContext {
        hosts: AllowedHosts::new(&addresses),
        code: AccessCode::new(state.sources.clock, web.clone()),
        identity: Arc::clone(identity),
        document: PageDocument::new(),
        stream_slots: Arc::new(Semaphore::new(web.max_connections / 2)),
    });
    tracing::info!("the page is at http://{address}/");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listeners.accept(), if connections.len() < web.max_connections => match accepted {
                Ok(stream) => {
                    connections.spawn_local(handle_connection(stream, Arc::clone(&context), state.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection to the page");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn handle_connection(stream: TcpStream, context: Arc<PageContext>, state: ApiState) {
    if let Err(error) = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES) {
        tracing::debug!(%error, "could not limit the send buffer of a connection to the page");
    }
    // The daemon must notice at once when a page is closed.
    let options = ConnectionOptions { stall_timeout: STALL_TIMEOUT, half_closable: None };
    let handle = |request| routes::handle_request(&context, &state, request);
    if let Err(error) = serve_connection(stream, options, std::future::pending::<()>(), handle).await {
        tracing::debug!(%error, "a connection to the page ended early");
    }
}
