//! Serde for a sequence as `"3/6"`.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

use crate::model::Sequence;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
pub(super) fn serialize<S: Serializer>(sequence: &Sequence, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(sequence)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sequence, D::Error> {
    let text = String::deserialize(deserializer)?;
    let numbers = text
        .split_once('/')
        .and_then(|(index, total)| Some(Sequence { index: index.parse().ok()?, total: total.parse().ok()? }));
    numbers.ok_or_else(|| D::Error::custom(format!("`{text}` is not a sequence such as 3/6")))
}
