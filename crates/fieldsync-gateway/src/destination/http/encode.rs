//! From records to the body and the address of a call.
//!
//! The values of a payload are copied as they are: a number keeps its digits. A payload never sets what the mapping
//! sets, above all not the id by which the destination finds its record.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::mapping::{HttpMapping, MappingError};
use super::pointer::format_pointer;
use super::template::{TRIGGER, fill_members, fill_text};
use super::type_mapping::TypeMapping;
use crate::destination::delivery::Verdict;
use crate::model::RecordId;
use crate::validated_batch::{INVALID_DATA, ValidatedRecord};

/// Room for what a mapping adds to a record or a call.
const OWN_FIELDS_BYTES: usize = 256;

/// A record as the destination takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EncodedRecord(Vec<u8>);

impl EncodedRecord {
    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("JSON is UTF-8")
    }
}

/// The name of a member, borrowed unless it has escapes.
#[derive(Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of a payload, in their order, with their texts.
struct PayloadMembers<'a>(Vec<(MemberName<'a>, &'a RawValue)>);

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = PayloadMembers<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(PayloadMembers(members))
    }
}

fn parse_members(payload: &RawValue) -> Result<PayloadMembers<'_>, serde_json::Error> {
    serde_json::Deserializer::from_str(payload.get()).deserialize_map(MembersVisitor)
}

/// An object that is being written.
struct ObjectText(Vec<u8>);

impl ObjectText {
    /// An empty object, with room for so many bytes.
    fn with_capacity(bytes: usize) -> Self {
        let mut text = Vec::with_capacity(bytes);
        text.push(b'{');
        Self(text)
    }

    fn add(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.begin_member(name);
        self.write(value);
    }

    fn add_all(&mut self, members: &Map<String, Value>) {
        for (name, value) in members {
            self.add(name, value);
        }
    }

    fn add_object(&mut self, name: &str, object: Self) {
        self.begin_member(name);
        self.0.extend(object.end());
    }

    fn begin_member(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.write(name);
        self.0.push(b':');
    }

    fn write(&mut self, value: &(impl Serialize + ?Sized)) {
        // Writing a JSON value to memory cannot fail.
        serde_json::to_writer(&mut self.0, value).ok();
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

fn lookup(record_type: &TypeMapping, id: Option<RecordId>) -> impl Fn(&str) -> Option<String> + '_ {
    move |name| match name {
        "module" => Some(record_type.module().to_owned()),
        "id_field" => Some(record_type.id_field.clone()),
        "id" => id.map(|id| id.to_string()),
        _ => None,
    }
}

/// Encodes a record, or rejects it for a name that the destination or the mapping uses itself.
pub(crate) fn encode_record(
    mapping: &HttpMapping,
    record_type: &TypeMapping,
    record: &ValidatedRecord,
) -> Result<EncodedRecord, Verdict> {
    let invalid = |field: &str, message: String| Verdict::Rejected {
        code: INVALID_DATA.into(),
        message,
        field: Some(format_pointer([field])),
    };
    let members = parse_members(&record.payload).map_err(|error| Verdict::Rejected {
        code: INVALID_DATA.into(),
        message: format!("the payload must be a JSON object: {error}"),
        field: None,
    })?;
    let mut fields = ObjectText::with_capacity(record.payload.get().len() + OWN_FIELDS_BYTES);
    let mut names = Vec::with_capacity(members.0.len());
    for (MemberName(field), value) in &members.0 {
        let Some(name) = record_type.rename_field(field) else { continue };
        if mapping.record.is_reserved(name) || record_type.sets_field(name) {
            let message = format!("the field must not be named {name}, which has a meaning of its own there");
            return Err(invalid(field, message));
        }
        names.push((name, field.as_ref()));
        fields.add(name, value);
    }
    names.sort_by_key(|(name, _)| *name);
    if let Some([_, (name, field)]) = names.array_windows().find(|[one, next]| one.0 == next.0) {
        return Err(invalid(field, format!("two fields of the record become {name}")));
    }
    fields.add_all(&record_type.constants);
    if let (Some(key_field), Some(key)) = (&record_type.key_field, &record.key) {
        fields.add(key_field, key);
    }
    if mapping.record.key_in_body {
        fields.add(&record_type.id_field, &record.id);
    }
    // The placeholders were checked when the mapping was read.
    let constants = fill_members(&mapping.record.constants, &lookup(record_type, Some(record.id)));
    let constants = constants.unwrap_or_default();
    if mapping.record.fields.is_empty() {
        fields.add_all(&constants);
        return Ok(EncodedRecord(fields.end()));
    }
    let mut object = ObjectText::with_capacity(fields.0.len() + OWN_FIELDS_BYTES);
    object.add_all(&constants);
    object.add_object(&mapping.record.fields, fields);
    Ok(EncodedRecord(object.end()))
}

/// The body of a call with these records.
pub(crate) fn encode_body<'a>(
    mapping: &HttpMapping,
    record_type: &TypeMapping,
    records: impl Iterator<Item = &'a EncodedRecord> + Clone,
) -> Vec<u8> {
    let bytes: usize = records.clone().map(|record| record.bytes() + 1).sum();
    if mapping.wrap.name.is_empty() {
        let mut array = Vec::with_capacity(bytes + 2);
        write_array(&mut array, records);
        return array;
    }
    let mut body = ObjectText::with_capacity(bytes + OWN_FIELDS_BYTES);
    body.add_all(&wrap_constants(mapping, record_type).unwrap_or_default());
    body.begin_member(&mapping.wrap.name);
    write_array(&mut body.0, records);
    body.end()
}

fn write_array<'a>(text: &mut Vec<u8>, records: impl Iterator<Item = &'a EncodedRecord>) {
    text.push(b'[');
    for (position, EncodedRecord(record)) in records.enumerate() {
        if position > 0 {
            text.push(b',');
        }
        text.extend_from_slice(record);
    }
    text.push(b']');
}

/// The address of a call. `api` is the address of the destination.
pub(crate) fn encode_url(mapping: &HttpMapping, record_type: &TypeMapping, api: &str) -> String {
    let names = lookup(record_type, None);
    let fill = |name: &str| if name == "api" { Some(api.trim_end_matches('/').into()) } else { names(name) };
    fill_text(&mapping.url, &fill).unwrap_or_default()
}

/// `{trigger}` as a whole value is the array of the type, or is left out with its member.
fn wrap_constants(mapping: &HttpMapping, record_type: &TypeMapping) -> Result<Map<String, Value>, String> {
    let mut constants = mapping.wrap.constants.clone();
    constants.retain(|_, value| record_type.trigger.is_some() || value.as_str() != Some(TRIGGER));
    for value in constants.values_mut().filter(|value| value.as_str() == Some(TRIGGER)) {
        *value = record_type.trigger.clone().into();
    }
    fill_members(&constants, &lookup(record_type, None))
}

/// Whether all placeholders have a meaning.
pub(crate) fn check_templates(mapping: &HttpMapping, record_type: &TypeMapping) -> Result<(), MappingError> {
    let unknown = |key: &'static str| move |name| MappingError::new(key, format!("cannot use `{{{name}}}`"));
    wrap_constants(mapping, record_type).map_err(unknown("wrap.constants"))?;
    fill_members(&mapping.record.constants, &lookup(record_type, Some(RecordId::default())))
        .map_err(unknown("record.constants"))?;
    let names = lookup(record_type, None);
    let fill = |name: &str| if name == "api" { Some(String::new()) } else { names(name) };
    fill_text(&mapping.url, &fill).map(drop).map_err(unknown("url"))
}
