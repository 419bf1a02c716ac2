//! What a scripted server has applied and answered: the server's side of the protocol, in memory.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::reply::Reply;
use super::server::Request;

/// The books of a server; clones are the same books.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    /// In order of application.
    applied: Vec<String>,
    /// The results of each batch.
    answered: HashMap<String, Value>,
}

impl Ledger {
    /// What a sound server does: it applies each record once, answers each batch once, and knows what it answered.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
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

    /// These records, and no others, were applied.
    #[track_caller]
    pub(crate) fn assert_holds(&self, ids: &[String]) {
        let applied = self.applied();
        assert_eq!(applied.len(), ids.len(), "{applied:?}");
        assert_eq!(applied.iter().collect::<HashSet<_>>(), ids.iter().collect());
    }
}

impl Books {
    fn apply(&mut self, id: String) -> Value {
        if self.applied.contains(&id) {
            return json!({"id": id, "status": "duplicate"});
        }
        let result = json!({"id": id, "status": "applied"});
        self.applied.push(id);
        result
    }
}
