//! What the metrics say of the configuration and of the files that it names.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::LabelledCounter;
use crate::clock::wall_ms;

type Number = Gauge<i64, AtomicI64>;

/// Whose tokens they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenOwner {
    Device,
    Operator,
}

impl TokenOwner {
    fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Operator => "operator",
        }
    }
}

#[derive(Debug)]
pub(crate) struct ConfigurationMetrics {
    /// No series without a token file.
    tokens: Family<[(&'static str, &'static str); 1], Number>,
    reloads: LabelledCounter,
    is_last_reload_successful: Number,
    last_success_at: Number,
    certificate_expiry: Number,
}

impl ConfigurationMetrics {
    /// At the start, the configuration was read with success.
    pub(super) fn register(registry: &mut Registry, has_certificate: bool) -> Self {
        let metrics = Self {
            tokens: Family::default(),
            reloads: LabelledCounter::default(),
            is_last_reload_successful: Number::default(),
            last_success_at: Number::default(),
            certificate_expiry: Number::default(),
        };
        registry.register("tokens", "Valid tokens, by who may use them", metrics.tokens.clone());
        registry.register(
            "config_reloads",
            "Reloads of the configuration and the files that it names, by result",
            metrics.reloads.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "Whether the configuration on disk is in effect",
            metrics.is_last_reload_successful.clone(),
        );
        registry.register_with_unit(
            "config_last_reload_success_timestamp",
            "When the configuration was last read with success, since 1970",
            Unit::Seconds,
            metrics.last_success_at.clone(),
        );
        if has_certificate {
            registry.register_with_unit(
                "tls_certificate_expiry_timestamp",
                "When the certificate of this gateway expires, since 1970",
                Unit::Seconds,
                metrics.certificate_expiry.clone(),
            );
        }
        for is_success in [true, false] {
            drop(metrics.reloads.get_or_create(&[("result", result_label(is_success))]));
        }
        metrics.note_success();
        metrics
    }

    pub(crate) fn count_reload(&self, is_success: bool) {
        self.reloads.get_or_create(&[("result", result_label(is_success))]).inc();
        if is_success {
            self.note_success();
        } else {
            self.is_last_reload_successful.set(0);
        }
    }

    pub(crate) fn set_tokens(&self, owner: TokenOwner, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.tokens.get_or_create(&[("kind", owner.as_str())]).set(count);
    }

    pub(crate) fn set_certificate_expiry(&self, at_s: u64) {
        self.certificate_expiry.set(i64::try_from(at_s).unwrap_or(i64::MAX));
    }

    fn note_success(&self) {
        self.is_last_reload_successful.set(1);
        self.last_success_at.set(i64::try_from(wall_ms() / 1000).unwrap_or(i64::MAX));
    }
}

fn result_label(is_success: bool) -> &'static str {
    if is_success { "success" } else { "failure" }
}
