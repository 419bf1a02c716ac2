//! What the report counts, beside what the storage counts itself.

use std::collections::BTreeMap;

use serde::Serialize;

/// How many violations are described in words.
const NOTES_MAX: usize = 20;

/// What a client must never do, as the report names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Violation {
    /// No `duplicate_check_fields`, or the system's own field: such a call merges records.
    DefaultDuplicateCheck,
    TooManyRecords,
    /// Two records of one key: their order is undefined.
    KeyTwiceInCall,
    /// Two records with one unique value: one of them is refused.
    IdTwiceInCall,
    MixedTypes,
    /// A Salesforce record with `id` beside its external id.
    IdInRecord,
    CallsAboveAnnouncedLimit,
    TokenRequestsAboveLimit,
    TokenUsedAfterRefusal,
    InsertCalled,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct RunsByEvent {
    create: u64,
    update: u64,
}

/// The calls for one module.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ModuleTally {
    calls: u64,
    records_in_calls: usize,
    largest_call: usize,
    /// Records, by the code that refused them.
    refused: BTreeMap<String, u64>,
    /// Values for fields that the module does not have, by field.
    unknown_fields: BTreeMap<String, u64>,
    /// Runs of workflows, approvals and so on, by kind.
    workflow_runs: BTreeMap<String, RunsByEvent>,
}

/// All counts.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tally {
    #[serde(skip)]
    pub(crate) modules: BTreeMap<String, ModuleTally>,
    /// Answers to calls by HTTP status, or by what came instead of an answer.
    pub(crate) responses: BTreeMap<String, u64>,
    /// Refusals of whole calls, by code.
    pub(crate) refused_calls: BTreeMap<String, u64>,
    pub(crate) token_requests: u64,
    /// Injected faults, by name.
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) violations: BTreeMap<Violation, u64>,
    /// The first violations, in words.
    pub(crate) violation_notes: Vec<String>,
}

impl Tally {
    pub(crate) fn module(&mut self, name: &str) -> &mut ModuleTally {
        self.modules.entry(name.to_owned()).or_default()
    }

    pub(crate) fn count_violation(&mut self, violation: Violation, note: impl FnOnce() -> String) {
        *self.violations.entry(violation).or_default() += 1;
        if self.violation_notes.len() < NOTES_MAX {
            self.violation_notes.push(note());
        }
    }

    pub(crate) fn count_response(&mut self, name: impl Into<String>) {
        *self.responses.entry(name.into()).or_default() += 1;
    }

    pub(crate) fn count_refused_call(&mut self, code: &str) {
        *self.refused_calls.entry(code.to_owned()).or_default() += 1;
    }

    pub(crate) fn count_fault(&mut self, name: &str) {
        *self.faults.entry(name.to_owned()).or_default() += 1;
    }
}

impl ModuleTally {
    pub(crate) fn count_call(&mut self, records: usize) {
        self.calls += 1;
        self.records_in_calls += records;
        self.largest_call = self.largest_call.max(records);
    }

    pub(crate) fn count_refused(&mut self, code: &str) {
        *self.refused.entry(code.to_owned()).or_default() += 1;
    }

    pub(crate) fn count_unknown_field(&mut self, field: &str) {
        *self.unknown_fields.entry(field.to_owned()).or_default() += 1;
    }

    pub(crate) fn count_workflow_run(&mut self, kind: &str, is_create: bool) {
        let runs = self.workflow_runs.entry(kind.to_owned()).or_default();
        if is_create {
            runs.create += 1;
        } else {
            runs.update += 1;
        }
    }
}
