//! Access tokens: one request at a time, not more often than allowed, and renewed before they expire.
//!
//! Secrets are read from their files when they are needed, so that they can be replaced. No log shows them.

use std::mem;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use hyper::header::HeaderValue;
use url::form_urlencoded::Serializer;

use super::client::CallClient;
use super::mapping::{AuthKind, AuthMapping};
use super::token_budget::TokenBudget;
use super::token_response::{TokenTrouble, parse_token_response};
use crate::causes::with_causes;
use crate::clock::Clock;
use crate::http_client::{authorization_value, read_secret};
use crate::policy::backoff::backoff_delay;

/// How long the token endpoint may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
/// A token is renewed so long before it expires, or earlier if it lives for a short time only.
const EXPIRY_MARGIN: Duration = Duration::from_mins(1);
const EXPIRY_MARGIN_SHARE: u32 = 4;
/// A shorter lifetime is not believed: the token is used until it is refused.
const LIFETIME_MIN: Duration = Duration::from_secs(1);
/// The waits before another token is asked for because the address in its response cannot be reached. Those of ten
/// minutes fit into the budget of a window.
const ADDRESS_RENEWAL_DELAY_RANGE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));
/// A token is not replaced before this age only because a proxy refused it: that fits into the budget of a window.
const DOUBTFUL_TOKEN_AGE_MIN: Duration = Duration::from_mins(5);
/// The waits after failures of the token endpoint.
const RETRY_DELAY_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// After so long, a refused token request is sent again, to find out whether an operator has acted.
const STOP_PROBE_INTERVAL: Duration = Duration::from_mins(1);

/// What a call is authorized with.
#[derive(Clone)]
pub(crate) struct Authorization {
    pub(crate) header: HeaderValue,
    /// The address for calls, if the response with the token named one.
    pub(crate) api: Option<String>,
    /// Tells tokens apart.
    pub(crate) generation: u64,
}

/// Why no call can be authorized for so long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthTrouble {
    pub(crate) wait: Duration,
    pub(crate) reason: String,
    /// An operator has to act.
    pub(crate) is_stop: bool,
}

struct CurrentToken {
    authorization: Authorization,
    obtained_at: Duration,
    renew_at: Option<Duration>,
}

#[derive(Default)]
struct TokenState {
    current: Option<CurrentToken>,
    /// Of the last token.
    generation: u64,
    /// In a row.
    failures: u32,
    /// Another token is asked for, because its address may be another.
    is_address_doubted: bool,
    /// In a row.
    address_doubts: u32,
    next_address_doubt: Duration,
}

struct AuthBlock {
    until: Duration,
    reason: String,
    is_stop: bool,
}

/// Gives calls their tokens.
pub(crate) struct Authenticator {
    mapping: AuthMapping,
    client: RwLock<Arc<CallClient>>,
    budget: Arc<dyn TokenBudget>,
    clock: Clock,
    /// A call holds it while it asks for a token, and the others wait for that.
    state: tokio::sync::Mutex<TokenState>,
    block: Mutex<Option<AuthBlock>>,
}

impl Authenticator {
    pub(crate) fn new(
        mapping: AuthMapping,
        client: Arc<CallClient>,
        budget: Arc<dyn TokenBudget>,
        clock: Clock,
    ) -> Self {
        Self {
            mapping,
            client: RwLock::new(client),
            budget,
            clock,
            state: tokio::sync::Mutex::default(),
            block: Mutex::default(),
        }
    }

    /// A token that is probably valid, after asking for one if there is none. The request for one continues if the
    /// caller stops waiting: it counts, and the next call uses its token.
    pub(crate) async fn authorize(self: &Arc<Self>) -> Result<Authorization, AuthTrouble> {
        let authenticator = Arc::clone(self);
        let task = tokio::spawn(async move { authenticator.obtain_authorization().await });
        task.await.unwrap_or_else(|error| {
            Err(AuthTrouble { wait: RETRY_DELAY_RANGE.0, reason: with_causes(&error), is_stop: false })
        })
    }

