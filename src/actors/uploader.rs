//! Sends batches and looks outcomes up, one request at a time, and says what the answers mean.
//!
//! It owns what belongs to the way and not to the batch: the transport, the credential, the
//! encodings that the server takes. What it learns about the link it tells connectivity; that the
//! credential is another one, the planner.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::sync::{Notify, watch};

use super::{ConfigWatch, Drain, LinkEvidence, LookUp, Ping, Probe, Refused, Upload, Uploaded};
use crate::clock::wall_ms;
use crate::config::Config;
use crate::link::signal;
use crate::model::{BatchId, DeviceId, InterfaceKind, LastError, Link, Network};
use crate::policy::outcome_reply::{OutcomeReply, classify_outcome_reply};
use crate::policy::reach::Evidence;
use crate::policy::verdict::{Verdict, classify_response, last_error};
use crate::protocol::exchange::{Delivery, RequestResult, Response, ResponseBody};
use crate::transport::credential::{CredentialWatch, Credentials, Token};
use crate::transport::encoding::ContentEncoding;
use crate::transport::http::HttpTransport;
use crate::transport::{ConnectionInvalidation, Exchange, Transport};

/// Something happened to a file of the way, or it is another file now.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
struct Look;

/// The actor.
pub struct Uploader {
    config: ConfigWatch,
    device: DeviceId,
    connectivity: Recipient<LinkEvidence>,
    link: watch::Receiver<Link>,
    invalidation: Rc<ConnectionInvalidation>,
    /// Told when a probe is in the way of something that matters.
    superseded: Rc<Notify>,
    /// Counts the changes of the credentials.
    renewed: watch::Sender<u64>,
    /// The credentials as they were last read, for which configuration.
    credentials: Option<(Arc<Config>, Credentials)>,
    way: Option<Way>,
    accepted: Vec<ContentEncoding>,
    plain_only: bool,
}

/// A transport and the configuration that it was made from.
#[derive(Clone)]
struct Way {
    config: Arc<Config>,
    transport: Rc<dyn Transport>,
}

/// There is no way to send: what would have been the answer.
struct NoWay {
    verdict: Verdict,
    message: String,
}

impl Uploader {
    /// An actor that makes its connections when they are needed.
    pub fn new(
        config: ConfigWatch,
        device: DeviceId,
        connectivity: Recipient<LinkEvidence>,
        link: watch::Receiver<Link>,
        renewed: watch::Sender<u64>,
    ) -> Self {
        Self {
            config,
            device,
            connectivity,
            link,
            invalidation: Rc::default(),
            superseded: Rc::default(),
            renewed,
            credentials: None,
            way: None,
            accepted: Vec::new(),
            plain_only: false,
        }
    }

    /// Reads the credentials anew. Whoever waits because of the old ones is told once they are others.
    fn look(&mut self) -> Credentials {
        let config = Arc::clone(&self.config.borrow());
        let now = Credentials::read_configured(&config.server);
        let before = self.credentials.replace((Arc::clone(&config), now.clone()));
        let before = before.filter(|(of, _)| Arc::ptr_eq(of, &config)).map(|(_, before)| before);
        if before.as_ref() == Some(&now) {
            tracing::debug!("the credentials are the same as before");
            return now;
        }
        self.way = None;
        if let Err(refusal) = now.token() {
            tracing::error!("{refusal}");
        } else if before.is_some() {
            tracing::info!("the credential or a certificate is another one now, and is used from now on");
        }
        // With another configuration the planner tries again anyway.
        if before.is_some() {
            self.renewed.send_modify(|renewed| *renewed += 1);
        }
        now
    }

    /// The transport for the configuration as it is now.
    fn way(&mut self) -> Result<Way, NoWay> {
        let config = Arc::clone(&self.config.borrow());
        if let Some(way) = &self.way
            && Arc::ptr_eq(&way.config, &config)
        {
            return Ok(way.clone());
        }
        let token = self
            .look()
            .token()
            .map_err(|refusal| NoWay { verdict: Verdict::Unauthorized, message: refusal.to_string() })?;
        self.make_way(config, token)
    }

