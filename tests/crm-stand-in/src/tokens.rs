//! Access tokens: how long they live, how many live at a time, and how often new ones may be asked for.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use fastrand::Rng;

/// The rules of a CRM for access tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenRules {
    pub(crate) lifetime: Duration,
    /// With more, the oldest dies.
    pub(crate) live_max: usize,
    /// Requests in a window; `None` without a limit.
    pub(crate) requests_max: Option<usize>,
    pub(crate) window: Duration,
    /// A token that is used for longer than this after its 401 is a violation.
    pub(crate) reaction_time: Duration,
    pub(crate) prefix: &'static str,
}

#[derive(Debug)]
struct LiveToken {
    text: String,
    expires: Instant,
}

/// What a token that came with a call is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenCheck {
    Valid,
    Invalid,
    /// The client was told by a 401 before.
    UsedAfterRefusal,
}

/// The limit of token requests is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyTokenRequests;

#[derive(Debug)]
pub(crate) struct AccessTokens {
    rules: TokenRules,
    live: VecDeque<LiveToken>,
    requests: VecDeque<Instant>,
    /// When a token was refused first.
    refused: HashMap<String, Instant>,
    pub(crate) issued: u64,
}

impl AccessTokens {
    pub(crate) fn new(rules: TokenRules) -> Self {
        Self { rules, live: VecDeque::new(), requests: VecDeque::new(), refused: HashMap::new(), issued: 0 }
    }

    pub(crate) fn issue(&mut self, rng: &mut Rng, now: Instant) -> Result<String, TooManyTokenRequests> {
        let window = self.rules.window;
        self.requests.retain(|asked| now.duration_since(*asked) < window);
        if self.rules.requests_max.is_some_and(|max| self.requests.len() >= max) {
            return Err(TooManyTokenRequests);
        }
        self.requests.push_back(now);
        let text = format!("{}.{:032x}.{:032x}", self.rules.prefix, rng.u128(..), rng.u128(..));
        self.live.push_back(LiveToken { text: text.clone(), expires: now + self.rules.lifetime });
        if self.live.len() > self.rules.live_max {
            self.live.pop_front();
        }
        self.issued += 1;
        Ok(text)
    }

    pub(crate) fn check(&mut self, token: &str, now: Instant) -> TokenCheck {
        if self.live.iter().any(|live| live.text == token && live.expires > now) {
            return TokenCheck::Valid;
        }
        let refused = *self.refused.entry(token.to_owned()).or_insert(now);
        if refused < now && now.duration_since(refused) > self.rules.reaction_time {
            TokenCheck::UsedAfterRefusal
        } else {
            TokenCheck::Invalid
        }
    }

    pub(crate) fn invalidate_all(&mut self) {
        self.live.clear();
    }
}
