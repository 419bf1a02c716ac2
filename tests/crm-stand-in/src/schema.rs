//! What the CRM knows of its modules: fields, their types, and which of them are required or unique.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Modules (Zoho) or objects (Salesforce), by name.
pub(crate) type Schema = BTreeMap<String, ModuleSchema>;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModuleSchema {
    /// The unique field with the sender's record id; duplicates and merges are judged by it.
    pub(crate) id_field: String,
    /// Where Zoho looks for duplicates when a call does not say where.
    #[serde(default)]
    pub(crate) system_field: Option<String>,
    pub(crate) fields: BTreeMap<String, FieldSchema>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldSchema {
    #[serde(rename = "type")]
    pub(crate) field_type: FieldType,
    /// In characters.
    #[serde(default)]
    pub(crate) max_length: Option<usize>,
    /// Of a picklist.
    #[serde(default)]
    pub(crate) values: Vec<String>,
    /// What a text must begin with.
    #[serde(default)]
    pub(crate) prefix: Option<String>,
    #[serde(default)]
    pub(crate) required: bool,
    #[serde(default)]
    pub(crate) unique: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FieldType {
    Text,
    Email,
    Picklist,
    Integer,
    Decimal,
    Boolean,
    Date,
    DateTime,
    Any,
}

impl FieldType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text | Self::Picklist => "text",
            Self::Email => "email",
            Self::Integer => "integer",
            Self::Decimal => "double",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Any => "any",
        }
    }

    fn matches(self, value: &Value) -> bool {
        match self {
            Self::Text | Self::Picklist => value.is_string(),
            Self::Email => value.as_str().is_some_and(is_email),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Decimal => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Date => value.as_str().is_some_and(|text| text.len() == 10 && text.parse::<Date>().is_ok()),
            Self::DateTime => value.as_str().is_some_and(|text| text.parse::<Timestamp>().is_ok()),
            Self::Any => true,
        }
    }
}

/// What is wrong with one field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FieldProblem {
    Missing,
    WrongType(FieldType),
    TooLong { max_length: usize },
    NotInPicklist { values: Vec<String> },
    PatternNotMatched,
}

impl ModuleSchema {
    /// All problems of a record, in the order of its fields. Fields that the schema does not have are skipped.
    pub(crate) fn check_record(
        &self,
        record: &Map<String, Value>,
        is_new: bool,
    ) -> Vec<(String, FieldProblem)> {
        let check = |(name, field): (&String, &FieldSchema)| {
            let problem = match record.get(name) {
                None => (field.required && is_new).then_some(FieldProblem::Missing),
                Some(value) => field.check_value(value),
            };
            problem.map(|problem| (name.clone(), problem))
        };
        self.fields.iter().filter_map(check).collect()
    }

    /// The fields of a record that the schema does not have.
    pub(crate) fn unknown_fields(&self, record: &Map<String, Value>) -> Vec<String> {
        record.keys().filter(|name| !self.fields.contains_key(*name)).cloned().collect()
    }

    pub(crate) fn is_unique(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(|field| field.unique)
    }

    pub(crate) fn unique_fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(|(_, field)| field.unique).map(|(name, _)| name.as_str())
    }
}

impl FieldSchema {
    fn check_value(&self, value: &Value) -> Option<FieldProblem> {
        if value.is_null() || value.as_str() == Some("") {
            return self.required.then_some(FieldProblem::Missing);
        }
        if !self.field_type.matches(value) {
            return Some(FieldProblem::WrongType(self.field_type));
        }
        let text = value.as_str()?;
        if self.field_type == FieldType::Picklist && !self.values.iter().any(|allowed| allowed == text) {
            return Some(FieldProblem::NotInPicklist { values: self.values.clone() });
        }
        if let Some(max_length) = self.max_length
            && text.chars().count() > max_length
        {
            return Some(FieldProblem::TooLong { max_length });
        }
        let is_foreign = self.prefix.as_ref().is_some_and(|prefix| !text.starts_with(prefix.as_str()));
        is_foreign.then_some(FieldProblem::PatternNotMatched)
    }
}

fn is_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(name, domain)| !name.is_empty() && domain.contains('.'))
}

/// Reads a schema, and checks that the fields it names exist.
pub(crate) fn parse_schema(text: &str) -> Result<Schema, String> {
    let schema: Schema = toml::from_str(text).map_err(|error| error.to_string())?;
    for (name, module) in &schema {
        for field in [Some(&module.id_field), module.system_field.as_ref()].into_iter().flatten() {
            if !module.fields.contains_key(field) {
                return Err(format!("module {name} has no field {field}"));
            }
        }
        if !module.is_unique(&module.id_field) {
            return Err(format!("the id_field of module {name} must be a unique field"));
        }
    }
    Ok(schema)
}
