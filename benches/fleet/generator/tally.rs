//! What the devices of a fleet experienced.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use fieldsync::clock::Clock;
use fieldsync::protocol::wire::{BatchResponse, RecordStatus};
use hyper::StatusCode;
use tokio::sync::watch;
use uuid::Uuid;

use super::batch::Batch;
use super::connections::ExchangeFailure;

/// Counts of all devices. A fleet runs on one thread.
pub(crate) struct Tally {
    clock: Clock,
    counts: RefCell<Counts>,
    settled: watch::Sender<usize>,
}

#[derive(Default)]
pub(crate) struct Counts {
    /// Batches that the gateway confirmed.
    pub(crate) settled: Vec<Batch>,
    /// From the first byte of a request to the last of its response, of the request that was confirmed.
    pub(crate) latencies: Vec<Duration>,
    /// From the start of the fleet until a batch was confirmed.
    pub(crate) waits: Vec<Duration>,
    /// Requests with a batch, by the status of their response.
    pub(crate) statuses: BTreeMap<u16, usize>,
    /// Requests with a batch that got no response: a gateway may have received them.
    pub(crate) without_response: usize,
    /// Requests with a batch for which no gateway accepted a connection.
    pub(crate) not_sent: usize,
    pub(crate) queries: usize,
    /// Waits by the seconds that the gateway named; 0 where it named none.
    pub(crate) retry_after: BTreeMap<u64, usize>,
    /// How often each record was applied, by what the gateways reported.
    applications: HashMap<Uuid, u32>,
    /// Batches whose results were counted.
    reported: HashSet<Uuid>,
    /// Results that repeat an earlier response, or that name an earlier batch.
    pub(crate) repeated: usize,
}

impl Counts {
    pub(crate) fn status(&self, status: u16) -> usize {
        self.statuses.get(&status).copied().unwrap_or_default()
    }

    /// Requests with a batch that were sent.
    pub(crate) fn requests(&self) -> usize {
        self.statuses.values().sum::<usize>() + self.without_response
    }

    /// Requests with a batch that a gateway may have processed: without a response, or failed other than by a refusal.
    pub(crate) fn unclear_requests(&self) -> usize {
        let failed: usize = self.statuses.range(500..).map(|(_, count)| count).sum();
        self.without_response + failed - self.status(503) + self.status(408)
    }

    /// Records that the gateways reported as applied more than once.
    ///
    /// A ledger whose record ids are unique cannot show that: the second application leaves no second row.
    pub(crate) fn applied_twice(&self) -> impl Iterator<Item = Uuid> {
        self.applications.iter().filter(|(_, count)| **count > 1).map(|(id, _)| *id)
    }

    /// The first response to a batch reports what was applied. A replay counts only where the first one was lost.
    fn count_results(&mut self, response: &BatchResponse) {
        let is_new = self.reported.insert(response.batch_id.0);
        for result in &response.results {
            match result.status {
                RecordStatus::Applied if is_new || !response.replayed => {
                    *self.applications.entry(result.id.0).or_default() += 1;
                }
                RecordStatus::Applied | RecordStatus::Duplicate => {}
                RecordStatus::Rejected | RecordStatus::Retry => panic!("a record was refused: {result:?}"),
            }
            let is_repeated = response.replayed || result.status == RecordStatus::Duplicate;
            self.repeated += usize::from(is_repeated);
        }
    }
}

impl Tally {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, counts: RefCell::default(), settled: watch::Sender::new(0) }
    }

    pub(crate) fn take_counts(&self) -> Counts {
        self.counts.take()
    }

    /// The number of batches that were confirmed.
    pub(crate) fn watch_settled(&self) -> watch::Receiver<usize> {
        self.settled.subscribe()
    }

    pub(crate) fn count_request(&self, replied: Result<StatusCode, &ExchangeFailure>) {
        let mut counts = self.counts.borrow_mut();
        match replied {
            Ok(status) => *counts.statuses.entry(status.as_u16()).or_default() += 1,
            Err(ExchangeFailure::Unclear) => counts.without_response += 1,
            Err(ExchangeFailure::NotSent) => counts.not_sent += 1,
        }
    }

    pub(crate) fn count_query(&self) {
        self.counts.borrow_mut().queries += 1;
    }

    pub(crate) fn count_wait(&self, retry_after: Option<u64>) {
        *self.counts.borrow_mut().retry_after.entry(retry_after.unwrap_or_default()).or_default() += 1;
    }

    /// A batch was confirmed. No record of a fleet gives a reason to refuse it.
    pub(crate) fn settle(&self, batch: &Batch, response: &BatchResponse, latency: Duration) {
        let mut counts = self.counts.borrow_mut();
        counts.count_results(response);
        counts.latencies.push(latency);
        counts.waits.push(self.clock.now());
        counts.settled.push(*batch);
        self.settled.send_replace(counts.settled.len());
    }
}
