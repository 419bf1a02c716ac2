//! What the server remembers: batches with their responses, and applied records.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use super::ServerFault;
use super::validation::AcceptedBatch;
use crate::support::wait::pace;

/// Batches from this size take [`WORK`], the others none.
const LARGE_BATCH_RECORDS: usize = 100;
const WORK: Duration = Duration::from_millis(300);
/// Between two looks at the connection of a batch.
const WORK_STEP: Duration = Duration::from_millis(10);
/// Between a look for known records and their application, with the fault.
const RACE_WINDOW: Duration = Duration::from_millis(50);

/// What becomes of a request for a batch.
#[derive(Clone)]
pub(super) enum Outcome {
    Completed { results: Vec<Value>, is_replayed: bool },
    InFlight,
    IdReused,
}

/// The memory of the server.
pub(super) struct Books {
    faults: Vec<ServerFault>,
    state: Mutex<BooksState>,
}

#[derive(Default)]
struct BooksState {
    /// By device and batch id.
    batches: HashMap<(String, String), BatchEntry>,
    /// By record id.
    records: HashMap<String, AppliedRecord>,
}

struct BatchEntry {
    body: Vec<u8>,
    /// `None` while it is being processed.
    results: Option<Vec<Value>>,
}

struct AppliedRecord {
    device: String,
    content: Value,
}

impl Books {
    pub(super) fn new(faults: &[ServerFault]) -> Self {
        Self { faults: faults.to_vec(), state: Mutex::default() }
    }

    fn has(&self, fault: ServerFault) -> bool {
        self.faults.contains(&fault)
    }

    fn lock(&self) -> MutexGuard<'_, BooksState> {
        self.state.lock().unwrap()
    }

    fn entry_key(&self, device: &str, id: &str) -> (String, String) {
        let device = if self.has(ServerFault::SharesBatchIds) { "" } else { device };
        (device.to_owned(), id.to_owned())
    }

    /// Applies a batch, or finds out that it is known. `None` if it is given up.
    pub(super) fn submit(&self, batch: &AcceptedBatch, stream: &TcpStream) -> Option<Outcome> {
        let key = self.entry_key(&batch.device, &batch.id);
        {
            let mut state = self.lock();
            if let Some(known) = state.batches.get(&key) {
                let is_same = known.body == batch.body
                    || (self.has(ServerFault::ComparesIdsOnly) && batch.has_records_of(&known.body));
                if !is_same && !self.has(ServerFault::IgnoresOtherBody) {
                    return Some(Outcome::IdReused);
                }
                return Some(self.repeat(&mut state, &key));
            }
            let entry = BatchEntry { body: batch.body.clone(), results: None };
            state.batches.insert(key.clone(), entry);
        }
        if !self.work(batch, stream) {
            self.lock().batches.remove(&key);
            return None;
        }
        let results = self.apply(batch);
        self.lock().batches.get_mut(&key).unwrap().results = Some(results.clone());
        Some(Outcome::Completed { results, is_replayed: false })
    }

    /// Takes the id as if the batch had been received.
    pub(super) fn keep_id(&self, device: &str, id: &str) {
        let entry = BatchEntry { body: Vec::new(), results: Some(Vec::new()) };
        self.lock().batches.insert(self.entry_key(device, id), entry);
    }

    /// What is known about a batch.
    pub(super) fn look_up(&self, device: &str, id: &str) -> Option<Outcome> {
        let key = self.entry_key(device, id);
        let mut state = self.lock();
        state.batches.contains_key(&key).then(|| self.repeat(&mut state, &key))
    }

    fn repeat(&self, state: &mut BooksState, key: &(String, String)) -> Outcome {
        let Some(mut results) = state.batches[key].results.clone() else { return Outcome::InFlight };
        if self.has(ServerFault::ForgetsAfterReplay) {
            state.batches.remove(key);
        }
        if self.has(ServerFault::ReplaysOtherResults) {
            for result in &mut results {
                result["status"] = "duplicate".into();
            }
        }
        Outcome::Completed { results, is_replayed: true }
    }

    /// Takes its time for a large batch. False if it is given up.
    fn work(&self, batch: &AcceptedBatch, stream: &TcpStream) -> bool {
        if batch.records.len() < LARGE_BATCH_RECORDS {
            return true;
        }
        if !self.has(ServerFault::StopsOnHangUp) {
            pace(WORK);
            return true;
        }
        let first = AcceptedBatch {
            id: batch.id.clone(),
            device: batch.device.clone(),
            body: Vec::new(),
            records: batch.records[..1].to_vec(),
        };
        let mut is_present = true;
        let mut left = WORK;
        while is_present && !left.is_zero() {
            pace(WORK_STEP);
            left = left.saturating_sub(WORK_STEP);
            is_present = is_connected(stream);
        }
        if !is_present {
            self.apply(&first);
        }
        is_present
    }

    fn apply(&self, batch: &AcceptedBatch) -> Vec<Value> {
        let ids = batch.records.iter().map(|record| record["id"].as_str().unwrap());
        if self.has(ServerFault::AppliesTwiceConcurrently) {
            let known: HashSet<String> = {
                let state = self.lock();
                ids.filter(|id| state.records.contains_key(*id)).map(str::to_owned).collect()
            };
            pace(RACE_WINDOW);
            let mut state = self.lock();
            state.records.retain(|id, _| {
                known.contains(id) || !batch.records.iter().any(|record| record["id"] == id.as_str())
            });
            return self.apply_in_order(&mut state, batch);
        }
        self.apply_in_order(&mut self.lock(), batch)
    }

    fn apply_in_order(&self, state: &mut BooksState, batch: &AcceptedBatch) -> Vec<Value> {
        let mut blocked = HashSet::new();
        let results = batch.records.iter().map(|record| {
            let key = record["key"].as_str();
            let result = match key {
                Some(key) if blocked.contains(key) => {
                    json!({"id": record["id"], "status": "retry", "code": "HELD", "message": "behind another"})
                }
                _ => self.apply_record(state, record, &batch.device),
            };
            let is_stored = matches!(result["status"].as_str(), Some("applied" | "duplicate"));
            let is_held = result["code"] == "HELD";
            if is_held && self.has(ServerFault::HoldsOneRecord) {
                blocked.clear();
            } else if !is_stored && !self.has(ServerFault::OvertakesRejected) {
                blocked.extend(key);
            }
            result
        });
        results.collect()
    }

    fn apply_record(&self, state: &mut BooksState, record: &Value, device: &str) -> Value {
        let id = record["id"].as_str().unwrap();
        let content = json!([record["type"], record["key"], record["payload"]]);
        let Some(known) = state.records.get(id) else {
            let applied = AppliedRecord { device: device.to_owned(), content };
            state.records.insert(id.to_owned(), applied);
            return json!({"id": id, "status": "applied", "receipt": {"module": "Visits", "id": id}});
        };
        if known.content == content || self.has(ServerFault::IgnoresConflicts) {
            return json!({"id": id, "status": "duplicate"});
        }
        let code = if known.device == device { "ID_CONFLICT" } else { "ID_OF_OTHER_DEVICE" };
        json!({"id": id, "status": "rejected", "code": code, "message": "known with other content"})
    }
}

/// Whether the client is still there.
fn is_connected(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    !matches!(peeked, Ok(0)) && !peeked.is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
}
