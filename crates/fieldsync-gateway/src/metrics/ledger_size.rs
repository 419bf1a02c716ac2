//! The size of the ledger. What its store does not tell is left out.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// So long a size that was measured is good enough.
const SIZE_AGE_MAX: Duration = Duration::from_secs(15);

/// The last measured size.
#[derive(Debug, Default)]
pub(crate) struct LedgerSizeValues(Mutex<SizeState>);

#[derive(Debug, Default)]
struct SizeState {
    measured_at: Option<Duration>,
    bytes: Option<u64>,
    records: Option<u64>,
    outbox_records: Option<u64>,
}

impl LedgerSizeValues {
    /// Whether it is time to measure again. A caller that gets `true` is the one to do so.
    pub(crate) fn begin_measurement(&self, now: Duration) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = state.measured_at.is_none_or(|at| now.saturating_sub(at) >= SIZE_AGE_MAX);
        if is_due {
            state.measured_at = Some(now);
        }
        is_due
    }

    pub(crate) fn set(&self, bytes: Option<u64>, records: Option<u64>, outbox_records: Option<u64>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.bytes, state.records, state.outbox_records) = (bytes, records, outbox_records);
    }
}

#[derive(Debug)]
pub(super) struct LedgerSizeCollector(pub(super) Arc<LedgerSizeValues>);

impl Collector for LedgerSizeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = Some(&Unit::Bytes);
        for (name, help, unit, value) in [
            ("ledger_size", "Size of the ledger on disk, with free space and indexes", bytes, state.bytes),
            ("ledger_records", "Applied records that are known by their ids", None, state.records),
            (
                "ledger_outbox_records",
                "Records whose payload waits to be forwarded or reviewed",
                None,
                state.outbox_records,
            ),
        ] {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
