//! How often access tokens may be asked for, counted in the ledger: by all gateways that share it, over restarts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use super::destination::TokenBudget;
use super::ledger::{Ledger, LedgerError};
use crate::causes::with_causes;
use crate::clock::wall_ms;

/// The destination's window begins when a request arrives there, which is later than it is counted here.
const WINDOW_MARGIN: Duration = Duration::from_secs(10);
/// No token is asked for without being counted; the ledger is asked again after so long.
const LEDGER_RETRY_WAIT: Duration = Duration::from_secs(5);

/// The budget of all gateways that share a ledger.
pub(crate) struct LedgerTokenBudget {
    ledger: Arc<dyn Ledger>,
    runtime: Handle,
}

impl LedgerTokenBudget {
    pub(crate) fn new(ledger: Arc<dyn Ledger>, runtime: Handle) -> Self {
        Self { ledger, runtime }
    }

    async fn take_request(&self, requests_max: usize, window: Duration) -> Result<(), Duration> {
        let ledger = Arc::clone(&self.ledger);
        let window = window + WINDOW_MARGIN;
        let task =
            self.runtime.spawn_blocking(move || ledger.take_token_request(requests_max, window, wall_ms()));
        let taken = task.await.unwrap_or_else(|error| Err(LedgerError::Storage(error.into())));
        match taken {
            Ok(None) => Ok(()),
            Ok(Some(wait)) => Err(wait),
            Err(error) => {
                tracing::warn!(error = with_causes(&error), "a token request could not be counted");
                Err(LEDGER_RETRY_WAIT)
            }
        }
    }
}

impl TokenBudget for LedgerTokenBudget {
    fn take(&self, requests_max: usize, window: Duration) -> BoxFuture<'_, Result<(), Duration>> {
        Box::pin(self.take_request(requests_max, window))
    }
}
