//! The page: the status for a browser on the device itself, live, and records that need review.
//!
//! It is off until `web.listen` names an address of this device alone. A port of the loopback is open
//! to every user and to every page that a browser here shows, so:
//!
//! - only requests that name this device and that no other site has caused are heard (`guard`);
//! - changes need a code from a file (`code`), reading does where `web.reading` says so. Nothing is
//!   believed because of who asks: there are no cookies, and other sites are told nothing of answers;
//! - an open page sends nothing to a process that took the daemon's place, and never the code itself (`identity`);
//! - its port is held while the daemon restarts, and `localhost` is heard only where it leads to the daemon alone
//!   (`listen`);
//! - it shows less than the socket does: neither payloads nor keys, nor what may quote them (`view`);
//! - nothing that it shows can become a part of the page: it is put in as text, and the browser is told
//!   to run only what stands in the page itself (`page`).
//!
//! The page is not what the daemon is for: a port that is in use is an error in the log, and everything
//! else goes on. A change of `[web]` takes effect by a reload. Nobody looks, nothing runs.

mod code;
mod guard;
pub(crate) mod identity;
mod listen;
mod live;
mod page;
mod routes;
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

use super::connection::{self, Options};
use super::state::Shared;
use crate::actors::ConfigWatch;
use crate::actors::queue_store::Write;
use crate::config;
use crate::store::Remember;
use code::Code;
use guard::Hosts;
use identity::Identity;
use listen::Listeners;
use page::Page;
use view::Audience;

/// Whoever has not taken a part of an answer in this time is gone.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// What the kernel keeps of answers for a reader that does not read, at most.
const SEND_BUFFER: usize = 64 << 10;
/// The pause after accept failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What every request to one listener may use.
struct Site {
    hosts: Hosts,
    code: Code,
    identity: Arc<Identity>,
    page: Page,
    /// For pages that follow what happens.
    streams: Arc<Semaphore>,
}

impl Site {
    fn audience(&self) -> Audience {
        Audience { knows_code: self.code.is_for_reading(), may_retry: self.code.is_configured() }
    }
}

/// What earlier runs of the daemon left for the page.
pub struct Kept {
    /// From the store, under `identity::NOTE`.
    pub secret: Option<Vec<u8>>,
    /// From systemd.
    pub listeners: Vec<StdTcpListener>,
}

/// Serves the page as `[web]` says, from one reload to the next, until the daemon ends. `keep` is given the sockets of
/// the page whenever they change, to hold them open for the next run.
pub async fn follow(shared: Shared, kept: Kept, keep: impl Fn(Vec<OwnedFd>)) {
    let mut config = shared.board.config.clone();
    let mut shutdown = shared.shutdown.clone();
    let mut listeners = Listeners::adopt(kept.listeners);
    let mut identity =
        kept.secret.and_then(|secret| Identity::new(&secret, shared.board.clock).ok()).map(Arc::new);
    loop {
        let web = config.borrow_and_update().web.clone();
        listeners = listen(&web, listeners, &keep);
        if identity.is_none() && !listeners.addresses().is_empty() {
            identity = create_identity(&shared).map(Arc::new);
        }
        let serving = async {
            if let Some(identity) = &identity {
                serve(&web, &listeners, &shared, identity).await;
            }
        };
        let goes_on = tokio::select! {
            // It ended because nothing can be served: the next reload may mend that.
            () = serving => config.changed().await.is_ok(),
            changed = changed(&mut config, &web) => changed,
            _ = shutdown.wait_for(|ends| *ends) => false,
        };
        if !goes_on {
            return;
        }
    }
}

/// For the first page that this device ever serves. A page that is loaded before the store has the secret may have to
/// be loaded again after a crash.
fn create_identity(shared: &Shared) -> Option<Identity> {
    let created = identity::create_secret().and_then(|secret| {
        let identity = Identity::new(&secret, shared.board.clock)?;
        Ok((identity, secret))
    });
    let Ok((identity, secret)) = created else {
        tracing::error!(
            "the page cannot be served: the system gives no random bytes. Records are taken and sent all the same"
        );
        return None;
    };
    let kept = shared.store.send(Write(Remember { name: identity::NOTE, note: secret }));
    actix_rt::spawn(async move {
        if !matches!(kept.await, Ok(Ok(()))) {
            tracing::warn!(
                "the store did not keep the secret of the page: pages that are open have to be loaded again after a restart"
            );
        }
    });
    Some(identity)
}

/// Listens where `[web]` says, and has the sockets kept if they are others than before.
fn listen(web: &config::Web, previous: Listeners, keep: impl Fn(Vec<OwnedFd>)) -> Listeners {
    let addresses = |listeners: &Listeners| listeners.addresses().into_iter().collect::<HashSet<_>>();
    let previous_addresses = addresses(&previous);
    let opened = web.address().map(|address| {
        Listeners::open(address, previous).inspect_err(|error| {
            tracing::error!(
                "the page cannot be served on {address}: {error}. Records are taken and sent all the same. To mend it: \
                 free that port or set web.listen to another one, then systemctl reload fieldsync"
            );
        })
    });
    let listeners = opened.and_then(Result::ok).unwrap_or_default();
    if addresses(&listeners) != previous_addresses {
        match listeners.duplicate() {
            Ok(duplicates) => keep(duplicates),
            Err(error) => tracing::warn!(%error, "the port of the page is free while the daemon restarts"),
        }
    }
    listeners
}

/// Waits until `[web]` is another; false when the daemon ends.
async fn changed(config: &mut ConfigWatch, web: &config::Web) -> bool {
    config.wait_for(|config| config.web != *web).await.is_ok()
}

/// Serves; dropping it ends every connection. It ends by itself when there is nothing to listen on.
async fn serve(web: &config::Web, listeners: &Listeners, shared: &Shared, identity: &Arc<Identity>) {
    let addresses = listeners.addresses();
    let Some(address) = addresses.first() else {
        return;
    };
    let site = Arc::new(Site {
        hosts: Hosts::of(&addresses),
        code: Code::new(shared.board.clock, web.clone()),
        identity: Arc::clone(identity),
        page: Page::new(),
        streams: Arc::new(Semaphore::new(web.max_connections / 2)),
    });
    tracing::info!("the page is at http://{address}/");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listeners.accept(), if connections.len() < web.max_connections => match accepted {
                Ok(stream) => {
                    connections.spawn_local(connection(stream, Arc::clone(&site), shared.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the page could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, site: Arc<Site>, shared: Shared) {
    if let Err(error) = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER) {
        tracing::debug!(%error, "the kernel keeps as much as it likes for a reader of the page");
    }
    // A page that was closed is noticed at once, not at the next event.
    let options = Options { stall_timeout: STALL_LIMIT, half_closable: None };
    let respond = |request| routes::respond(&site, &shared, request);
    if let Err(error) = connection::serve(stream, options, std::future::pending::<()>(), respond).await {
        tracing::debug!(%error, "a connection to the page broke off");
    }
}
