//! The records that the CRM has, found again by unique fields, and what must be counted as they change.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::clock::wall_now;
use crate::schema::{ModuleSchema, Schema};

/// The fields of a record by their names.
pub(crate) type Fields = Map<String, Value>;

/// A stored record.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StoredRecord {
    /// The CRM's own id.
    pub(crate) id: String,
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
    pub(crate) fields: Fields,
}

/// Where a record is in its module.
pub(crate) type RecordIndex = usize;

/// What the stored records of a module went through.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct StorageCounts {
    pub(crate) creates: u64,
    pub(crate) updates: u64,
    /// Updates that changed nothing, as a repeated call makes them.
    pub(crate) repeats: u64,
    /// Updates that changed a record of another unique value.
    pub(crate) merges: u64,
    /// Records that were applied after one of their key with a higher order value.
    pub(crate) order_violations: u64,
    /// Creates that met a record which another call created in the meantime.
    pub(crate) races: u64,
}

/// The records of one module.
#[derive(Debug)]
pub(crate) struct ModuleStorage {
    id_field: String,
    pub(crate) records: Vec<StoredRecord>,
    /// By field, then by value: only of fields that records are looked for by.
    index: HashMap<String, HashMap<String, Vec<RecordIndex>>>,
    highest_order: HashMap<String, Value>,
    pub(crate) counts: StorageCounts,
}

/// By which fields the order of records is judged.
#[derive(Clone, Debug, Default)]
pub(crate) struct OrderRule {
    pub(crate) key_field: Option<String>,
    pub(crate) order_field: Option<String>,
}

/// All modules.
#[derive(Debug)]
pub(crate) struct Storage {
    modules: BTreeMap<String, ModuleStorage>,
    order_rule: OrderRule,
    id_style: IdStyle,
    ids_given: u64,
}

/// What the CRM's own ids look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdStyle {
    /// 19 digits.
    Zoho,
    /// 18 letters and digits.
    Salesforce,
}

impl IdStyle {
    fn format_id(self, number: u64) -> String {
        match self {
            Self::Zoho => (4_150_868_000_000_000_000 + number).to_string(),
            Self::Salesforce => format!("a01xx{number:010}AAA"),
        }
    }
}

impl ModuleStorage {
    fn new(schema: &ModuleSchema) -> Self {
        let searched = schema.unique_fields().map(str::to_owned).chain(schema.system_field.clone());
        Self {
            id_field: schema.id_field.clone(),
            records: Vec::new(),
            index: searched.map(|field| (field, HashMap::new())).collect(),
            highest_order: HashMap::new(),
            counts: StorageCounts::default(),
        }
    }

    /// The records with this value, oldest first.
    pub(crate) fn find(&self, field: &str, value: &Value) -> &[RecordIndex] {
        let found = index_key(value).and_then(|key| self.index.get(field)?.get(&key));
        found.map_or(&[], Vec::as_slice)
    }

    /// Records beyond the first with one unique value.
    pub(crate) fn count_duplicates(&self) -> usize {
        let by_id = self.index.get(&self.id_field);
        by_id.map_or(0, |by_id| by_id.values().map(|records| records.len() - 1).sum())
    }

    fn add_to_index(&mut self, record: RecordIndex, fields: &Fields) {
        for (field, by_value) in &mut self.index {
            if let Some(key) = fields.get(field).and_then(index_key) {
                by_value.entry(key).or_default().push(record);
            }
        }
    }

    fn remove_from_index(&mut self, record: RecordIndex, fields: &Fields) {
        for (field, by_value) in &mut self.index {
            let Some(key) = fields.get(field).and_then(index_key) else { continue };
            if let Some(records) = by_value.get_mut(&key) {
                records.retain(|other| *other != record);
                if records.is_empty() {
                    by_value.remove(&key);
                }
            }
        }
    }

    fn check_order(&mut self, fields: &Fields, rule: &OrderRule) {
        let value_of = |name: &Option<String>| name.as_ref().and_then(|name| fields.get(name));
        let (Some(key), Some(order)) =
            (value_of(&rule.key_field).and_then(index_key), value_of(&rule.order_field))
        else {
            return;
        };
        match self.highest_order.get(&key) {
            Some(highest) if compare_order(order, highest) == Ordering::Less => {
                self.counts.order_violations += 1;
            }
            _ => drop(self.highest_order.insert(key, order.clone())),
        }
    }
}

impl Storage {
    pub(crate) fn new(schema: &Schema, order_rule: OrderRule, id_style: IdStyle) -> Self {
        let modules =
            schema.iter().map(|(name, schema)| (name.clone(), ModuleStorage::new(schema))).collect();
        Self { modules, order_rule, id_style, ids_given: 0 }
    }

    pub(crate) fn module(&self, name: &str) -> Option<&ModuleStorage> {
        self.modules.get(name)
    }

    pub(crate) fn modules(&self) -> impl Iterator<Item = (&String, &ModuleStorage)> {
        self.modules.iter()
    }

    pub(crate) fn count_race(&mut self, module: &str) {
        if let Some(storage) = self.modules.get_mut(module) {
            storage.counts.races += 1;
        }
    }

    /// Stores a new record. `None` if there is no such module.
    pub(crate) fn create(&mut self, module: &str, fields: Fields) -> Option<&StoredRecord> {
        let storage = self.modules.get_mut(module)?;
        self.ids_given += 1;
        storage.check_order(&fields, &self.order_rule);
        let index = storage.records.len();
        storage.add_to_index(index, &fields);
        let now = wall_now();
        let id = self.id_style.format_id(self.ids_given);
        storage.records.push(StoredRecord { id, created: now, modified: now, fields });
        storage.counts.creates += 1;
        storage.records.last()
    }

    /// Changes the given fields of a record. `None` if there is no such record.
    pub(crate) fn update(
        &mut self,
        module: &str,
        record: RecordIndex,
        fields: Fields,
    ) -> Option<&StoredRecord> {
        let storage = self.modules.get_mut(module)?;
        let before = storage.records.get(record)?.fields.clone();
        storage.counts.updates += 1;
        let is_other = |field: &String| {
            let (old, new) = (before.get(field)?, fields.get(field)?);
            (!old.is_null() && !new.is_null() && old != new).then_some(())
        };
        if is_other(&storage.id_field).is_some() {
            storage.counts.merges += 1;
        }
        if fields.iter().all(|(name, value)| before.get(name) == Some(value)) {
            // A repeat of what is stored does not change the order of anything.
            storage.counts.repeats += 1;
        } else {
            storage.check_order(&fields, &self.order_rule);
        }
        storage.remove_from_index(record, &before);
        let mut after = before;
        after.extend(fields);
        storage.add_to_index(record, &after);
        let stored = storage.records.get_mut(record)?;
        stored.fields = after;
        stored.modified = wall_now();
        Some(stored)
    }
}

/// A value as the index has it; null and structures are not looked for.
pub(crate) fn index_key(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (!text.is_empty()).then(|| text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn compare_order(left: &Value, right: &Value) -> Ordering {
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        return left.cmp(&right);
    }
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.total_cmp(&right),
        _ => left.as_str().cmp(&right.as_str()),
    }
}
