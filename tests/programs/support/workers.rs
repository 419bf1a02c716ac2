//! A server that works on several batches at once, each for some time, and notes what was under way together.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::ledger::Ledger;
use super::reply::Reply;
use super::server::{Request, ScriptedServer};
use super::wait::pace;

/// The batches that the server works on; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Workers(Arc<Mutex<WorkersState>>);

#[derive(Default)]
struct WorkersState {
    /// The keys of each batch under way, by the id of the batch.
    under_way: HashMap<String, HashSet<String>>,
    most: usize,
    /// Keys that two batches had that were under way together.
    shared_keys: HashSet<String>,
}

impl Workers {
    /// A batch has arrived.
    fn begin(&self, request: &Request) {
        let mut state = self.0.lock().unwrap();
        let keys: HashSet<String> =
            request.records().iter().filter_map(|record| record["key"].as_str().map(str::to_owned)).collect();
        let others: HashSet<&String> = state.under_way.values().flatten().collect();
        let shared: Vec<String> = keys.iter().filter(|key| others.contains(key)).cloned().collect();
        state.shared_keys.extend(shared);
        state.under_way.insert(request.batch_id().to_owned(), keys);
        state.most = state.most.max(state.under_way.len());
    }

    /// Works on a batch, and ends with it.
    pub(super) fn work(&self, batch: &str, time: Duration) {
        pace(time);
        self.0.lock().unwrap().under_way.remove(batch);
    }

    /// The largest number of batches that were under way at once.
    pub(crate) fn most(&self) -> usize {
        self.0.lock().unwrap().most
    }

    /// Forgets [`Self::most`].
    pub(crate) fn reset_most(&self) {
        self.0.lock().unwrap().most = 0;
    }

    /// No two batches that were under way at once had the same key.
    #[track_caller]
    pub(crate) fn assert_no_shared_keys(&self) {
        let shared = self.0.lock().unwrap().shared_keys.clone();
        assert_eq!(shared, HashSet::new());
    }
}

/// A correct server that works on all batches at once, for some time on each record.
pub(crate) struct ParallelServer {
    pub(crate) server: ScriptedServer,
    pub(crate) ledger: Ledger,
    pub(crate) workers: Workers,
}

impl ParallelServer {
    pub(crate) fn start(record_time: Duration) -> Self {
        Self::start_with(record_time, |reply| reply)
    }

    /// As [`Self::start`], with a change to each of its responses.
    pub(crate) fn start_with(
        record_time: Duration,
        change: impl Fn(Reply) -> Reply + Send + 'static,
    ) -> Self {
        let (ledger, workers) = (Ledger::default(), Workers::default());
        let (of_script, at_work) = (ledger.clone(), workers.clone());
        let server = ScriptedServer::start(move |request| {
            let reply = change(of_script.respond(request));
            if !request.is_batch() {
                return reply;
            }
            at_work.begin(request);
            let time = record_time * u32::try_from(request.ids().len()).unwrap();
            Reply::Worked(at_work.clone(), request.batch_id().to_owned(), time, Box::new(reply))
        });
        Self { server, ledger, workers }
    }

    /// Each record arrived in batches of one id only: no record was in two batches. A canary does not count: it is a
    /// record that the server has, sent alone once more.
    #[track_caller]
    pub(crate) fn assert_one_batch_for_each_record(&self) {
        let mut batches: HashMap<String, HashSet<String>> = HashMap::new();
        for request in self.server.batches() {
            let ids = request.ids();
            if ids.len() == 1 && batches.contains_key(&ids[0]) {
                continue;
            }
            for id in ids {
                batches.entry(id).or_default().insert(request.batch_id().to_owned());
            }
        }
        let several: Vec<_> = batches.iter().filter(|(_, batches)| batches.len() > 1).collect();
        assert!(several.is_empty(), "{several:?}");
    }
}
