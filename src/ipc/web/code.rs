//! The code for changes: read from its file whenever it is needed, so that a new one is used at once.
//!
//! A person types it with gloves on, so it may be short. What makes it safe is that few wrong ones may be
//! tried in a time, by all together; while that limit is passed not even the right one is heard, or the
//! answer would tell. So whoever guesses locks the owner out, but not one whose code is too long to be
//! guessed: that is always heard. It is compared in a time that does not depend on where it differs.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use crate::clock::Clock;
use crate::config;
use crate::transport::credential::Token;

/// The shortest code.
const SHORTEST: usize = 6;
/// One that is as long is not guessed: 128 bits in base64.
const UNGUESSABLE: usize = 22;
/// So many wrong codes may follow each other,
const WRONG_AT_ONCE: u32 = 5;
/// and then one in this time.
const WRONG_EVERY: Duration = Duration::from_secs(12);

/// What it means that the file cannot be used.
const MEANWHILE: &str = "The page takes no code meanwhile";

/// Why a request does not come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locked {
    /// No code is configured.
    ReadOnly,
    /// The file with the code cannot be used; the log has why.
    Unusable,
    /// There is none, or another one.
    Wrong,
    /// The request is signed, but the daemon was asked for a proof too long ago, or in an earlier run.
    Expired,
    /// Too many wrong ones came.
    TooMany { wait: Duration },
}

/// Compares what comes with the code of the file.
pub(super) struct Code {
    clock: Clock,
    config: config::Web,
    wrong: Mutex<Wrong>,
    /// What was said of the file last, so that it is said once.
    said: Mutex<Option<String>>,
}

impl Code {
    pub(super) fn new(clock: Clock, config: config::Web) -> Self {
        Self { clock, config, wrong: Mutex::default(), said: Mutex::default() }
    }

    /// Whether there is one that could be right.
    pub(super) fn is_configured(&self) -> bool {
        self.config.token_file.is_some()
    }

    /// Whether reading takes it, too.
    pub(super) fn is_for_reading(&self) -> bool {
        self.config.reading == config::Reading::Token
    }

    /// Lets a request through if it shows that its sender knows the code, which `is_right` decides; none if the
    /// request shows nothing.
    pub(super) fn open(&self, is_right: Option<impl FnOnce(&str) -> bool>) -> Result<(), Locked> {
        let token = self.read()?;
        let Some(is_right) = is_right else {
            // Nobody has guessed anything.
            return Err(Locked::Wrong);
        };
        let is_right = is_right(token.expose());
        if is_right && token.expose().len() >= UNGUESSABLE {
            return Ok(());
        }
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let wait = wrong.wait(now);
        if !wait.is_zero() {
            return Err(Locked::TooMany { wait });
        }
        if is_right {
            return Ok(());
        }
        wrong.note(now);
        tracing::warn!("a wrong code was entered on the page");
        Err(Locked::Wrong)
    }

    fn read(&self) -> Result<Token, Locked> {
        let path = self.config.token_file.as_deref().ok_or(Locked::ReadOnly)?;
        let token = Token::read(path).map_err(|refusal| refusal.meanwhile(MEANWHILE)).and_then(|token| {
            if token.expose().len() >= SHORTEST { Ok(token) } else { Err(too_short(path)) }
        });
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = token.as_ref().err();
        if let Some(refusal) = refusal
            && said.as_ref() != Some(refusal)
        {
            tracing::error!("web.token_file: {refusal}");
        }
        *said = refusal.cloned();
        token.map_err(|_| Locked::Unusable)
    }
}

/// Compares two codes in a time that depends on neither.
pub(super) fn is_same_code(given: &str, known: &str) -> bool {
    // Digests: not even the length shows.
    let [given, known] = [given, known].map(|code| digest(&SHA256, code.as_bytes()));
    bool::from(given.as_ref().ct_eq(known.as_ref()))
}

fn too_short(path: &Path) -> String {
    let path = path.display();
    format!(
        "{path} holds a code that is too short. {MEANWHILE}. To mend it: put one of {SHORTEST} characters or more there"
    )
}

/// The wrong codes of late, as the time at which all of them are forgiven.
#[derive(Debug, Default)]
struct Wrong {
    forgiven_at: Duration,
}

impl Wrong {
    fn note(&mut self, now: Duration) {
        self.forgiven_at = self.forgiven_at.max(now) + WRONG_EVERY;
    }

    /// How long no code that could be guessed is heard.
    fn wait(&self, now: Duration) -> Duration {
        (self.forgiven_at + WRONG_EVERY).saturating_sub(now + WRONG_EVERY * WRONG_AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_wrong_codes_may_follow_each_other_and_then_one_in_a_time() {
        let (mut wrong, mut now) = (Wrong::default(), Duration::from_secs(1000));
        for _ in 0..WRONG_AT_ONCE {
            assert_eq!(wrong.wait(now), Duration::ZERO);
            wrong.note(now);
        }
        for _ in 0..3 {
            assert_eq!(wrong.wait(now), WRONG_EVERY);
            now += WRONG_EVERY.saturating_sub(Duration::from_millis(1));
            assert_eq!(wrong.wait(now), Duration::from_millis(1));
            now += Duration::from_millis(1);
            assert_eq!(wrong.wait(now), Duration::ZERO);
            wrong.note(now);
        }
        now += WRONG_EVERY * WRONG_AT_ONCE;
        assert_eq!(wrong.wait(now), Duration::ZERO);
    }
}
