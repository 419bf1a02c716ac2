//! A receiver of forwarded records that remembers what it took.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::server::{Reply, Request};
use crate::support::wait::wait_for;

pub(super) const FORWARDED: &str = "fieldsync_gateway_forwarded_total";
pub(super) const WAITING: &str = "fieldsync_gateway_forward_waiting";
pub(super) const REFUSED: &str = "fieldsync_gateway_forward_refused";
pub(super) const PARKED_RECORDS: &str = "fieldsync_gateway_forward_parked_records";
pub(super) const PARKED_KEYS: &str = "fieldsync_gateway_forward_parked_keys";

/// As the ledger lists them.
pub(super) fn without_payloads(mut records: Vec<Value>) -> Vec<Value> {
    for record in &mut records {
        record.as_object_mut().unwrap().remove("payload").expect("a payload");
    }
    records
}

/// What a receiver took, in this order, repetitions left out.
#[derive(Clone, Default)]
pub(super) struct Taken(Arc<Mutex<Vec<Value>>>);

impl Taken {
    /// Takes records for good.
    pub(super) fn take(&self, records: impl IntoIterator<Item = Value>) {
        let mut taken = self.0.lock().unwrap();
        for record in records {
            if !taken.iter().any(|known| known["id"] == record["id"]) {
                taken.push(record);
            }
        }
    }

    /// Takes a whole request.
    pub(super) fn take_all(&self, request: &Request) -> Reply {
        self.take(request.records());
        Reply::text(204, "text/plain", "")
    }

    /// Takes the records for which `result` has the status `applied`, and answers record by record.
    pub(super) fn by_record(&self, request: &Request, result: impl Fn(&Value) -> Value) -> Reply {
        let mut results = Vec::new();
        for record in request.records() {
            let mut result = result(&record);
            result["id"] = record["id"].clone();
            if result["status"] == "applied" {
                self.take([record]);
            }
            results.push(result);
        }
        Reply::json(200, &json!({"results": results}))
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(super) fn records(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }

    /// The member `n` of the payloads.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.0.lock().unwrap().iter().map(|record| record["payload"]["n"].as_u64().unwrap()).collect()
    }

    /// Within each device and key, the records came in the order in which they were applied.
    #[track_caller]
    pub(super) fn assert_in_order(&self) {
        let mut last: HashMap<(String, String), u64> = HashMap::new();
        for record in self.0.lock().unwrap().iter().filter(|record| record["key"].is_string()) {
            let lane = (record["device_id"].to_string(), record["key"].to_string());
            let seq = record["seq"].as_u64().unwrap();
            let before = last.insert(lane, seq).unwrap_or_default();
            assert!(before < seq, "{seq} came after {before}: {record}");
        }
    }
}

/// Waits until these numbers of records are forwarded by this process, waiting, refused, and parked.
#[track_caller]
pub(super) fn wait_for_counts(gateway: &Gateway, counts: [u64; 4]) {
    let names = [FORWARDED, WAITING, REFUSED, PARKED_RECORDS];
    let mut seen = [0; 4];
    wait_for(&format!("forwarded, waiting, refused, parked: {counts:?}"), || {
        seen = names.map(|name| gateway.metric(name));
        (seen == counts).then_some(())
    });
}
