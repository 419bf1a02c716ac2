//! Reads the configuration and the files that it names again while the gateway runs.
//!
//! A configuration with a mistake changes nothing, and each file is read on its own: one that cannot be used leaves
//! its former content in effect.

use std::sync::Arc;

use super::config_file::LoadedConfig;
use super::credential_file::find_secret_file;
use super::destination::{DestinationSlot, ReloadCache};
use super::destination_config::DestinationKind;
use super::forward_control::ForwardControl;
use super::gateway_config::GatewayConfig;
use super::metrics::{Metrics, TokenOwner};
use super::options::GatewayOptions;
use super::server_tls::ServerCertificate;
use super::service_manager::{report_ready, report_reloading};
use super::startup::{find_warnings, read_destination};
use super::token_file::TokenFile;
use crate::causes::with_causes;

/// What a reload replaces.
pub(super) struct Reloader {
    pub(super) options: GatewayOptions,
    /// In effect.
    pub(super) loaded: LoadedConfig,
    pub(super) tokens: Option<Arc<TokenFile>>,
    pub(super) admin_tokens: Option<Arc<TokenFile>>,
    pub(super) forward_control: Arc<ForwardControl>,
    pub(super) certificate: Option<Arc<ServerCertificate>>,
    pub(super) destination: Option<Arc<DestinationSlot>>,
    pub(super) cache: ReloadCache,
    pub(super) metrics: Arc<Metrics>,
    /// What `systemctl status` shows.
    pub(super) status: String,
}

impl Reloader {
    /// Reads everything again, and keeps systemd informed.
    pub(super) fn reload(&mut self) {
        report_reloading();
        self.forward_control.notify_reloaded();
        let result = self.read_again();
        self.metrics.configuration.count_reload(result.is_ok());
        report_files(
            &self.metrics,
            self.tokens.as_deref(),
            self.admin_tokens.as_deref(),
            self.certificate.as_deref(),
        );
        match result {
            Ok(()) => report_ready(&self.status),
            Err(problem) => report_ready(&format!("{}. {problem}; see the log", self.status)),
        }
    }

    fn read_again(&mut self) -> Result<(), &'static str> {
        let loaded = match LoadedConfig::load(&self.options) {
            Ok(loaded) => loaded,
            Err(error) => {
                let error = with_causes(&error);
                tracing::error!(error, "the configuration cannot be used: the former one stays in effect");
                return Err("The configuration cannot be used, the former one stays in effect");
            }
        };
        for key in find_restart_keys(&self.loaded.config, &loaded.config) {
            tracing::warn!("{key} changed and takes effect at the next start");
        }
        let are_tokens_usable = match (&self.tokens, &loaded.config.gateway.token_file) {
            (Some(tokens), Some(path)) => tokens.reload(&find_secret_file(path)),
            _ => true,
        };
        let are_admin_tokens_usable = match (&self.admin_tokens, &loaded.config.gateway.admin_token_file) {
            (Some(tokens), Some(path)) => tokens.reload(&find_secret_file(path)),
            _ => true,
        };
        let is_certificate_usable = self.reload_certificate(&loaded);
        let destination = self.reload_destination(&loaded);
        // What is in effect stays the measure for the next reload.
        let mut effective = self.loaded.config.clone();
        effective.gateway.token_file.clone_from(&loaded.config.gateway.token_file);
        effective.gateway.admin_token_file.clone_from(&loaded.config.gateway.admin_token_file);
        if matches!(destination, Ok(true)) {
            let time_budget = effective.destination.time_budget;
            effective.destination = loaded.config.destination.clone();
            effective.destination.time_budget = time_budget;
        }
        self.loaded.config = effective;
        tracing::info!("the configuration was read again");
        if !(are_tokens_usable && are_admin_tokens_usable) {
            return Err("A token file cannot be used, its former tokens stay valid");
        }
        if !is_certificate_usable {
            return Err("The certificate cannot be used, the former one stays in use");
        }
        destination.map(drop)
    }

    /// Whether the certificate can be used, if there is one.
    fn reload_certificate(&self, loaded: &LoadedConfig) -> bool {
        let gateway = &loaded.config.gateway;
        match (&self.certificate, &gateway.tls_cert_file, &gateway.tls_key_file) {
            (Some(in_use), Some(certificate), Some(key)) => {
                in_use.reload(&find_secret_file(certificate), &find_secret_file(key))
            }
            _ => true,
        }
    }

    /// Whether the destination of this configuration is in use now.
    fn reload_destination(&self, loaded: &LoadedConfig) -> Result<bool, &'static str> {
        let Some(slot) = &self.destination else { return Ok(false) };
        let read =
            find_warnings(loaded).and_then(|warnings| Ok((warnings, read_destination(loaded, &self.cache)?)));
        match read {
            Ok((warnings, Some(destination))) => {
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                slot.replace(destination);
                tracing::info!(kind = %loaded.config.destination.kind, "the destination was read again");
                Ok(true)
            }
            // Without a destination, the processing of batches is another: the change needs a restart.
            Ok((_, None)) => Ok(false),
            Err(error) => {
                let error = with_causes(&error);
                tracing::error!(error, "the destination cannot be used: the former one stays in use");
                Err("The destination cannot be used, the former one stays in use")
            }
        }
    }
}

