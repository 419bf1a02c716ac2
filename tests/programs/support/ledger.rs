//! The ledger of a scripted server: the server's side of the protocol, in memory.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::reply::Reply;
use super::server::Request;

/// The ledger of a server; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<LedgerState>>);

#[derive(Default)]
struct LedgerState {
    /// Record ids, in order of application.
    applied: Vec<String>,
    /// The results of each batch.
    answered: HashMap<String, Value>,
}

impl Ledger {
    /// Responds like a correct server: it applies each record once, and replays its response to a batch.
    pub(crate) fn respond(&self, request: &Request) -> Reply {
        let mut books = self.0.lock().unwrap();
        let batch = request.batch_id();
        let replayed = books.answered.contains_key(batch);
        if !replayed {
            if !request.is_batch() {
                return Reply::unknown_batch();
            }
            let results = request.ids().into_iter().map(|id| books.apply(id)).collect();
            books.answered.insert(batch.to_owned(), Value::Array(results));
        }
        let results = &books.answered[batch];
        Reply::json(200, &json!({"batch_id": batch, "replayed": replayed, "results": results}))
    }

    pub(crate) fn applied(&self) -> Vec<String> {
        self.0.lock().unwrap().applied.clone()
    }

    /// Exactly these records were applied.
    #[track_caller]
    pub(crate) fn assert_holds(&self, ids: &[String]) {
        let applied = self.applied();
        assert_eq!(applied.len(), ids.len(), "{applied:?}");
        assert_eq!(applied.iter().collect::<HashSet<_>>(), ids.iter().collect());
    }
}

impl LedgerState {
    fn apply(&mut self, id: String) -> Value {
        if self.applied.contains(&id) {
            return json!({"id": id, "status": "duplicate"});
        }
        let result = json!({"id": id, "status": "applied"});
        self.applied.push(id);
        result
    }
}
