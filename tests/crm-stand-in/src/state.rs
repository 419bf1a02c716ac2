//! The state of the CRM that is played, and the report about it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use serde::Serialize;
use tokio::time::sleep;

use crate::clock::monotonic_now;
use crate::faults::{FaultName, FaultSettings, SLOW_TOKEN, TOKEN_DELAY};
use crate::limits::{CallLimits, LimitRules};
use crate::magic_values::RecordTries;
use crate::schema::Schema;
use crate::storage::{IdStyle, OrderRule, Storage, StorageCounts};
use crate::tally::{ModuleTally, Tally};
use crate::tokens::{AccessTokens, TokenRules};

/// Which CRM is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CrmKind {
    Zoho,
    Salesforce,
}

/// What becomes of two calls at the same time that bring the same new unique value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ParallelCreates {
    /// The second is refused as a duplicate, as with a unique field.
    Refuse,
    /// Both create a record, as without one.
    Duplicate,
}

/// What becomes of fields that the module does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum UnknownFields {
    /// They are dropped in silence, and counted in the report.
    Ignore,
    /// The record is refused.
    Refuse,
}

/// Rules that do not change while the stand-in runs.
#[derive(Clone, Debug)]
pub(crate) struct CrmRules {
    pub(crate) kind: CrmKind,
    pub(crate) seed: u64,
    /// The address that the token answer names.
    pub(crate) origin: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) order_rule: OrderRule,
    pub(crate) parallel_creates: ParallelCreates,
    pub(crate) unknown_fields: UnknownFields,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) tokens: TokenRules,
    pub(crate) limits: LimitRules,
}

/// What changes.
pub(crate) struct CrmState {
    pub(crate) storage: Storage,
    pub(crate) tokens: AccessTokens,
    pub(crate) limits: CallLimits,
    pub(crate) faults: FaultSettings,
    pub(crate) tries: RecordTries,
    pub(crate) tally: Tally,
    pub(crate) rng: Rng,
}

/// The CRM that is played.
pub(crate) struct StandIn {
    pub(crate) rules: CrmRules,
    pub(crate) schema: Schema,
    state: Mutex<CrmState>,
}

#[derive(Serialize)]
struct ModuleReport<'state> {
    records: usize,
    #[serde(flatten)]
    storage: &'state StorageCounts,
    duplicates: usize,
    #[serde(flatten)]
    calls: &'state ModuleTally,
}

#[derive(Serialize)]
struct StandInReport<'state> {
    crm: CrmKind,
    seed: u64,
    modules: std::collections::BTreeMap<&'state str, ModuleReport<'state>>,
    tokens_issued: u64,
    credits_spent: u64,
    most_calls_at_a_time: usize,
    #[serde(flatten)]
    tally: &'state Tally,
}

impl StandIn {
    /// Counts a request for a token. Returns the fault that it meets; a slow answer only comes later.
    pub(crate) async fn take_token_fault(&self) -> Option<FaultName> {
        let fault = {
            let mut state = self.lock();
            let state = &mut *state;
            state.tally.token_requests += 1;
            let fault = state.faults.draw_token_fault(&mut state.rng);
            if let Some(fault) = fault {
                state.tally.count_fault(fault);
            }
            fault
        };
        if fault == Some(SLOW_TOKEN) {
            sleep(TOKEN_DELAY).await;
        }
        fault.filter(|fault| *fault != SLOW_TOKEN)
    }

    pub(crate) fn new(rules: CrmRules, schema: Schema, faults: FaultSettings) -> Self {
        let id_style = match rules.kind {
            CrmKind::Zoho => IdStyle::Zoho,
            CrmKind::Salesforce => IdStyle::Salesforce,
        };
        let state = CrmState {
            storage: Storage::new(&schema, rules.order_rule.clone(), id_style),
            tokens: AccessTokens::new(rules.tokens),
            limits: CallLimits::new(rules.limits),
            faults,
            tries: RecordTries::default(),
            tally: Tally::default(),
            rng: Rng::with_seed(rules.seed),
        };
        Self { rules, schema, state: Mutex::new(state) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, CrmState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The report, as one line of JSON.
    pub(crate) fn report_line(&self) -> Result<String, serde_json::Error> {
        let mut state = self.lock();
        let credits_spent = state.limits.credits_spent(monotonic_now());
        // Every module is in the report, also one that no call came for.
        for name in self.schema.keys() {
            state.tally.module(name);
        }
        let modules = state.storage.modules().filter_map(|(name, storage)| {
            let report = ModuleReport {
                records: storage.records.len(),
                storage: &storage.counts,
                duplicates: storage.count_duplicates(),
                calls: state.tally.modules.get(name)?,
            };
            Some((name.as_str(), report))
        });
        serde_json::to_string(&StandInReport {
            crm: self.rules.kind,
            seed: self.rules.seed,
            modules: modules.collect(),
            tokens_issued: state.tokens.issued,
            credits_spent,
            most_calls_at_a_time: state.limits.most_in_flight,
            tally: &state.tally,
        })
    }
}

/// A call that was let in. Dropping it lets the next one in.
pub(crate) struct CallPermit {
    stand_in: Arc<StandIn>,
    records: usize,
}

impl CallPermit {
    pub(crate) fn new(stand_in: Arc<StandIn>, records: usize) -> Self {
        Self { stand_in, records }
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.stand_in.lock().limits.leave(self.records);
    }
}
