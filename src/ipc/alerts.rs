//! What people should know without asking: each alert stands for as long as its cause does, and
//! that of a damaged store until somebody acknowledges it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::{Alert, AlertName, OpenEnum};
use crate::clock::millis;
use crate::config::Config;
use crate::model::{Backlog, DiskState};
use crate::transport::credential;

/// Since when each alert stands.
#[derive(Clone, Debug, Default)]
pub struct Raised(Arc<Mutex<BTreeMap<OpenEnum<AlertName>, u64>>>);

impl Raised {
    /// The alerts that stand now.
    pub(super) fn alerts(&self, backlog: &Backlog, config: &Config, now: u64) -> Vec<Alert> {
        let mut raised = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut alerts = alerts(backlog, config, now);
        for alert in &mut alerts {
            // Damage has a date of its own.
            if alert.alert != AlertName::StoreDamaged {
                alert.since = *raised.entry(alert.alert.clone()).or_insert(now);
            }
        }
        raised.retain(|name, _| alerts.iter().any(|alert| alert.alert == *name));
        alerts
    }
}

/// The alerts that stand at `now`, which is when each of them begins.
fn alerts(backlog: &Backlog, config: &Config, now: u64) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut raise = |name: AlertName, message: String| {
        alerts.push(Alert { alert: name.into(), message, since: now });
    };
    match backlog.storage.disk {
        DiskState::Ok => {}
        DiskState::Full => raise(
            AlertName::DiskFull,
            "the disk is full: no new records are taken; those that wait are sent. Make room on it".into(),
        ),
        DiskState::Failing => raise(
            AlertName::DiskFailing,
            "the disk gives errors: no records are taken and none are sent; those that were accepted are kept on it. \
             Have it looked at"
                .into(),
        ),
    }
    if let Some(warning) = credential::warn_of_clear_token(&config.server) {
        raise(AlertName::TokenInClear, warning.into());
    }
    let (telemetry, review) = (&config.telemetry, backlog.quarantined);
    if telemetry.alert_quarantined > 0 && review >= telemetry.alert_quarantined {
        let needs = if review == 1 { "1 record needs".to_owned() } else { format!("{review} records need") };
        raise(AlertName::NeedsReview, format!("{needs} review: fieldsync quarantine list"));
    }
    let queue = &config.queue;
    let uses = [
        (backlog.bytes, queue.max_bytes.0, "bytes"),
        (backlog.disk_bytes, queue.max_disk_bytes.0, "bytes of disk, as estimated"),
    ];
    let percent = u64::from(telemetry.alert_queue_percent);
    let is_filling = |held: u64, most: u64| held.saturating_mul(100) >= most.saturating_mul(percent);
    if let Some((held, most, unit)) = uses.into_iter().find(|(held, most, _)| is_filling(*held, *most)) {
        raise(AlertName::QueueFilling, format!("the queue holds {held} of at most {most} {unit}"));
    }
    let oldest = backlog.oldest_pending_at.map_or(0, |at| now.saturating_sub(at));
    if oldest > millis(telemetry.alert_oldest_pending.0) {
        let hours = oldest / 3_600_000;
        raise(AlertName::RecordsWait, format!("the oldest record waits for {hours} hours"));
    }
    if let Some(first) = backlog.storage.damage.first() {
        alerts.insert(
            0,
            Alert { alert: AlertName::StoreDamaged.into(), message: damaged(backlog), since: first.found_at },
        );
    }
    alerts
}

fn damaged(backlog: &Backlog) -> String {
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
        all.join("; and before, ").replace('\n', " ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Damage, Storage};

    fn names(alerts: &[Alert]) -> Vec<(AlertName, u64)> {
        alerts.iter().map(|alert| (alert.alert.known().unwrap(), alert.since)).collect()
    }

    #[test]
    fn an_alert_stands_from_its_cause_to_the_end_of_it() {
        let (raised, config) = (Raised::default(), Config::default());
        let mut backlog = Backlog { quarantined: 1, ..Backlog::default() };
        let quarantined =
            Backlog { quarantined: config.telemetry.alert_quarantined.max(1), ..backlog.clone() };
        assert_eq!(names(&raised.alerts(&quarantined, &config, 10)), [(AlertName::NeedsReview, 10)]);
        backlog = quarantined;
        backlog.storage.disk = DiskState::Full;
        let alerts = raised.alerts(&backlog, &config, 20);
        assert_eq!(names(&alerts), [(AlertName::DiskFull, 20), (AlertName::NeedsReview, 10)]);
        backlog.quarantined = 0;
        backlog.storage.disk = DiskState::Failing;
        let failing = raised.alerts(&backlog, &config, 30);
        assert_eq!(names(&failing), [(AlertName::DiskFailing, 30)]);
        for alert in [&alerts[0], &failing[0]] {
            assert!(alert.message.contains("disk") && alert.message.contains("taken"), "{}", alert.message);
        }
        backlog.storage.disk = DiskState::Ok;
        assert_eq!(raised.alerts(&backlog, &config, 40), []);
        backlog.storage.disk = DiskState::Full;
        assert_eq!(names(&raised.alerts(&backlog, &config, 50)), [(AlertName::DiskFull, 50)]);
    }

    #[test]
    fn a_queue_fills_by_its_payloads_or_by_what_its_records_take_on_the_disk() {
        let config = Config::default();
        let percent = u64::from(config.telemetry.alert_queue_percent);
        let most = (config.queue.max_bytes.0 * percent).div_ceil(100);
        let by_disk = (config.queue.max_disk_bytes.0 * percent).div_ceil(100);
        for (bytes, disk_bytes, expected) in [
            (most - 1, by_disk - 1, None),
            (most, 0, Some(" bytes")),
            (0, by_disk, Some(" bytes of disk, as estimated")),
        ] {
            let backlog = Backlog { bytes, disk_bytes, ..Backlog::default() };
            let alerts = Raised::default().alerts(&backlog, &config, 1);
            assert_eq!(alerts.len(), usize::from(expected.is_some()));
            assert!(alerts.iter().all(|alert| alert.message.ends_with(expected.unwrap_or_default())));
        }
    }

    #[test]
    fn damage_is_told_with_what_became_of_the_records() {
        let damage = |found_at, lost| Damage {
            found_at,
            kept_as: format!("/state/queue.redb.damaged-{found_at}"),
            reason: "a checksum is wrong".into(),
            salvaged: 412,
            lost,
        };
        let storage = Storage { damage: vec![damage(7, 3), damage(9, 0)], ..Storage::default() };
        let backlog = Backlog { storage, ..Backlog::default() };
        let alerts = Raised::default().alerts(&backlog, &Config::default(), 100);
        assert_eq!(names(&alerts), [(AlertName::StoreDamaged, 7)]);
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
