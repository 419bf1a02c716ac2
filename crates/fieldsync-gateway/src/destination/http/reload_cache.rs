//! What a reload keeps. The authenticator with its token stays while nothing changes that the token depends on: tokens may
//! not be asked for often. The gate stays while its limits do: it counts the calls that are under way, and knows how long
//! the destination wants none.

use std::sync::{Arc, Mutex, PoisonError};

use super::auth::Authenticator;
use super::client::CallClient;
use super::mapping::{AuthMapping, LimitsMapping};
use super::throttle::CallGate;
use super::token_budget::TokenBudget;
use crate::clock::Clock;
use crate::http_client::read_secret;

/// What a token depends on.
#[derive(PartialEq, Eq)]
struct AuthIdentity {
    mapping: AuthMapping,
    /// The contents of the files; `None` for a file that cannot be read.
    secrets: Vec<Option<String>>,
}

impl AuthIdentity {
    fn read(mapping: &AuthMapping) -> Self {
        let credentials = &mapping.credentials;
        let files =
            [&credentials.client_secret_file, &credentials.refresh_token_file, &credentials.token_file];
        let secrets = files.map(|file| file.as_deref().and_then(|path| read_secret(path).ok().flatten()));
        Self { mapping: mapping.clone(), secrets: secrets.into() }
    }
}

/// Makes authenticators and gates, and keeps the last ones.
pub(crate) struct ReloadCache {
    budget: Arc<dyn TokenBudget>,
    authenticator: Mutex<Option<(AuthIdentity, Arc<Authenticator>)>>,
    gate: Mutex<Option<Arc<CallGate>>>,
}

impl ReloadCache {
    /// `budget` is shared by all that use the same refresh token.
    pub(crate) fn new(budget: Arc<dyn TokenBudget>) -> Self {
        Self { budget, authenticator: Mutex::default(), gate: Mutex::default() }
    }

    /// The authenticator of these settings, which uses this client from now on.
    pub(super) fn obtain_authenticator(
        &self,
        mapping: &AuthMapping,
        client: &Arc<CallClient>,
    ) -> Arc<Authenticator> {
        let identity = AuthIdentity::read(mapping);
        let mut last = self.authenticator.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, authenticator)) = last.as_ref().filter(|(of_last, _)| *of_last == identity) {
            authenticator.reuse_with(Arc::clone(client));
            return Arc::clone(authenticator);
        }
        let authenticator = Arc::new(Authenticator::new(
            mapping.clone(),
            Arc::clone(client),
            Arc::clone(&self.budget),
            Clock::start(),
        ));
        *last = Some((identity, Arc::clone(&authenticator)));
        authenticator
    }

    /// The gate with these limits.
    pub(super) fn obtain_gate(&self, limits: &LimitsMapping, records_max: usize) -> Arc<CallGate> {
        let mut last = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = last.as_ref().filter(|gate| gate.has_limits(limits, records_max)) {
            gate.forget_unusable();
            return Arc::clone(gate);
        }
        let gate = Arc::new(CallGate::new(limits.clone(), records_max, Clock::start()));
        *last = Some(Arc::clone(&gate));
        gate
    }
}