/// Brings the metrics of tokens and certificate up to date.
pub(super) fn report_files(
    metrics: &Metrics,
    tokens: Option<&TokenFile>,
    admin_tokens: Option<&TokenFile>,
    certificate: Option<&ServerCertificate>,
) {
    for (owner, tokens) in [(TokenOwner::Device, tokens), (TokenOwner::Operator, admin_tokens)] {
        if let Some(tokens) = tokens {
            metrics.configuration.set_tokens(owner, tokens.count());
        }
    }
    if let Some(expires_at) = certificate.and_then(ServerCertificate::expires_at) {
        metrics.configuration.set_certificate_expiry(expires_at);
    }
}

/// Keys that changed and take effect only at the next start.
fn find_restart_keys(old: &GatewayConfig, new: &GatewayConfig) -> Vec<&'static str> {
    let (before, after) = (&old.gateway, &new.gateway);
    let has_destination = |config: &GatewayConfig| config.destination.kind != DestinationKind::None;
    [
        ("gateway.listen", before.listen != after.listen),
        ("gateway.store", before.store != after.store),
        ("gateway.path", before.path != after.path),
        ("gateway.token_file", before.token_file.is_some() != after.token_file.is_some()),
        ("gateway.admin_token_file", before.admin_token_file.is_some() != after.admin_token_file.is_some()),
        ("gateway.tls_cert_file", before.tls_cert_file.is_some() != after.tls_cert_file.is_some()),
        ("gateway.client_ca_file", before.client_ca_file != after.client_ca_file),
        ("gateway.max_body_bytes", before.max_body_bytes != after.max_body_bytes),
        ("gateway.device_time_limit", before.device_time_limit != after.device_time_limit),
        ("gateway.max_connections", before.max_connections != after.max_connections),
        ("gateway.max_in_flight", before.max_in_flight != after.max_in_flight),
        (
            "gateway.max_in_flight_per_device",
            before.max_in_flight_per_device != after.max_in_flight_per_device,
        ),
        ("gateway.keep_answers", before.keep_answers != after.keep_answers),
        ("gateway.keep_records", before.keep_records != after.keep_records),
        ("destination.kind", has_destination(old) != has_destination(new)),
        ("destination.time_budget", old.destination.time_budget != new.destination.time_budget),
        ("[forward]", old.forward != new.forward),
        ("fleet.overdue_after", old.fleet != new.fleet),
        ("[faults]", old.faults != new.faults),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}
