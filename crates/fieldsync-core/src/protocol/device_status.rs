//! What a device reports about itself: the body of `POST {path}/devices/{device_id}/status`.
//!
//! It carries no payloads, keys, types or messages. What is not known is left out.

use serde::{Deserialize, Serialize};

use crate::clock::as_rfc3339_option;
use crate::model::DeviceId;

/// The most bytes of the body.
pub const STATUS_BYTES_MAX: usize = 16 << 10;
/// The most names in [`DeviceStatus::alerts`].
pub const STATUS_ALERTS_MAX: usize = 32;
/// The most bytes of a version, an interface or the name of an alert.
const NAME_BYTES_MAX: usize = 64;

/// The path at which a device reports its status, given that of the batch endpoint.
pub fn status_path(batch_path: &str, device: DeviceId) -> String {
    format!("{}/devices/{device}/status", batch_path.trim_end_matches('/'))
}

/// The status of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceStatus {
    /// The version of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When the device wrote it, by its own clock.
    #[serde(skip_serializing_if = "Option::is_none", with = "as_rfc3339_option")]
    pub at: Option<u64>,
    /// How many records are in which state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordCounts>,
    /// When the oldest record that is not sent was stored.
    #[serde(skip_serializing_if = "Option::is_none", with = "as_rfc3339_option")]
    pub oldest_pending_at: Option<u64>,
    /// How much space the queue takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_bytes: Option<u64>,
    /// When the server last confirmed a record.
    #[serde(skip_serializing_if = "Option::is_none", with = "as_rfc3339_option")]
    pub last_success_at: Option<u64>,
    /// The names of the active alerts.
    pub alerts: Vec<String>,
    /// How far the clock of the device is ahead of the server's; negative if it is behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// The charge of the battery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub battery_percent: Option<u8>,
    /// The kind of network interface in use, such as `wifi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// How many records of a device are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordCounts {
    /// Stored, and not sent yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<u64>,
    /// Being sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syncing: Option<u64>,
    /// To be sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<u64>,
    /// Confirmed by the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synced: Option<u64>,
    /// Under review on the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<u64>,
}

impl RecordCounts {
    /// How many records the server has not confirmed, those under review aside. None if no part of it is known.
    pub fn unsent(&self) -> Option<u64> {
        [self.pending, self.syncing, self.failed].into_iter().flatten().reduce(u64::saturating_add)
    }
}

impl DeviceStatus {
    /// What is wrong with the values, for people.
    pub fn find_fault(&self) -> Option<&'static str> {
        if self.version.as_deref().is_some_and(|version| !is_printable_name(version)) {
            Some("`version` must be 1 to 64 printable ASCII characters")
        } else if self.interface.as_deref().is_some_and(|interface| !is_identifier(interface)) {
            Some("`interface` must be 1 to 64 lower-case letters, digits and underscores")
        } else if self.alerts.len() > STATUS_ALERTS_MAX {
            Some("`alerts` must have at most 32 names")
        } else if !self.alerts.iter().all(|name| is_identifier(name)) {
            Some("the names in `alerts` must be 1 to 64 lower-case letters, digits and underscores")
        } else if self.battery_percent.is_some_and(|percent| percent > 100) {
            Some("`battery_percent` must not be above 100")
        } else {
            None
        }
    }
}

fn is_printable_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn is_identifier(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out_and_what_is_unknown_is_ignored() {
        assert_eq!(serde_json::to_string(&DeviceStatus::default()).unwrap(), r#"{"alerts":[]}"#);
        let text = r#"{"at":"2026-03-01T08:15:30.120Z","records":{"pending":3,"other":1},"battery_percent":null,"x":[]}"#;
        let status: DeviceStatus = serde_json::from_str(text).unwrap();
        assert_eq!(status.at, Some(1_772_352_930_120));
        assert_eq!(status.records.unwrap().unsent(), Some(3));
        assert_eq!(
            serde_json::to_string(&status).unwrap(),
            r#"{"at":"2026-03-01T08:15:30.120Z","records":{"pending":3},"alerts":[]}"#
        );
        assert_eq!(RecordCounts { quarantined: Some(1), ..RecordCounts::default() }.unsent(), None);
    }

    #[test]
    fn values_that_no_device_has_are_faults() {
        let fine = DeviceStatus {
            version: Some("0.9.1 (abc)".into()),
            alerts: vec!["disk_low".into()],
            battery_percent: Some(100),
            interface: Some("wifi".into()),
            ..DeviceStatus::default()
        };
        assert_eq!(fine.find_fault(), None);
        let faulty = [
            DeviceStatus { version: Some(String::new()), ..fine.clone() },
            DeviceStatus { version: Some("1\u{202e}".into()), ..fine.clone() },
            DeviceStatus { interface: Some("wi fi".into()), ..fine.clone() },
            DeviceStatus { alerts: vec!["<b>".into()], ..fine.clone() },
            DeviceStatus { alerts: vec!["a".into(); STATUS_ALERTS_MAX + 1], ..fine.clone() },
            DeviceStatus { alerts: vec!["a".repeat(NAME_BYTES_MAX + 1)], ..fine.clone() },
            DeviceStatus { battery_percent: Some(101), ..fine.clone() },
        ];
        for status in faulty {
            assert!(status.find_fault().is_some(), "{status:?}");
        }
    }

    #[test]
    fn the_path_follows_that_of_the_batches() {
        let device = DeviceId(uuid::Uuid::nil());
        let path = "/sync/devices/00000000-0000-0000-0000-000000000000/status";
        assert_eq!(status_path("/sync/", device), path);
        assert_eq!(status_path("/sync", device), path);
    }
}
