//! The body of a request, in either format.

use actix_web::web::Bytes;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::applied_entry::OutboxEntryJson;
use crate::ledger::OutboxEntry;
use crate::model::RecordId;

/// The form of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ForwardFormat {
    /// {"records": […]}
    #[default]
    Records,
    /// A JSON batch of `CloudEvents` 1.0
    #[value(name = "cloudevents")]
    CloudEvents,
}

#[derive(Serialize)]
struct RecordsBody<'a> {
    records: Vec<OutboxEntryJson<'a>>,
}

/// A record as an event of `CloudEvents` 1.0, in the JSON format.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: RecordId,
    source: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(with = "crate::clock::as_rfc3339")]
    time: u64,
    datacontenttype: &'static str,
    /// The extension asks for text that sorts as the numbers do.
    sequence: String,
    data: Box<RawValue>,
}

impl<'a> CloudEvent<'a> {
    fn from_entry(entry: &'a OutboxEntry) -> Result<Self, serde_json::Error> {
        let record = &entry.record;
        Ok(Self {
            specversion: "1.0",
            id: record.id,
            source: format!("urn:uuid:{}", record.device),
            event_type: &record.record_type,
            // The specification forbids an empty subject.
            subject: record.key.as_deref().filter(|key| !key.is_empty()),
            time: record.applied_at,
            datacontenttype: "application/json",
            sequence: format!("{:020}", record.seq),
            data: RawValue::from_string(entry.payload.clone())?,
        })
    }
}

impl ForwardFormat {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Records => "application/json",
            Self::CloudEvents => "application/cloudevents-batch+json",
        }
    }

    pub(super) fn encode_body(self, page: &[&OutboxEntry]) -> Result<Bytes, serde_json::Error> {
        let entries = page.iter().copied();
        let text = match self {
            Self::Records => {
                let records = entries.map(OutboxEntryJson::from_entry).collect::<Result<_, _>>()?;
                serde_json::to_vec(&RecordsBody { records })
            }
            Self::CloudEvents => {
                serde_json::to_vec(&entries.map(CloudEvent::from_entry).collect::<Result<Vec<_>, _>>()?)
            }
        };
        Ok(text?.into())
    }
}
