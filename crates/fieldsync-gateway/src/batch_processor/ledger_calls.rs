//! Calls of the ledger, on blocking threads only.
//!
//! Only as many writers as the ledger can use have a thread, so that the others do not hold the threads that readers
//! need. A caller that waits too long for a thread gets an error.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::ledger::{Ledger, LedgerError};
use crate::metrics::{Metrics, OperationKind};

/// How long an operation waits for a thread. Operations hold all threads while the ledger does not respond.
const THREAD_WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an operation that writes waits for those before it.
const WRITE_TURN_TIMEOUT: Duration = Duration::from_secs(15);
/// A health check has to end soon, whatever the ledger does.
const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// The ledger and the turns of its callers.
pub(super) struct LedgerCalls {
    ledger: Arc<dyn Ledger>,
    write_turns: Arc<Semaphore>,
    /// One health check at a time, so that health checks never hold all threads.
    health_turns: Arc<Semaphore>,
    /// Outlives the workers that take requests.
    runtime: Handle,
    metrics: Arc<Metrics>,
}

impl LedgerCalls {
    pub(super) fn new(ledger: Arc<dyn Ledger>, runtime: Handle, metrics: Arc<Metrics>) -> Self {
        Self {
            write_turns: Arc::new(Semaphore::new(ledger.writers_max())),
            health_turns: Arc::new(Semaphore::new(1)),
            ledger,
            runtime,
            metrics,
        }
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn is_shared(&self) -> bool {
        self.ledger.is_shared()
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.run(OperationKind::Read, operation).await
    }

    async fn run<T: Send + 'static>(
        &self,
        kind: OperationKind,
        operation: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let result = self.run_on_thread(kind, operation).await;
        self.metrics.ledger.count_operation(kind, result.is_ok());
        result
    }

    async fn run_on_thread<T: Send + 'static>(
        &self,
        kind: OperationKind,
        operation: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (ledger, metrics) = (Arc::clone(&self.ledger), Arc::clone(&self.metrics));
        let (begin, started) = oneshot::channel();
        let task = self.runtime.spawn_blocking(move || {
            // The caller has stopped waiting: the operation is not started at all.
            begin.send(()).map_err(|()| LedgerError::Closed)?;
            let start = metrics.now();
            let result = operation(ledger.as_ref());
            metrics.ledger.observe_operation(kind, metrics.elapsed_since(start));
            result
        });
        timeout(THREAD_WAIT_TIMEOUT, started)
            .await
            .map_err(|elapsed| LedgerError::Unreachable(elapsed.into()))?
            .ok();
        task.await.unwrap_or_else(|error| Err(LedgerError::Storage(error.into())))
    }

    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.call_in_turn(OperationKind::Write, &self.write_turns, WRITE_TURN_TIMEOUT, operation).await
    }

    /// Fails when the ledger does not respond soon, even if only because many operations wait for it.
    pub(super) async fn check_health(&self) -> Result<(), LedgerError> {
        let check = self.call_in_turn(
            OperationKind::HealthCheck,
            &self.health_turns,
            HEALTH_CHECK_TIMEOUT,
            |ledger| ledger.check_health(),
        );
        timeout(HEALTH_CHECK_TIMEOUT, check)
            .await
            .unwrap_or_else(|elapsed| Err(LedgerError::Unreachable(elapsed.into())))
    }

    async fn call_in_turn<T: Send + 'static>(
        &self,
        kind: OperationKind,
        turns: &Arc<Semaphore>,
        limit: Duration,
        operation: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let turn = timeout(limit, Arc::clone(turns).acquire_owned())
            .await
            .map_err(|elapsed| LedgerError::Unreachable(elapsed.into()))?
            .map_err(|error| LedgerError::Storage(error.into()))?;
        self.run(kind, move |ledger| {
            let result = operation(ledger);
            drop(turn);
            result
        })
        .await
    }
}