    async fn obtain_authorization(&self) -> Result<Authorization, AuthTrouble> {
        let mut state = self.state.lock().await;
        if let Some(trouble) = self.trouble() {
            return Err(trouble);
        }
        let now = self.clock.now();
        let is_valid = |token: &&CurrentToken| token.renew_at.is_none_or(|renew_at| now < renew_at);
        let valid = state.current.as_ref().filter(is_valid).map(|token| token.authorization.clone());
        let is_address_doubted = mem::take(&mut state.is_address_doubted);
        if let Some(authorization) = valid.clone().filter(|_| !is_address_doubted) {
            return Ok(authorization);
        }
        let obtained = self.obtain_token(state.generation + 1).await;
        if let (Some(authorization), Err(_)) = (valid, &obtained) {
            return Ok(authorization);
        }
        match obtained {
            Ok(token) => {
                state.failures = 0;
                state.generation += 1;
                let authorization = token.authorization.clone();
                state.current = Some(token);
                Ok(authorization)
            }
            Err(TokenFailure::Wait(wait)) => {
                Err(self.set_block(wait, "no more access tokens may be asked for yet".into(), false))
            }
            Err(TokenFailure::Trouble(TokenTrouble::Busy(reason))) => {
                state.failures += 1;
                let (first, longest) = RETRY_DELAY_RANGE;
                let wait = backoff_delay(first, longest, state.failures, &mut fastrand::Rng::new());
                Err(self.set_block(wait, reason, false))
            }
            Err(TokenFailure::Trouble(TokenTrouble::Refused(reason))) => {
                Err(self.set_block(STOP_PROBE_INTERVAL, reason, true))
            }
        }
    }

    /// The destination refused this token: it is not used again.
    pub(crate) async fn discard(&self, generation: u64) {
        let mut state = self.state.lock().await;
        if state.current.as_ref().is_some_and(|current| current.authorization.generation == generation) {
            state.current = None;
        }
    }

    /// A response without a word of the destination refused this token. A proxy may do so because of one record, so that a
    /// new token stays in use. Returns whether the token is not used again.
    pub(crate) async fn discard_doubtful(&self, generation: u64) -> bool {
        let mut state = self.state.lock().await;
        let Some(current) = &state.current else { return true };
        // Reading a file again costs nothing.
        let is_new = self.mapping.kind != AuthKind::BearerFile
            && self.clock.now() < current.obtained_at + DOUBTFUL_TOKEN_AGE_MIN;
        if current.authorization.generation == generation && is_new {
            return false;
        }
        state.current.take_if(|current| current.authorization.generation == generation);
        true
    }

    /// The address in the response with this token cannot be reached: it may be wrong, so the next call asks for
    /// another token. Without one, this one stays in use.
    pub(crate) async fn doubt_address(&self, generation: u64) {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        let is_doubtful = |token: &CurrentToken| {
            token.authorization.generation == generation && token.authorization.api.is_some()
        };
        if now < state.next_address_doubt || !state.current.as_ref().is_some_and(is_doubtful) {
            return;
        }
        let (first, longest) = ADDRESS_RENEWAL_DELAY_RANGE;
        if state.next_address_doubt + longest < now {
            state.address_doubts = 0;
        }
        let wait = first.saturating_mul(1 << state.address_doubts.min(10)).min(longest);
        state.address_doubts += 1;
        state.next_address_doubt = now + wait;
        state.is_address_doubted = true;
    }

    /// After a reload: uses this client, and tries again what an operator may have corrected.
    pub(super) fn reuse_with(&self, client: Arc<CallClient>) {
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        if block.as_ref().is_some_and(|block| block.is_stop) {
            *block = None;
        }
    }

    /// The destination refuses new tokens, too: an operator has to act.
    pub(crate) fn stop(&self, reason: String) -> AuthTrouble {
        self.set_block(STOP_PROBE_INTERVAL, reason, true)
    }

    /// Why no call can be authorized now.
    pub(crate) fn trouble(&self) -> Option<AuthTrouble> {
        let block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let block = block.as_ref().filter(|block| now < block.until)?;
        let wait = block.until.saturating_sub(now);
        Some(AuthTrouble { wait, reason: block.reason.clone(), is_stop: block.is_stop })
    }

    fn set_block(&self, wait: Duration, reason: String, is_stop: bool) -> AuthTrouble {
        tracing::warn!(
            wait_ms = crate::clock::millis(wait),
            reason,
            "the destination's token cannot be used"
        );
        let block = AuthBlock { until: self.clock.now() + wait, reason: reason.clone(), is_stop };
        *self.block.lock().unwrap_or_else(PoisonError::into_inner) = Some(block);
        AuthTrouble { wait, reason, is_stop }
    }

