//! When access tokens were asked for.

use std::time::Duration;

use redb::{ReadableTable, WriteTransaction};

use super::tables::TOKEN_REQUESTS;
use crate::clock::millis;
use crate::ledger::LedgerError;

/// Counts a request, unless the window has its number already. Then it returns how long to wait.
pub(super) fn take_token_request(
    transaction: &WriteTransaction,
    requests_max: usize,
    window: Duration,
    now: u64,
) -> Result<Option<Duration>, LedgerError> {
    let mut requests = transaction.open_table(TOKEN_REQUESTS)?;
    let window = millis(window);
    // After the clock was set back, a request of the future counts as one of now.
    let mut recent: Vec<u64> = Vec::new();
    for row in requests.iter()? {
        recent.push(row?.1.value().min(now));
    }
    recent.retain(|at| now < at.saturating_add(window));
    let wait = if recent.len() < requests_max {
        recent.push(now);
        None
    } else {
        let oldest = recent.iter().min().copied().unwrap_or(now);
        Some(Duration::from_millis(oldest.saturating_add(window).saturating_sub(now)))
    };
    requests.retain(|_, _| false)?;
    for (place, at) in (0..).zip(recent) {
        requests.insert(place, at)?;
    }
    Ok(wait)
}
