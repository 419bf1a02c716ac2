//! Sends batches and outcome queries, several at a time, and says what the responses mean.
//!
//! It owns what belongs to the connection and not to the batch: the transport, the credential, the encodings that the
//! server accepts. Connectivity learns what a request showed of the link; the planner learns that the credential has
//! changed.

mod current_transport;
mod outputs;

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::sync::{Notify, watch};

use super::{BreakerOpen, ConfigWatch, Drain, LinkEvidence, Ping, Probe, QueryOutcome, ReportStatus, Upload};
use crate::clock::wall_ms;
use crate::config::Config;
use crate::link::signal;
use crate::model::{BatchId, ConnectFailure, DeviceId, InterfaceKind, Link, Network};
use crate::policy::outcome_reply::{OutcomeReply, QueriedOutcome, classify_outcome_reply};
use crate::policy::reach::Evidence;
use crate::policy::status_schedule::ReportReply;
use crate::policy::verdict::{UploadResult, Verdict, classify_response, last_error};
use crate::protocol::exchange::{Delivery, RequestResult};
use crate::transport::credential::Credentials;
use crate::transport::encoding::ContentEncoding;
use crate::transport::{ConnectionInvalidation, Exchange, SendOptions};
use current_transport::{CurrentTransport, NoTransport, follow_credentials};
pub use outputs::{ContactReporter, UploaderOutputs};

/// The actor.
pub struct Uploader {
    config: ConfigWatch,
    device: DeviceId,
    connectivity: Recipient<LinkEvidence>,
    link: watch::Receiver<Link>,
    invalidation: Rc<ConnectionInvalidation>,
    /// Ends a probe that is in the way of a batch or a query.
    probe_cancelled: Rc<Notify>,
    outputs: UploaderOutputs,
    /// The credentials as they were last read, and for which configuration.
    credentials: Option<(Arc<Config>, Credentials)>,
    current: Option<CurrentTransport>,
    accepted_encodings: Vec<ContentEncoding>,
    is_encoding_refused: bool,
}

impl Uploader {
    /// An actor that makes its connections when they are needed.
    pub fn new(
        config: ConfigWatch,
        device: DeviceId,
        connectivity: Recipient<LinkEvidence>,
        link: watch::Receiver<Link>,
        outputs: UploaderOutputs,
    ) -> Self {
        Self {
            config,
            device,
            connectivity,
            link,
            invalidation: Rc::default(),
            probe_cancelled: Rc::default(),
            outputs,
            credentials: None,
            current: None,
            accepted_encodings: Vec::new(),
            is_encoding_refused: false,
        }
    }

    /// The transport for a request that is worth more than a probe.
    fn transport_before_probes(&mut self) -> Result<CurrentTransport, NoTransport> {
        let current = self.current_transport()?;
        self.probe_cancelled.notify_waiters();
        Ok(current)
    }

    fn classify_exchange(
        &mut self,
        id: BatchId,
        encoding: Option<ContentEncoding>,
        used: &CurrentTransport,
        exchange: &Exchange,
    ) -> UploadResult {
        let verdict = classify_response(id, encoding.is_some(), &exchange.result);
        // Several requests are under way: this one may have gone to the server of an earlier configuration.
        if self.is_current(used) {
            if let Some(accepts) = &exchange.accepts {
                self.accepted_encodings.clone_from(accepts);
            }
            self.is_encoding_refused |= verdict == Verdict::EncodingRefused;
        }
        UploadResult {
            error: last_error(&verdict, &exchange.result, wall_ms()),
            verdict,
            elapsed: exchange.elapsed,
            is_replayed: exchange.result.is_replayed(),
            hints: Some(exchange.hints).filter(|_| exchange.result.is_protocol(id)),
            network: self.with_interface(exchange.network),
        }
    }

    /// Adds what the system knows of the link and a connection does not.
    fn with_interface(&self, network: Network) -> Network {
        let Link { interface, metered, .. } = *self.link.borrow();
        let is_wireless = interface == Some(InterfaceKind::Wifi);
        let signal_dbm =
            is_wireless.then(|| signal::read_signal_dbm(Path::new(signal::WIRELESS_FILE))).flatten();
        Network { interface, signal_dbm, metered, ..network }
    }

    fn report_link(&self, exchange: &Exchange, is_intercepted: bool) {
        let Exchange { result, date, .. } = exchange;
        self.outputs.contact.record(result, *date);
        if let Some(evidence) = link_evidence(result, is_intercepted)
            && let Err(error) = self.connectivity.try_send(evidence)
        {
            tracing::debug!(%error, "connectivity has no room for what a request showed of the link");
        }
    }
}

/// What a request shows of the link; a connection that is lost halfway shows nothing certain.
fn link_evidence(result: &RequestResult, is_intercepted: bool) -> Option<LinkEvidence> {
    let of_response = |evidence| Some(LinkEvidence { evidence, failure: None });
    match result {
        RequestResult::Response(_) if is_intercepted => of_response(Evidence::Intercepted),
        RequestResult::Response(_) => of_response(Evidence::ServerResponded),
        RequestResult::Failure(failure) if failure.delivery == Delivery::NotSent => {
            Some(LinkEvidence { evidence: Evidence::Unreachable, failure: failure.connect_failure })
        }
        RequestResult::Failure(_) => None,
    }
}

/// No server of the protocol responds like this to a query for a batch that it does not know.
fn is_from_portal(result: &RequestResult) -> bool {
    matches!(result, RequestResult::Response(response) if matches!(response.status, 200..=399 | 511))
}

