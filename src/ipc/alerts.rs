//! Alerts: conditions that need attention. An alert is active as long as its cause lasts; that of a damaged store, until
//! it is acknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::config_state::ConfigState;
use super::queue_fill::QueueFill;
use crate::api::{Alert, AlertName, AlertSeverity, OpenEnum};
use crate::clock::millis;
use crate::config::Config;
use crate::model::{Backlog, DiskState};
use crate::transport::credential;

/// Remembers since when each alert is active.
#[derive(Clone, Debug, Default)]
pub struct AlertTracker(Arc<Mutex<BTreeMap<OpenEnum<AlertName>, u64>>>);

impl AlertTracker {
    pub(super) fn active_alerts(
        &self,
        backlog: &Backlog,
        config: &Config,
        config_state: &ConfigState,
        now: u64,
    ) -> Vec<Alert> {
        let mut start_times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut alerts = find_alerts(backlog, config, config_state, now);
        for alert in &mut alerts {
            // Damage and a mistake in the configuration have start times of their own.
            if alert.alert == AlertName::ConfigurationRefused {
                alert.since = config_state.refusal.as_ref().map_or(now, |refusal| refusal.at);
            } else if alert.alert != AlertName::StoreDamaged {
                alert.since = *start_times.entry(alert.alert.clone()).or_insert(now);
            }
        }
        start_times.retain(|name, _| alerts.iter().any(|alert| alert.alert == *name));
        alerts
    }
}

/// All of them start `now`, but for that of a damaged store.
fn find_alerts(backlog: &Backlog, config: &Config, config_state: &ConfigState, now: u64) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut raise = |name: AlertName, message: String| {
        let severity = AlertSeverity::default().into();
        alerts.push(Alert { alert: name.into(), severity, message, remedy: String::new(), since: now });
    };
    match backlog.storage.disk {
        DiskState::Ok => {}
        DiskState::Full => raise(
            AlertName::DiskFull,
            "the disk is full: no new records are taken; those in the queue are still sent. Free some disk space".into(),
        ),
        DiskState::Failing => raise(
            AlertName::DiskFailing,
            "the disk reports errors: no records are taken and none are sent; those in the queue stay on the disk. \
             Have the disk checked"
                .into(),
        ),
    }
    if let Some(message) = config_state.refusal_alert() {
        raise(AlertName::ConfigurationRefused, message);
    }
    if let Some(warning) = credential::warn_of_clear_token(&config.server) {
        raise(AlertName::TokenInClear, warning.into());
    }
    let (telemetry, review) = (&config.telemetry, backlog.quarantined);
    if telemetry.alert_quarantined > 0 && review >= telemetry.alert_quarantined {
        let needs = if review == 1 { "1 record needs".to_owned() } else { format!("{review} records need") };
        raise(AlertName::NeedsReview, format!("{needs} review: fieldsync quarantine list"));
    }
    let fill = QueueFill::fullest(backlog, config);
    // A queue that is full is reported whatever the percentage.
    if fill.reaches_percent(telemetry.alert_queue_percent) || fill.full_queue().is_some() {
        raise(AlertName::QueueFilling, fill.describe());
    }
    let oldest = backlog.oldest_pending_at.map_or(0, |at| now.saturating_sub(at));
    if oldest > millis(telemetry.alert_oldest_pending.0) {
        let hours = oldest / 3_600_000;
        raise(AlertName::RecordsWait, format!("the oldest record has been waiting for {hours} hours"));
    }
    if let Some(first) = backlog.storage.damage.first() {
        alerts.insert(
            0,
            Alert {
                alert: AlertName::StoreDamaged.into(),
                severity: AlertSeverity::Critical.into(),
                message: describe_damage(backlog),
                remedy: String::new(),
                since: first.found_at,
            },
        );
    }
    alerts
}

