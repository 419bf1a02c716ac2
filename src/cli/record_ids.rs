//! Ids as people type them: whole, or any unique beginning or end.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::failure::CommandFailure;
use crate::client::{Client, decode_json};
use crate::model::RecordId;

/// Fewer digits mean nothing.
const ID_PART_DIGITS_MIN: usize = 4;

/// An id, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdPart {
    /// The whole id.
    Whole(RecordId),
    /// Its beginning or its end.
    Part(String),
}

impl FromStr for IdPart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Ok(id) = text.parse() {
            return Ok(Self::Whole(id));
        }
        let digits = text.chars().filter(char::is_ascii_hexdigit).count();
        if digits >= ID_PART_DIGITS_MIN && text.chars().all(|one| one.is_ascii_hexdigit() || one == '-') {
            return Ok(Self::Part(text.to_owned()));
        }
        Err(format!("give an id, or at least {ID_PART_DIGITS_MIN} digits of its beginning or end"))
    }
}

impl fmt::Display for IdPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(id) => write!(f, "{id}"),
            Self::Part(part) => f.write_str(part),
        }
    }
}

impl From<RecordId> for IdPart {
    fn from(id: RecordId) -> Self {
        Self::Whole(id)
    }
}

impl IdPart {
    /// The id that it means. The daemon is only asked about a part.
    pub(crate) async fn resolve(&self, client: &Client) -> Result<RecordId, CommandFailure> {
        #[derive(Deserialize)]
        struct Found {
            id: RecordId,
        }
        let part = match self {
            Self::Whole(id) => return Ok(*id),
            Self::Part(part) => part,
        };
        let Found { id } = decode_json(&client.get(&format!("/v1/records/{part}")).await?)?;
        Ok(id)
    }

    pub(crate) async fn resolve_all(
        parts: &[Self],
        client: &Client,
    ) -> Result<Vec<RecordId>, CommandFailure> {
        let mut ids = Vec::with_capacity(parts.len());
        for part in parts {
            ids.push(part.resolve(client).await?);
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_enough_digits_and_nothing_else() {
        let id = RecordId::new();
        assert_eq!(id.to_string().parse(), Ok(IdPart::Whole(id)));
        assert_eq!("deadbeef".parse(), Ok(IdPart::Part("deadbeef".to_owned())));
        assert_eq!("0191b3a0-0000".parse(), Ok(IdPart::Part("0191b3a0-0000".to_owned())));
        for text in ["12", "abc", "", "----", "visits"] {
            assert!(text.parse::<IdPart>().is_err(), "{text}");
        }
    }
}
