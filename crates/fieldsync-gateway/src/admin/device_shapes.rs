//! The body of the list of devices, for the gateway and its command line.

use serde::{Deserialize, Serialize};

use crate::clock::{as_rfc3339, as_rfc3339_option};
use crate::model::DeviceId;

/// A device. What it never reported is null.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeviceSummary {
    pub(crate) device_id: DeviceId,
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    #[serde(with = "as_rfc3339")]
    pub(crate) last_contact_at: u64,
    #[serde(with = "as_rfc3339_option")]
    pub(crate) last_status_at: Option<u64>,
    pub(crate) unsent: Option<u64>,
    pub(crate) under_review: Option<u64>,
    #[serde(with = "as_rfc3339_option")]
    pub(crate) oldest_unsent_at: Option<u64>,
    pub(crate) queue_bytes: Option<u64>,
    #[serde(with = "as_rfc3339_option")]
    pub(crate) last_success_at: Option<u64>,
    pub(crate) alerts: Vec<String>,
    pub(crate) clock_offset_ms: Option<i64>,
    pub(crate) battery_percent: Option<u8>,
    pub(crate) interface: Option<String>,
    pub(crate) overdue: bool,
    #[serde(with = "as_rfc3339_option")]
    pub(crate) overdue_since: Option<u64>,
}

/// A page of devices, those without contact for the longest time first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DevicePage {
    pub(crate) devices: Vec<DeviceSummary>,
    /// For the next page, as `after`; null on the last one.
    pub(crate) next: Option<String>,
    pub(crate) counts: DeviceCountsBody,
}

/// How many devices there are in all.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeviceCountsBody {
    pub(crate) known: u64,
    pub(crate) overdue: u64,
}
