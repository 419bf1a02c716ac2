//! The transport for the present configuration and credentials. It is made when it is first needed.

use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;

use super::Uploader;
use crate::actors::ConfigWatch;
use crate::clock::wall_ms;
use crate::config::Config;
use crate::device_name::device_name;
use crate::model::{LastError, Network};
use crate::policy::verdict::{UploadResult, Verdict};
use crate::transport::Transport;
use crate::transport::credential::{CredentialWatch, Credentials, Token};
use crate::transport::encoding::ContentEncoding;
use crate::transport::http::{DeviceIdentity, HttpTransport};

/// A file of the credentials changed, or another file is configured.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct ReloadCredentials;

/// A transport and the configuration that it was made from.
#[derive(Clone)]
pub(super) struct CurrentTransport {
    config: Arc<Config>,
    pub(super) transport: Rc<dyn Transport>,
}

/// Why no request can be sent.
pub(super) struct NoTransport {
    verdict: Verdict,
    message: String,
}

impl NoTransport {
    /// The result of an upload that was not tried.
    pub(super) fn into_result(self) -> UploadResult {
        let Self { verdict, message } = self;
        let class = verdict.class().to_owned();
        UploadResult {
            verdict,
            error: LastError { class, http_status: None, code: None, message, field: None, at: wall_ms() },
            elapsed: std::time::Duration::ZERO,
            is_replayed: false,
            hints: None,
            network: Network::default(),
        }
    }
}

impl Uploader {
    /// Reads the credentials again. The planner learns when they have changed.
    fn reload_credentials(&mut self) -> Credentials {
        let config = Arc::clone(&self.config.borrow());
        let now = Credentials::read_configured(&config.server);
        self.outputs.expiry.send_replace(now.expiry(&config.server));
        let before = self.credentials.replace((Arc::clone(&config), now.clone()));
        let before = before.filter(|(of, _)| Arc::ptr_eq(of, &config)).map(|(_, before)| before);
        if before.as_ref() == Some(&now) {
            tracing::debug!("the token and the certificates are the same as before");
            return now;
        }
        self.current = None;
        if let Err(refusal) = now.token() {
            tracing::error!("{refusal}");
        } else if before.is_some() {
            tracing::info!("the token or a certificate has changed; the new one is used from now on");
        }
        // With another configuration the planner tries again anyway.
        if before.is_some() {
            self.outputs.credential_changes.send_modify(|changes| *changes += 1);
        }
        now
    }

    /// The transport for the present configuration.
    pub(super) fn current_transport(&mut self) -> Result<CurrentTransport, NoTransport> {
        let config = Arc::clone(&self.config.borrow());
        if let Some(current) = &self.current
            && Arc::ptr_eq(&current.config, &config)
        {
            return Ok(current.clone());
        }
        let token = self.reload_credentials().token().map_err(|refusal| NoTransport {
            verdict: Verdict::Unauthorized,
            message: refusal.to_string(),
        })?;
        self.make_transport(config, token)
    }

    fn make_transport(
        &mut self,
        config: Arc<Config>,
        token: Option<Token>,
    ) -> Result<CurrentTransport, NoTransport> {
        let device = DeviceIdentity { id: self.device, name: device_name(&config) };
        let (uploads, invalidation) = (config.batch.max_in_flight, Rc::clone(&self.invalidation));
        let transport =
            HttpTransport::new(&config.server, uploads, device, token, invalidation).map_err(|error| {
                NoTransport { verdict: Verdict::EndpointNotFound, message: error.to_string() }
            })?;
        let current = CurrentTransport { config, transport: Rc::new(transport) };
        self.current = Some(current.clone());
        self.is_encoding_refused = false;
        Ok(current)
    }

    /// The transport with new credentials, if they have changed since `old` was made.
    pub(super) fn renewed_transport(&mut self, old: &CurrentTransport) -> Option<CurrentTransport> {
        self.reload_credentials();
        self.current_transport().ok().filter(|current| !Rc::ptr_eq(&current.transport, &old.transport))
    }

    /// Whether this is still the transport that the next request uses.
    pub(super) fn is_current(&self, used: &CurrentTransport) -> bool {
        self.current.as_ref().is_some_and(|current| Rc::ptr_eq(&current.transport, &used.transport))
    }

    /// The encoding of the next body.
    pub(super) fn choose_encoding(&self, current: &CurrentTransport) -> Option<ContentEncoding> {
        let chosen = ContentEncoding::choose(current.config.server.compression, &self.accepted_encodings);
        chosen.filter(|_| !self.is_encoding_refused)
    }
}

impl Handler<ReloadCredentials> for Uploader {
    type Result = ();

    fn handle(&mut self, ReloadCredentials: ReloadCredentials, _: &mut Self::Context) {
        self.reload_credentials();
    }
}

/// Reloads the credentials whenever they may have changed.
pub(super) async fn follow_credentials(mut config: ConfigWatch, uploader: Addr<Uploader>) {
    loop {
        // The watch starts before the files are read, so that no change is missed.
        let watch = CredentialWatch::start(&config.borrow_and_update().server);
        if uploader.send(ReloadCredentials).await.is_err() {
            return;
        }
        tokio::select! {
            () = watch.changed() => {}
            changed = config.changed() => if changed.is_err() { return },
        }
    }
}
