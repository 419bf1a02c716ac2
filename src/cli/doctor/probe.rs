//! Asks the server for the outcome of a batch that was never sent, with the daemon's own transport.
//!
//! The response checks address, path, credential and protocol at once, and the request changes nothing.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::secrets::{GatheredCredentials, ProbeToken};
use crate::api::Status;
use crate::config::Config;
use crate::device_name::device_name;
use crate::model::{BatchId, DeviceId};
use crate::transport::http::{DeviceIdentity, HttpTransport, TransportError};
use crate::transport::{ConnectionInvalidation, Exchange, Transport};

/// For the whole request, whatever the limits of its parts are.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) enum ProbeResult {
    /// No server is configured.
    NoServer,
    /// The transport could not be set up.
    Unusable(TransportError),
    /// The transport could not be set up because this user may not read a file.
    FileUnreadable,
    TimedOut,
    Done {
        exchange: Box<Exchange>,
        batch: BatchId,
        token_use: TokenUse,
    },
}

/// Whether the request carried a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenUse {
    Sent,
    NotConfigured,
    Withheld,
}

impl ProbeResult {
    /// The server's clock, since 1970.
    pub(super) fn server_time(&self) -> Option<Duration> {
        match self {
            Self::Done { exchange, .. } => exchange.date,
            _ => None,
        }
    }
}

pub(super) async fn probe_server(credentials: &GatheredCredentials, status: Option<&Status>) -> ProbeResult {
    let server = &credentials.server;
    if server.url.is_empty() {
        return ProbeResult::NoServer;
    }
    let (token, token_use) = match &credentials.token {
        ProbeToken::Use(Some(token)) => (Some(token.clone()), TokenUse::Sent),
        ProbeToken::Use(None) => (None, TokenUse::NotConfigured),
        ProbeToken::Withheld => (None, TokenUse::Withheld),
    };
    let device = DeviceIdentity {
        id: status.map_or_else(|| DeviceId(Uuid::new_v4()), |status| status.device_id),
        name: status.map_or_else(|| device_name(&Config::default()), |status| status.device_name.clone()),
    };
    let batch = BatchId::new();
    // The transport lives on one thread.
    let local = LocalSet::new();
    let request = local.run_until(async {
        let transport =
            HttpTransport::new(server, 1, device, token, Rc::new(ConnectionInvalidation::default()))?;
        Ok(timeout(PROBE_TIMEOUT, transport.query_outcome(batch)).await)
    });
    match request.await {
        Ok(Ok(exchange)) => ProbeResult::Done { exchange: Box::new(exchange), batch, token_use },
        Ok(Err(_)) => ProbeResult::TimedOut,
        Err(_) if credentials.has_unreadable_file() => ProbeResult::FileUnreadable,
        Err(error) => ProbeResult::Unusable(error),
    }
}