fn describe_damage(backlog: &Backlog) -> String {
    let all = backlog.storage.damage.iter().map(|damage| {
        let lost = match damage.lost {
            0 => "none are known to be lost".to_owned(),
            1 => "1 is known to be lost".to_owned(),
            lost => format!("{lost} are known to be lost"),
        };
        let records = if damage.salvaged == 1 { "record was" } else { "records were" };
        format!(
            "the store was damaged ({}): {} {records} salvaged and {lost}; the damaged file is kept as {}",
            damage.reason, damage.salvaged, damage.kept_as
        )
    });
    let all: Vec<String> = all.collect();
    format!(
        "{}. When you have read this: fieldsync store acknowledge",
        all.join("; earlier, ").replace('\n', " ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Damage, Storage};

    fn none() -> ConfigState {
        ConfigState::default()
    }

    fn names_and_starts(alerts: &[Alert]) -> Vec<(AlertName, u64)> {
        alerts.iter().map(|alert| (alert.alert.known().unwrap(), alert.since)).collect()
    }

    #[test]
    fn an_alert_is_active_from_the_start_of_its_cause_to_its_end() {
        let (tracker, config) = (AlertTracker::default(), Config::default());
        let mut backlog = Backlog { quarantined: 1, ..Backlog::default() };
        let quarantined =
            Backlog { quarantined: config.telemetry.alert_quarantined.max(1), ..backlog.clone() };
        assert_eq!(
            names_and_starts(&tracker.active_alerts(&quarantined, &config, &none(), 10)),
            [(AlertName::NeedsReview, 10)]
        );
        backlog = quarantined;
        backlog.storage.disk = DiskState::Full;
        let alerts = tracker.active_alerts(&backlog, &config, &none(), 20);
        assert_eq!(names_and_starts(&alerts), [(AlertName::DiskFull, 20), (AlertName::NeedsReview, 10)]);
        backlog.quarantined = 0;
        backlog.storage.disk = DiskState::Failing;
        let failing = tracker.active_alerts(&backlog, &config, &none(), 30);
        assert_eq!(names_and_starts(&failing), [(AlertName::DiskFailing, 30)]);
        for alert in [&alerts[0], &failing[0]] {
            assert!(alert.message.contains("disk") && alert.message.contains("taken"), "{}", alert.message);
        }
        backlog.storage.disk = DiskState::Ok;
        assert_eq!(tracker.active_alerts(&backlog, &config, &none(), 40), []);
        backlog.storage.disk = DiskState::Full;
        assert_eq!(
            names_and_starts(&tracker.active_alerts(&backlog, &config, &none(), 50)),
            [(AlertName::DiskFull, 50)]
        );
    }

    #[test]
    fn a_queue_fills_by_records_by_payload_bytes_or_by_disk_usage() {
        let config = Config::default();
        let percent = u64::from(config.telemetry.alert_queue_percent);
        let most = (config.queue.max_bytes.0 * percent).div_ceil(100);
        let by_disk = (config.queue.max_disk_bytes.0 * percent).div_ceil(100);
        let by_records = (config.queue.max_records * percent).div_ceil(100);
        for (pending, bytes, disk_bytes, expected) in [
            (by_records - 1, most - 1, by_disk - 1, None),
            (by_records, 0, 0, Some(" records")),
            (1000, most, 0, Some(" bytes")),
            (1000, 0, by_disk, Some(" bytes of disk (estimated)")),
        ] {
            let backlog = Backlog { pending, bytes, disk_bytes, ..Backlog::default() };
            let alerts = AlertTracker::default().active_alerts(&backlog, &config, &none(), 1);
            assert_eq!(alerts.len(), usize::from(expected.is_some()));
            assert!(alerts.iter().all(|alert| alert.message.ends_with(expected.unwrap_or_default())));
        }
    }

    #[test]
    fn the_alert_of_damage_says_how_many_records_were_salvaged_and_lost() {
        let damage = |found_at, lost| Damage {
            found_at,
            kept_as: format!("/state/queue.redb.damaged-{found_at}"),
            reason: "a checksum is wrong".into(),
            salvaged: 412,
            lost,
        };
        let storage = Storage { damage: vec![damage(7, 3), damage(9, 0)], ..Storage::default() };
        let backlog = Backlog { storage, ..Backlog::default() };
        let alerts = AlertTracker::default().active_alerts(&backlog, &Config::default(), &none(), 100);
        assert_eq!(names_and_starts(&alerts), [(AlertName::StoreDamaged, 7)]);
        for part in [
            "412 records were salvaged and 3 are known to be lost",
            "damaged-7",
            "damaged-9",
            "store acknowledge",
        ] {
            assert!(alerts[0].message.contains(part), "{}", alerts[0].message);
        }
    }
}
