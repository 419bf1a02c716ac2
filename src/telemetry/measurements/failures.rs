//! What the network was like at the failures of one class, added up.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{mean_of, to_float};
use crate::api::FailureReport;
use crate::model::InterfaceKind;
use crate::model::Network;

/// Sums, and how many were measured of each.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct FailureTally {
    count: u64,
    connects: u64,
    connect_ms: f64,
    round_trips: u64,
    round_trip_ms: f64,
    rates: u64,
    bytes_per_s: f64,
    signals: u64,
    signal_dbm: f64,
    interfaces: BTreeMap<InterfaceKind, u64>,
}

impl FailureTally {
    pub(super) fn add_failure(&mut self, network: &Network) {
        self.count += 1;
        if let Some(connect) = network.connect {
            self.connects += 1;
            self.connect_ms += as_millis_f64(connect);
        }
        if let Some(round_trip) = network.round_trip {
            self.round_trips += 1;
            self.round_trip_ms += as_millis_f64(round_trip);
        }
        if let Some(exchange) = network.exchange.filter(|exchange| !exchange.is_zero()) {
            self.rates += 1;
            self.bytes_per_s += to_float(network.body_bytes) / exchange.as_secs_f64();
        }
        if let Some(signal) = network.signal_dbm {
            self.signals += 1;
            self.signal_dbm += f64::from(signal);
        }
        if let Some(interface) = network.interface {
            *self.interfaces.entry(interface).or_default() += 1;
        }
    }

    pub(super) fn merge_tally(&mut self, other: &Self) {
        self.count += other.count;
        self.connects += other.connects;
        self.connect_ms += other.connect_ms;
        self.round_trips += other.round_trips;
        self.round_trip_ms += other.round_trip_ms;
        self.rates += other.rates;
        self.bytes_per_s += other.bytes_per_s;
        self.signals += other.signals;
        self.signal_dbm += other.signal_dbm;
        for (interface, count) in &other.interfaces {
            *self.interfaces.entry(*interface).or_default() += count;
        }
    }

    fn usual_interface(&self) -> Option<InterfaceKind> {
        self.interfaces.iter().max_by_key(|(_, count)| **count).map(|(interface, _)| *interface)
    }

    pub(super) fn to_report(&self, class: &str) -> FailureReport {
        FailureReport {
            class: class.to_owned(),
            count: self.count,
            interface: self.usual_interface().map(|interface| interface.name().to_owned()),
            connect_ms: mean_of(self.connect_ms, self.connects),
            round_trip_ms: mean_of(self.round_trip_ms, self.round_trips),
            bytes_per_s: mean_of(self.bytes_per_s, self.rates),
            signal_dbm: mean_of(self.signal_dbm, self.signals),
            ..FailureReport::default()
        }
    }
}

fn as_millis_f64(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