    fn make_way(&mut self, config: Arc<Config>, token: Option<Token>) -> Result<Way, NoWay> {
        let transport = HttpTransport::new(&config.server, self.device, token, Rc::clone(&self.invalidation))
            .map_err(|error| NoWay { verdict: Verdict::EndpointNotFound, message: error.to_string() })?;
        let way = Way { config, transport: Rc::new(transport) };
        self.way = Some(way.clone());
        self.plain_only = false;
        Ok(way)
    }

    /// The credential may have been replaced since this way was made. None when it is still the same.
    fn another_way(&mut self, old: &Way) -> Option<Way> {
        self.look();
        self.way().ok().filter(|way| !Rc::ptr_eq(&way.transport, &old.transport))
    }

    fn encoding(&self, config: &Config) -> Option<ContentEncoding> {
        let chosen = ContentEncoding::choose(config.server.compression, &self.accepted);
        chosen.filter(|_| !self.plain_only)
    }

    fn judged(&mut self, id: BatchId, encoding: Option<ContentEncoding>, exchange: &Exchange) -> Uploaded {
        if let Some(accepts) = &exchange.accepts {
            self.accepted.clone_from(accepts);
        }
        let verdict = classify_response(id, encoding.is_some(), &exchange.result);
        if verdict == Verdict::EncodingRefused {
            self.plain_only = true;
        }
        Uploaded {
            error: last_error(&verdict, &exchange.result, wall_ms()),
            verdict,
            took: exchange.took,
            replayed: is_replayed(&exchange.result),
            hints: Some(exchange.hints).filter(|_| exchange.result.is_protocol(id)),
            network: self.seen_from_here(exchange.network),
        }
    }

    /// With what the system knows of the link and a connection does not.
    fn seen_from_here(&self, network: Network) -> Network {
        let interface = self.link.borrow().interface;
        let wireless = interface == Some(InterfaceKind::Wifi);
        let signal_dbm =
            wireless.then(|| signal::read_signal_dbm(Path::new(signal::WIRELESS_FILE))).flatten();
        Network { interface, signal_dbm, ..network }
    }

    fn tell_link(&self, seen: &RequestResult, interfered: bool) {
        if let Some(evidence) = evidence(seen, interfered)
            && let Err(error) = self.connectivity.try_send(LinkEvidence(evidence))
        {
            tracing::debug!(%error, "news of the link found no room");
        }
    }
}

/// What an exchange says about the link; a connection lost in the middle says nothing certain.
fn evidence(seen: &RequestResult, interfered: bool) -> Option<Evidence> {
    match seen {
        RequestResult::Response(_) if interfered => Some(Evidence::Portal),
        RequestResult::Response(_) => Some(Evidence::Reached),
        RequestResult::Failure(failure) => {
            (failure.delivery == Delivery::NotSent).then_some(Evidence::Unreachable)
        }
    }
}

/// No server of the protocol answers a look-up that it knows nothing of like this.
fn is_from_portal(seen: &RequestResult) -> bool {
    matches!(seen, RequestResult::Response(answer) if matches!(answer.status, 200..=399 | 511))
}

/// Whether the answer was given before, perhaps to a request of which nobody here heard again.
fn is_replayed(seen: &RequestResult) -> bool {
    matches!(seen, RequestResult::Response(Response { body: ResponseBody::Batch(batch), .. }) if batch.replayed)
}

fn without_way(no_way: NoWay) -> Uploaded {
    let class = no_way.verdict.class().to_owned();
    let error = LastError { class, http_status: None, code: None, message: no_way.message, at: wall_ms() };
    Uploaded {
        verdict: no_way.verdict,
        error,
        took: std::time::Duration::ZERO,
        replayed: false,
        hints: None,
        network: Network::default(),
    }
}

impl Actor for Uploader {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(follow_paths(self.link.clone(), Rc::clone(&self.invalidation)).into_actor(self));
        ctx.spawn(follow_credentials(self.config.clone(), ctx.address()).into_actor(self));
    }
}

/// Tells when connections that were made before are of no use.
async fn follow_paths(mut link: watch::Receiver<Link>, invalidation: Rc<ConnectionInvalidation>) {
    let mut before = *link.borrow_and_update();
    while link.changed().await.is_ok() {
        let now = *link.borrow_and_update();
        if now.paths != before.paths {
            invalidation.link_down.notify_waiters();
        } else if now.moves != before.moves {
            invalidation.address_changed.notify_waiters();
        }
        before = now;
    }
}

