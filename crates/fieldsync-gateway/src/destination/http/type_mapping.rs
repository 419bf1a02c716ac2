//! One record type and what it becomes at the destination: a `[[destination.type]]` of the configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::pointer::format_pointer;

/// How records of one type are handed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TypeMapping {
    /// The type of the record.
    pub(crate) name: String,
    /// The module or object of the destination; without it, the name.
    pub(crate) module: Option<String>,
    /// The destination's unique field that holds the record's id.
    pub(crate) id_field: String,
    /// The field that holds the record's key.
    pub(crate) key_field: Option<String>,
    /// What runs for a record; without it, what the destination runs on its own.
    pub(crate) trigger: Option<Vec<String>>,
    /// Fields of the payload by their name at the destination. An empty name leaves a field out; a field that is
    /// not named keeps its name.
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, String>,
    /// Fields that each record gets besides.
    #[serde(default)]
    pub(crate) constants: Map<String, Value>,
}

impl TypeMapping {
    pub(crate) fn module(&self) -> &str {
        self.module.as_deref().unwrap_or(&self.name)
    }

    /// The destination's name of a field of the payload. `None` if the field is left out.
    pub(crate) fn rename_field<'a>(&'a self, field: &'a str) -> Option<&'a str> {
        let name = self.fields.get(field).map_or(field, String::as_str);
        (!name.is_empty()).then_some(name)
    }

    /// Whether the mapping sets this field. Some destinations do not tell upper case from lower case.
    pub(crate) fn sets_field(&self, name: &str) -> bool {
        self.own_fields().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// The fields that the mapping sets.
    pub(crate) fn own_fields(&self) -> impl Iterator<Item = &str> {
        let fixed = [Some(self.id_field.as_str()), self.key_field.as_deref()];
        fixed.into_iter().flatten().chain(self.constants.keys().map(String::as_str))
    }

    /// The part of the device's payload that became this part of the destination's record. `None` if the mapping
    /// made it.
    pub(crate) fn point_into_payload(&self, path: &[&str]) -> Option<String> {
        let (first, rest) = path.split_first()?;
        if self.own_fields().any(|own| own == *first) {
            return None;
        }
        let renamed = self.fields.iter().find(|(_, name)| name == first);
        let first = renamed.map_or(*first, |(field, _)| field.as_str());
        Some(format_pointer(std::iter::once(first).chain(rest.iter().copied())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renames_are_undone_and_fields_of_the_mapping_point_nowhere() {
        let mapping: TypeMapping = toml::from_str(
            "name = 'Visits'\nid_field = 'Sync_Id'\nkey_field = 'Site'\nfields = { 'a/b' = 'A_B', note = '' }\n\
             constants = { Source = 'field' }",
        )
        .unwrap();
        let point = |path: &[&str]| mapping.point_into_payload(path);
        assert_eq!(point(&["A_B"]).unwrap(), "/a~1b");
        assert_eq!(point(&["Lines", "0", "Name"]).unwrap(), "/Lines/0/Name");
        for own in ["Sync_Id", "Site", "Source"] {
            assert_eq!(point(&[own]), None);
        }
        assert_eq!((mapping.rename_field("note"), mapping.rename_field("a/b")), (None, Some("A_B")));
        assert!(mapping.sets_field("SYNC_ID") && !mapping.sets_field("A_B"));
        assert_eq!(mapping.module(), "Visits");
    }
}
