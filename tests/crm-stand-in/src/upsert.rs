//! What an upsert does to one record, the same for every CRM: find, check, create or update.

use serde_json::Value;

use crate::magic_values::{MAGIC_FIELD, MagicCode};
use crate::schema::{FieldProblem, ModuleSchema};
use crate::state::{CrmState, ParallelCreates, StandIn, UnknownFields};
use crate::storage::{Fields, ModuleStorage, RecordIndex, StoredRecord, index_key};
use crate::tally::Violation;

/// What an upsert found for a record when its call arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UpsertTarget {
    New,
    Existing {
        record: RecordIndex,
        /// The field that it was found by.
        field: String,
    },
    /// Several records have the value; this is the oldest.
    Ambiguous {
        record: RecordIndex,
        field: String,
    },
}

/// A record before it is looked for.
pub(crate) struct CheckedRecord {
    /// Without the magic field, and without fields that the CRM ignores.
    pub(crate) fields: Fields,
    pub(crate) target: UpsertTarget,
    /// A code that it is refused with on demand.
    pub(crate) demanded: Option<MagicCode>,
    pub(crate) problems: Vec<(String, FieldProblem)>,
    /// Fields that the module does not have, if the record is to be refused for them.
    pub(crate) unknown_fields: Vec<String>,
}

/// One call for one module.
pub(crate) struct UpsertCall<'call> {
    pub(crate) stand_in: &'call StandIn,
    pub(crate) module: &'call str,
    pub(crate) schema: &'call ModuleSchema,
    pub(crate) check_fields: &'call [String],
    /// What a locked record is refused with.
    pub(crate) lock_codes: &'call [&'call str],
}

impl UpsertCall<'_> {
    /// Checks a record and looks for the one that it is to update.
    pub(crate) fn check_record(&self, state: &mut CrmState, record: &Fields) -> CheckedRecord {
        let mut fields = record.clone();
        let magic = fields.remove(MAGIC_FIELD);
        let identity = self.identify(&fields);
        let demanded = self.draw_demanded(state, &identity, magic.as_ref());
        let unknown_fields = self.schema.unknown_fields(&fields);
        for field in &unknown_fields {
            state.tally.module(self.module).count_unknown_field(field);
            fields.remove(field);
        }
        let refuses_unknown = self.stand_in.rules.unknown_fields == UnknownFields::Refuse;
        let target = self.find_target(state, &fields);
        let problems = self.schema.check_record(&fields, target == UpsertTarget::New);
        let unknown_fields = if refuses_unknown { unknown_fields } else { Vec::new() };
        CheckedRecord { fields, target, demanded, problems, unknown_fields }
    }

    fn identify(&self, fields: &Fields) -> String {
        let id = fields.get(&self.schema.id_field).and_then(index_key);
        id.unwrap_or_else(|| Value::Object(fields.clone()).to_string())
    }

    fn draw_demanded(
        &self,
        state: &mut CrmState,
        identity: &str,
        magic: Option<&Value>,
    ) -> Option<MagicCode> {
        let tries = state.faults.transient_tries;
        if let Some(text) = magic.and_then(Value::as_str)
            && let Some(code) = state.tries.draw_magic(self.module, identity, text, tries)
        {
            return Some(code);
        }
        let (faults, rng) = (&mut state.faults, &mut state.rng);
        let is_locked = state.tries.is_locked(self.module, identity, tries, || faults.draw_record_lock(rng));
        is_locked.then(|| {
            state.tally.count_fault("lock-records");
            let code = state.rng.choice(self.lock_codes).copied();
            MagicCode::new(code.unwrap_or_default())
        })
    }

    fn find_target(&self, state: &CrmState, fields: &Fields) -> UpsertTarget {
        let Some(storage) = state.storage.module(self.module) else { return UpsertTarget::New };
        for field in self.check_fields {
            let found = fields.get(field).map_or(&[][..], |value| storage.find(field, value));
            match found {
                [] => {}
                [record] => return UpsertTarget::Existing { record: *record, field: field.clone() },
                [oldest, ..] => return UpsertTarget::Ambiguous { record: *oldest, field: field.clone() },
            }
        }
        UpsertTarget::New
    }

    /// Counts what must not be in one call: two records of a key, or of an id.
    pub(crate) fn count_repeated_values(&self, state: &mut CrmState, records: &[&Fields]) {
        let key_field = self.stand_in.rules.order_rule.key_field.as_deref();
        let id_field = Some(self.schema.id_field.as_str());
        for (field, violation) in
            [(key_field, Violation::KeyTwiceInCall), (id_field, Violation::IdTwiceInCall)]
        {
            let Some(field) = field else { continue };
            if let Some(value) = first_repeated_value(records, field) {
                state.tally.count_violation(violation, || {
                    format!(
                        "{}: {field} {value} is twice in a call of {} records",
                        self.module,
                        records.len()
                    )
                });
            }
        }
    }
}