impl Actor for Uploader {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(invalidate_connections(self.link.clone(), Rc::clone(&self.invalidation)).into_actor(self));
        ctx.spawn(follow_credentials(self.config.clone(), ctx.address()).into_actor(self));
    }
}

/// Notifies when existing connections can no longer be used.
async fn invalidate_connections(mut link: watch::Receiver<Link>, invalidation: Rc<ConnectionInvalidation>) {
    let mut before = *link.borrow_and_update();
    while link.changed().await.is_ok() {
        let now = *link.borrow_and_update();
        if now.path_changes != before.path_changes {
            invalidation.link_down.notify_waiters();
        } else if now.address_changes != before.address_changes {
            invalidation.address_changed.notify_waiters();
        }
        before = now;
    }
}

impl Handler<Upload> for Uploader {
    type Result = ResponseActFuture<Self, Result<UploadResult, BreakerOpen>>;

    fn handle(&mut self, upload: Upload, _: &mut Self::Context) -> Self::Result {
        let Upload { batch, response_deadline, is_denied_alone, new_connection } = upload;
        let current = match self.transport_before_probes() {
            Ok(current) => current,
            Err(none) => return Box::pin(actix::fut::ready(Ok(none.into_result()))),
        };
        let encoding = self.choose_encoding(&current);
        let options = SendOptions { encoding, response_deadline, new_connection };
        let id = batch.open.id;
        let first = current.transport.send_batch(Arc::clone(&batch), options);
        let sending = first.into_actor(self).then(move |exchange, uploader, _| {
            let result = uploader.classify_exchange(id, encoding, &current, &exchange);
            let renewed = match result.verdict {
                Verdict::Unauthorized => uploader.renewed_transport(&current),
                _ => None,
            };
            let second: LocalBoxFuture<'static, Option<(CurrentTransport, Exchange)>> = match renewed {
                Some(renewed) => {
                    let second = renewed.transport.send_batch(batch, options);
                    second.map(|exchange| Some((renewed, exchange))).boxed_local()
                }
                None => std::future::ready(None).boxed_local(),
            };
            second.into_actor(uploader).map(move |second, uploader, _| {
                let (result, exchange) = match second {
                    Some((renewed, second)) => {
                        (uploader.classify_exchange(id, encoding, &renewed, &second), second)
                    }
                    None => (result, exchange),
                };
                let is_intercepted = result.verdict == Verdict::Intercepted;
                if !(is_intercepted && is_denied_alone) {
                    uploader.report_link(&exchange, is_intercepted);
                }
                Ok(result)
            })
        });
        Box::pin(sending)
    }
}

impl Handler<QueryOutcome> for Uploader {
    type Result = ResponseActFuture<Self, QueriedOutcome>;

    fn handle(&mut self, QueryOutcome(id): QueryOutcome, _: &mut Self::Context) -> Self::Result {
        let Ok(current) = self.transport_before_probes() else {
            return Box::pin(actix::fut::ready(QueriedOutcome::unreachable()));
        };
        let querying = current.transport.query_outcome(id).into_actor(self);
        Box::pin(querying.map(move |exchange, uploader, _| {
            let reply = classify_outcome_reply(id, &exchange.result);
            let is_intercepted = reply == OutcomeReply::Unreachable && is_from_portal(&exchange.result);
            uploader.report_link(&exchange, is_intercepted);
            QueriedOutcome::new(reply, exchange.hints.holds_keys)
        }))
    }
}

impl Handler<Probe> for Uploader {
    type Result = ResponseFuture<Option<LinkEvidence>>;

    /// None where no request could be sent, or where a batch or a query took the place of the probe.
    fn handle(&mut self, Probe: Probe, _: &mut Self::Context) -> Self::Result {
        let Ok(current) = self.current_transport() else { return Box::pin(std::future::ready(None)) };
        let probing = current.transport.query_outcome(BatchId::new());
        let (cancelled, contact) = (Rc::clone(&self.probe_cancelled), self.outputs.contact.clone());
        Box::pin(async move {
            tokio::select! {
                exchange = probing => {
                    let is_intercepted = is_from_portal(&exchange.result);
                    contact.record(&exchange.result, exchange.date);
                    let no_response = Some(ConnectFailure::NoResponse);
                    let lost = LinkEvidence { evidence: Evidence::Unreachable, failure: no_response };
                    Some(link_evidence(&exchange.result, is_intercepted).unwrap_or(lost))
                }
                () = cancelled.notified() => None,
            }
        })
    }
}

impl Handler<ReportStatus> for Uploader {
    type Result = ResponseActFuture<Self, ReportReply>;

    /// A report that fails shows nothing of the link: the next batch finds out.
    fn handle(&mut self, ReportStatus(status): ReportStatus, _: &mut Self::Context) -> Self::Result {
        let Ok(current) = self.current_transport() else {
            return Box::pin(actix::fut::ready(ReportReply::Failed { retry_after: None }));
        };
        let reporting = current.transport.report_status(&status).into_actor(self);
        Box::pin(reporting.map(|exchange, uploader, _| {
            let reply = ReportReply::from_result(&exchange.result);
            if reply == ReportReply::Taken {
                uploader.report_link(&exchange, false);
            } else {
                tracing::debug!(result = ?exchange.result, "the server did not take the status of this device");
            }
            reply
        }))
    }
}

impl Handler<Ping> for Uploader {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for Uploader {
    type Result = ();

    /// The planner waits for the requests under way; kept connections end here.
    fn handle(&mut self, Drain: Drain, _: &mut Self::Context) {
        self.current = None;
    }
}
