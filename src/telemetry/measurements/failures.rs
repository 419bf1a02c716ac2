//! What the network was like at the failures of one class, added up.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::numbers::{add_to, mean_of, to_float};
use crate::api::{FailureReport, InterfaceCount};
use crate::model::{InterfaceKind, Network};

const HOURS_PER_DAY: usize = 24;

/// The failures of one class.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct FailureTally {
    count: u64,
    connect_micros: Samples,
    round_trip_micros: Samples,
    bytes_per_s: Samples,
    /// The signal is negative: the sum of what is missing to 0 dBm.
    attenuation_db: Samples,
    link_age_ms: Samples,
    metered: u64,
    interfaces: BTreeMap<InterfaceKind, u64>,
    /// In the time zone of the device.
    by_hour: [u64; HOURS_PER_DAY],
}

/// A sum, and of how many.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Samples {
    count: u64,
    sum: u64,
}

impl Samples {
    fn add_sample(&mut self, value: Option<u64>) {
        if let Some(value) = value {
            add_to(&mut self.count, 1);
            add_to(&mut self.sum, value);
        }
    }

    fn merge(&mut self, other: Self) {
        add_to(&mut self.count, other.count);
        add_to(&mut self.sum, other.sum);
    }

    fn mean(self) -> Option<f64> {
        mean_of(to_float(self.sum), self.count)
    }
}

impl FailureTally {
    pub(super) fn add_failure(&mut self, network: &Network, local_hour: usize) {
        add_to(&mut self.count, 1);
        self.connect_micros.add_sample(network.connect.map(as_micros));
        self.round_trip_micros.add_sample(network.round_trip.map(as_micros));
        let exchange = network.exchange.map(as_micros).filter(|micros| *micros > 0);
        let rate = exchange.map(|micros| network.body_bytes.saturating_mul(1_000_000) / micros);
        self.bytes_per_s.add_sample(rate);
        self.attenuation_db
            .add_sample(network.signal_dbm.map(|dbm| u64::from(dbm.saturating_neg().max(0).unsigned_abs())));
        self.link_age_ms.add_sample(network.link_age.map(crate::clock::millis));
        add_to(&mut self.metered, u64::from(network.metered == Some(true)));
        if let Some(interface) = network.interface {
            add_to(self.interfaces.entry(interface).or_default(), 1);
        }
        if let Some(count) = self.by_hour.get_mut(local_hour) {
            add_to(count, 1);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        add_to(&mut self.count, other.count);
        self.connect_micros.merge(other.connect_micros);
        self.round_trip_micros.merge(other.round_trip_micros);
        self.bytes_per_s.merge(other.bytes_per_s);
        self.attenuation_db.merge(other.attenuation_db);
        self.link_age_ms.merge(other.link_age_ms);
        add_to(&mut self.metered, other.metered);
        for (interface, count) in &other.interfaces {
            add_to(self.interfaces.entry(*interface).or_default(), *count);
        }
        for (mine, theirs) in self.by_hour.iter_mut().zip(&other.by_hour) {
            add_to(mine, *theirs);
        }
    }

    pub(super) fn to_report(&self, class: &str) -> FailureReport {
        let mut interfaces: Vec<InterfaceCount> = self
            .interfaces
            .iter()
            .map(|(kind, count)| InterfaceCount { interface: kind.name().to_owned(), count: *count })
            .collect();
        interfaces.sort_by_key(|interface| std::cmp::Reverse(interface.count));
        let as_millis = |micros: f64| micros / 1000.0;
        FailureReport {
            class: class.to_owned(),
            count: self.count,
            interface: interfaces.first().map(|most| most.interface.clone()),
            interfaces,
            connect_ms: self.connect_micros.mean().map(as_millis),
            round_trip_ms: self.round_trip_micros.mean().map(as_millis),
            bytes_per_s: self.bytes_per_s.mean(),
            signal_dbm: self.attenuation_db.mean().map(|db| -db),
            metered: self.metered,
            link_age_s: self.link_age_ms.mean().map(|ms| ms / 1000.0),
            by_hour: self.by_hour.to_vec(),
        }
    }
}

fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