/// Has the credentials looked at whenever they may be others.
async fn follow_credentials(mut config: ConfigWatch, uploader: Addr<Uploader>) {
    loop {
        // First the watch, then the look: no change falls in between.
        let watch = CredentialWatch::start(&config.borrow_and_update().server);
        if uploader.send(Look).await.is_err() {
            return;
        }
        tokio::select! {
            () = watch.changed() => {}
            changed = config.changed() => if changed.is_err() { return },
        }
    }
}

impl Handler<Look> for Uploader {
    type Result = ();

    fn handle(&mut self, Look: Look, _: &mut Self::Context) {
        self.look();
    }
}

impl Handler<Upload> for Uploader {
    type Result = ResponseActFuture<Self, Result<Uploaded, Refused>>;

    fn handle(&mut self, upload: Upload, _: &mut Self::Context) -> Self::Result {
        let Upload { batch, patience, is_denied_alone } = upload;
        let way = match self.way() {
            Ok(way) => way,
            Err(no_way) => return Box::pin(actix::fut::ready(Ok(without_way(no_way)))),
        };
        self.superseded.notify_waiters();
        let encoding = self.encoding(&way.config);
        let id = batch.open.id;
        let first = way.transport.send_batch(Arc::clone(&batch), encoding, patience).into_actor(self);
        Box::pin(
            first
                .then(move |exchange, uploader, _| {
                    let uploaded = uploader.judged(id, encoding, &exchange);
                    let again: LocalBoxFuture<'static, Option<Exchange>> = match uploaded.verdict {
                        Verdict::Unauthorized => match uploader.another_way(&way) {
                            Some(way) => {
                                way.transport.send_batch(batch, encoding, patience).map(Some).boxed_local()
                            }
                            None => std::future::ready(None).boxed_local(),
                        },
                        _ => std::future::ready(None).boxed_local(),
                    };
                    again.into_actor(uploader).map(move |again, uploader, _| {
                        let (uploaded, exchange) = match again {
                            Some(again) => (uploader.judged(id, encoding, &again), again),
                            None => (uploaded, exchange),
                        };
                        let interfered = uploaded.verdict == Verdict::Intercepted;
                        if !(interfered && is_denied_alone) {
                            uploader.tell_link(&exchange.result, interfered);
                        }
                        uploaded
                    })
                })
                .map(|uploaded, _, _| Ok(uploaded)),
        )
    }
}

impl Handler<LookUp> for Uploader {
    type Result = ResponseActFuture<Self, OutcomeReply>;

    fn handle(&mut self, LookUp(id): LookUp, _: &mut Self::Context) -> Self::Result {
        let Ok(way) = self.way() else {
            return Box::pin(actix::fut::ready(OutcomeReply::Unreachable));
        };
        self.superseded.notify_waiters();
        Box::pin(way.transport.query_outcome(id).into_actor(self).map(move |exchange, uploader, _| {
            let found = classify_outcome_reply(id, &exchange.result);
            uploader.tell_link(
                &exchange.result,
                found == OutcomeReply::Unreachable && is_from_portal(&exchange.result),
            );
            found
        }))
    }
}

impl Handler<Probe> for Uploader {
    type Result = ResponseFuture<Option<Evidence>>;

    /// Tells nothing where nobody was asked, or where something that matters took its place.
    fn handle(&mut self, Probe: Probe, _: &mut Self::Context) -> Self::Result {
        let Ok(way) = self.way() else { return Box::pin(std::future::ready(None)) };
        let (probing, superseded) =
            (way.transport.query_outcome(BatchId::new()), Rc::clone(&self.superseded));
        Box::pin(async move {
            tokio::select! {
                exchange = probing => {
                    let portal = is_from_portal(&exchange.result);
                    Some(evidence(&exchange.result, portal).unwrap_or(Evidence::Unreachable))
                }
                () = superseded.notified() => None,
            }
        })
    }
}

impl Handler<Ping> for Uploader {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for Uploader {
    type Result = ();

    /// What is under way is the planner's to wait for; connections that are kept end here.
    fn handle(&mut self, Drain: Drain, _: &mut Self::Context) {
        self.way = None;
    }
}