fn first_repeated_value(records: &[&Fields], field: &str) -> Option<String> {
    let mut seen = std::collections::HashSet::new();
    records
        .iter()
        .filter_map(|record| record.get(field).and_then(index_key))
        .find(|key| !seen.insert(key.clone()))
}

/// A call that is being applied.
pub(crate) struct ApplyRun<'call> {
    stand_in: &'call StandIn,
    module: &'call str,
    /// How many records there were when the call arrived: those beyond were created since.
    records_at_arrival: usize,
    created_here: Vec<RecordIndex>,
}

/// What became of a record.
#[derive(Clone, Debug)]
pub(crate) enum UpsertResult {
    Created(StoredRecord),
    Updated {
        record: StoredRecord,
        field: String,
    },
    /// Another record has the unique value of this field.
    Conflict {
        record: StoredRecord,
        field: String,
    },
    NotFound,
}

impl<'call> ApplyRun<'call> {
    pub(crate) fn new(stand_in: &'call StandIn, module: &'call str, records_at_arrival: usize) -> Self {
        Self { stand_in, module, records_at_arrival, created_here: Vec::new() }
    }

    /// The record that has a unique value of these fields, and the field.
    pub(crate) fn find_conflict(
        &self,
        state: &CrmState,
        target: &UpsertTarget,
        fields: &Fields,
    ) -> Option<(String, RecordIndex)> {
        let storage = state.storage.module(self.module)?;
        let schema = self.stand_in.schema.get(self.module)?;
        let own = match target {
            UpsertTarget::Existing { record, .. } => Some(*record),
            UpsertTarget::New | UpsertTarget::Ambiguous { .. } => None,
        };
        schema.unique_fields().find_map(|field| {
            let found = storage.find(field, fields.get(field)?);
            // What was there twice before the call is not this call's conflict.
            let other = found.iter().copied().find(|other| Some(*other) != own)?;
            (own.is_none() || !found.contains(&own?)).then(|| (field.to_owned(), other))
        })
    }

    pub(crate) fn is_race(&self, other: RecordIndex) -> bool {
        other >= self.records_at_arrival && !self.created_here.contains(&other)
    }

    /// Creates or updates the record.
    pub(crate) fn apply_record(
        &mut self,
        state: &mut CrmState,
        target: &UpsertTarget,
        fields: Fields,
    ) -> UpsertResult {
        if let Some((field, other)) = self.find_conflict(state, target, &fields) {
            let is_race = self.is_race(other);
            if is_race {
                state.storage.count_race(self.module);
            }
            let creates_both = self.stand_in.rules.parallel_creates == ParallelCreates::Duplicate;
            if !(is_race && creates_both) {
                let record = state.storage.module(self.module).and_then(|storage| storage.records.get(other));
                return record
                    .cloned()
                    .map_or(UpsertResult::NotFound, |record| UpsertResult::Conflict { record, field });
            }
        }
        let stored = match target {
            UpsertTarget::Existing { record, field } => {
                let updated = state.storage.update(self.module, *record, fields).cloned();
                updated.map(|record| UpsertResult::Updated { record, field: field.clone() })
            }
            UpsertTarget::New | UpsertTarget::Ambiguous { .. } => {
                self.created_here.push(count_records(state.storage.module(self.module)));
                state.storage.create(self.module, fields).cloned().map(UpsertResult::Created)
            }
        };
        stored.unwrap_or(UpsertResult::NotFound)
    }
}

/// How many records a module has.
pub(crate) fn count_records(storage: Option<&ModuleStorage>) -> usize {
    storage.map_or(0, |storage| storage.records.len())
}