    async fn obtain_token(&self, generation: u64) -> Result<CurrentToken, TokenFailure> {
        if self.mapping.kind == AuthKind::BearerFile {
            let token = read_credential(self.mapping.credentials.token_file.as_deref())?;
            return self.build_token(&token, None, None, generation);
        }
        let (form, secrets) = self.build_form()?;
        if let Some(requests_max) = self.mapping.max_token_requests {
            self.budget.take(requests_max, self.mapping.token_window).await.map_err(TokenFailure::Wait)?;
        }
        let url = self.mapping.token_url.as_deref().unwrap_or_default();
        let client = Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner));
        let (status, body) = client
            .post_form(url, form, TOKEN_TIMEOUT)
            .await
            .map_err(|reason| TokenTrouble::Busy(format!("the token endpoint does not answer: {reason}")))?;
        let grant = parse_token_response(&self.mapping, status, &body, &secrets)?;
        self.build_token(&grant.token, grant.api, grant.lifetime, generation)
    }

    /// The form that asks for a token, and the secrets in it.
    fn build_form(&self) -> Result<(String, Vec<String>), TokenTrouble> {
        let credentials = &self.mapping.credentials;
        let mut form = Serializer::new(String::new());
        form.append_pair("client_id", credentials.client_id.as_deref().unwrap_or_default());
        let secret = read_credential(credentials.client_secret_file.as_deref())?;
        form.append_pair("client_secret", &secret);
        let mut secrets = vec![secret];
        if self.mapping.kind == AuthKind::OauthRefresh {
            let refresh_token = read_credential(credentials.refresh_token_file.as_deref())?;
            form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", &refresh_token);
            secrets.push(refresh_token);
        } else {
            form.append_pair("grant_type", "client_credentials");
        }
        Ok((form.finish(), secrets))
    }

    fn build_token(
        &self,
        token: &str,
        api: Option<String>,
        lifetime: Option<Duration>,
        generation: u64,
    ) -> Result<CurrentToken, TokenFailure> {
        let header = authorization_value(&self.mapping.scheme, token).ok_or_else(|| {
            TokenTrouble::Refused("the token has characters that no header may have".into())
        })?;
        let renew_at = lifetime.filter(|lifetime| *lifetime >= LIFETIME_MIN).map(|lifetime| {
            let used = lifetime.saturating_sub(EXPIRY_MARGIN.min(lifetime / EXPIRY_MARGIN_SHARE));
            self.clock.now().saturating_add(used)
        });
        let authorization = Authorization { header, api, generation };
        Ok(CurrentToken { authorization, obtained_at: self.clock.now(), renew_at })
    }
}

fn read_credential(path: Option<&Path>) -> Result<String, TokenTrouble> {
    let path = path.ok_or_else(|| TokenTrouble::Refused("a file with a secret is not configured".into()))?;
    let shown = path.display();
    match read_secret(path) {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => Err(TokenTrouble::Refused(format!("the file {shown} is empty"))),
        Err(error) => Err(TokenTrouble::Refused(format!("cannot read the file {shown}: {error}"))),
    }
}

/// Why no token was obtained.
enum TokenFailure {
    /// The budget of requests is used up for so long.
    Wait(Duration),
    Trouble(TokenTrouble),
}

impl From<TokenTrouble> for TokenFailure {
    fn from(trouble: TokenTrouble) -> Self {
        Self::Trouble(trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::support::zoho_test_mapping;
    use super::super::token_budget::LocalTokenBudget;
    use super::*;
    use crate::http_client::build_https_client;

    #[test]
    fn a_token_is_renewed_before_it_expires_if_it_has_a_lifetime() {
        let mapping = zoho_test_mapping("https://accounts.example");
        let client = Arc::new(CallClient::new(&mapping, build_https_client().unwrap()).unwrap());
        let budget = Arc::new(LocalTokenBudget::new());
        let authenticator = Authenticator::new(mapping.auth, client, budget, Clock::start());
        let used = |lifetime: Duration| {
            let before = authenticator.clock.now();
            let token = authenticator.build_token("1000.a", None, Some(lifetime), 1).ok().unwrap();
            token.renew_at.map(|renew_at| renew_at.saturating_sub(before).as_secs())
        };
        let lifetimes = [Duration::ZERO, Duration::from_secs(4), Duration::from_hours(1)];
        assert_eq!(lifetimes.map(used), [None, Some(3), Some(3540)]);
        assert!(used(Duration::MAX) > Some(3540));
    }
}
