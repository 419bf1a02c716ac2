//! The receipt of a record for people: what the server said it became, member by member.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::format::strip_controls;

/// `key value` of each member of a receipt, in their order. Empty where there is no receipt.
#[derive(Debug, Default)]
pub(crate) struct ReceiptMembers(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for ReceiptMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = ReceiptMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or null")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(ReceiptMembers::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = all.next_entry::<String, Box<RawValue>>()? {
                    members.push(describe_member(&key, value.get()));
                }
                Ok(ReceiptMembers(members))
            }
        }

        deserializer.deserialize_any(MembersVisitor)
    }
}

/// Texts without quotation marks, everything else as JSON.
fn describe_member(key: &str, value: &str) -> String {
    let text = serde_json::from_str::<String>(value).unwrap_or_else(|_| value.to_owned());
    format!("{} {}", strip_controls(key), strip_controls(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members_of(json: &str) -> Vec<String> {
        serde_json::from_str::<ReceiptMembers>(json).unwrap().0
    }

    #[test]
    fn a_receipt_is_shown_as_names_and_values_in_their_order() {
        let json =
            r#"{"module":"Visits","id":"41\u001b[2J5","n":1.50,"more":{"b":1,"a":[]},"\u202eat":null}"#;
        let expected =
            ["module Visits", "id 41\u{fffd}[2J5", "n 1.50", "more {\"b\":1,\"a\":[]}", "\u{fffd}at null"];
        assert_eq!(members_of(json), expected);
        assert_eq!(members_of("null"), Vec::<String>::new());
        assert!(serde_json::from_str::<ReceiptMembers>("[1]").is_err());
    }
}
