//! The access code of the page. It is read from its file for each request, so that a new code takes effect at once.
//!
//! People type the code, so it may be short. Few wrong codes are accepted in a period, over all senders, so that it cannot be
//! guessed. While that limit is reached, the right code is rejected as well: otherwise the response would reveal it. An
//! attacker can thus lock out the owner of a short code. A code that is too long to be guessed always works. Codes are
//! compared in constant time.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use crate::clock::Clock;
use crate::config;
use crate::transport::credential::Token;

const CODE_BYTES_MIN: usize = 6;
/// A code of this length cannot be guessed: it has 128 bits in base64.
const UNGUESSABLE_BYTES: usize = 22;
/// This many wrong codes are accepted in a row, and then one in each interval.
const WRONG_CODES_BURST: u32 = 5;
const WRONG_CODE_INTERVAL: Duration = Duration::from_secs(12);

/// What it means that the file cannot be used.
const MEANWHILE: &str = "The page takes no code meanwhile";

/// Why a request may not read or change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessDenied {
    /// No code is configured.
    ReadOnly,
    /// The file with the code cannot be used. The log says why.
    CodeUnusable,
    /// The code is wrong or missing.
    WrongCode,
    /// The request is signed, but its ticket is too old, or from an earlier run of the daemon.
    TicketExpired,
    TooManyWrongCodes {
        retry_after: Duration,
    },
}

pub(super) struct AccessCode {
    clock: Clock,
    config: config::Web,
    wrong_codes: Mutex<WrongCodeLimit>,
    /// The last error of the file, so that it is logged once.
    last_file_error: Mutex<Option<String>>,
}

impl AccessCode {
    pub(super) fn new(clock: Clock, config: config::Web) -> Self {
        Self { clock, config, wrong_codes: Mutex::default(), last_file_error: Mutex::default() }
    }

    pub(super) fn is_configured(&self) -> bool {
        self.config.token_file.is_some()
    }

    pub(super) fn is_for_reading(&self) -> bool {
        self.config.reading == config::Reading::Token
    }

    /// Checks that the sender of a request knows the code. `is_right` is None if the request has no code or signature.
    pub(super) fn check_access(
        &self,
        is_right: Option<impl FnOnce(&str) -> bool>,
    ) -> Result<(), AccessDenied> {
        let token = self.read_code()?;
        let Some(is_right) = is_right else {
            // This is not an attempt to guess the code.
            return Err(AccessDenied::WrongCode);
        };
        let is_right = is_right(token.expose());
        if is_right && token.expose().len() >= UNGUESSABLE_BYTES {
            return Ok(());
        }
        let mut wrong_codes = self.wrong_codes.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let retry_after = wrong_codes.retry_after(now);
        if !retry_after.is_zero() {
            return Err(AccessDenied::TooManyWrongCodes { retry_after });
        }
        if is_right {
            return Ok(());
        }
        wrong_codes.record_wrong_code(now);
        tracing::warn!("a wrong code was entered on the page");
        Err(AccessDenied::WrongCode)
    }

    fn read_code(&self) -> Result<Token, AccessDenied> {
        let path = self.config.token_file.as_deref().ok_or(AccessDenied::ReadOnly)?;
        let token = Token::read_from(path).map_err(|error| error.describe(MEANWHILE)).and_then(|token| {
            if token.expose().len() >= CODE_BYTES_MIN { Ok(token) } else { Err(explain_short_code(path)) }
        });
        let mut last_error = self.last_file_error.lock().unwrap_or_else(PoisonError::into_inner);
        let error = token.as_ref().err();
        if let Some(error) = error
            && last_error.as_ref() != Some(error)
        {
            tracing::error!("web.token_file: {error}");
        }
        *last_error = error.cloned();
        token.map_err(|_| AccessDenied::CodeUnusable)
    }
}

/// Compares two codes in constant time.
pub(super) fn is_same_code(given: &str, known: &str) -> bool {
    // Comparing digests does not reveal the length either.
    let [given, known] = [given, known].map(|code| digest(&SHA256, code.as_bytes()));
    bool::from(given.as_ref().ct_eq(known.as_ref()))
}

fn explain_short_code(path: &Path) -> String {
    let path = path.display();
    format!(
        "{path} holds a code that is too short. {MEANWHILE}. To fix it: put one of {CODE_BYTES_MIN} characters or more there"
    )
}

/// Limits the rate of wrong codes: a token bucket, as the time at which it is full again.
#[derive(Debug, Default)]
struct WrongCodeLimit {
    full_at: Duration,
}

impl WrongCodeLimit {
    fn record_wrong_code(&mut self, now: Duration) {
        self.full_at = self.full_at.max(now) + WRONG_CODE_INTERVAL;
    }

    /// Zero if another code may be tried now.
    fn retry_after(&self, now: Duration) -> Duration {
        (self.full_at + WRONG_CODE_INTERVAL).saturating_sub(now + WRONG_CODE_INTERVAL * WRONG_CODES_BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_codes_are_limited_to_a_burst_and_then_to_one_in_each_interval() {
        let (mut limit, mut now) = (WrongCodeLimit::default(), Duration::from_secs(1000));
        for _ in 0..WRONG_CODES_BURST {
            assert_eq!(limit.retry_after(now), Duration::ZERO);
            limit.record_wrong_code(now);
        }
        for _ in 0..3 {
            assert_eq!(limit.retry_after(now), WRONG_CODE_INTERVAL);
            now += WRONG_CODE_INTERVAL.saturating_sub(Duration::from_millis(1));
            assert_eq!(limit.retry_after(now), Duration::from_millis(1));
            now += Duration::from_millis(1);
            assert_eq!(limit.retry_after(now), Duration::ZERO);
            limit.record_wrong_code(now);
        }
        now += WRONG_CODE_INTERVAL * WRONG_CODES_BURST;
        assert_eq!(limit.retry_after(now), Duration::ZERO);
    }
}
