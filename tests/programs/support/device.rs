//! Batches and records as a device sends them.

use fieldsync::protocol::wire::BATCH_PATH;
use uuid::Uuid;

/// A batch as a device would send it.
#[derive(Clone)]
pub(crate) struct Batch {
    pub(crate) id: Uuid,
    pub(crate) device: Uuid,
    pub(crate) records: Vec<Record>,
}

/// A record of the batch.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) id: Uuid,
    pub(crate) key: Option<String>,
    /// JSON text, sent byte for byte.
    pub(crate) payload: String,
}

impl Record {
    pub(crate) fn new(payload: &str) -> Self {
        Self { id: Uuid::now_v7(), key: None, payload: payload.into() }
    }

    fn text(&self) -> String {
        let key = self.key.as_ref().map_or(String::new(), |key| format!(r#""key":"{key}","#));
        format!(
            r#"{{"id":"{}","type":"Visits",{key}"created_at":"2026-03-01T08:15:30.120Z","payload":{}}}"#,
            self.id, self.payload
        )
    }
}

impl Batch {
    /// A batch of a new device with these payloads.
    pub(crate) fn of(payloads: &[&str]) -> Self {
        Self::with(payloads.iter().map(|payload| Record::new(payload)).collect())
    }

    /// A batch of a new device with these records.
    pub(crate) fn with(records: Vec<Record>) -> Self {
        Self { id: Uuid::new_v4(), device: Uuid::new_v4(), records }
    }

    /// The same records in a new batch of the same device.
    pub(crate) fn again(&self) -> Self {
        Self { id: Uuid::new_v4(), ..self.clone() }
    }

    pub(crate) fn ids(&self) -> Vec<Uuid> {
        self.records.iter().map(|record| record.id).collect()
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let records: Vec<String> = self.records.iter().map(Record::text).collect();
        format!(
            r#"{{"batch_id":"{}","device_id":"{}","sequence":{{"index":1,"total":5}},"records":[{}]}}"#,
            self.id,
            self.device,
            records.join(",")
        )
        .into_bytes()
    }

    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        [
            ("x-sync-batch-id", self.id.to_string()),
            ("x-sync-device-id", self.device.to_string()),
            ("x-batch-sequence", "1/5".into()),
            ("x-sync-attempt", "1".into()),
            ("content-type", "application/json".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// The request as it goes over the wire, head and body.
    pub(crate) fn request(&self) -> Vec<u8> {
        let body = self.body();
        let length = format!("Content-Length: {}", body.len());
        [self.head(&length).as_bytes(), &body].concat()
    }

    /// The head of the request; `framing` is the header that delimits the body.
    pub(crate) fn head(&self, framing: &str) -> String {
        let mut lines = vec![format!("POST {BATCH_PATH} HTTP/1.1"), "Host: gateway".to_owned()];
        let headers = self.headers();
        lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
        lines.push(format!("{framing}\r\n\r\n"));
        lines.join("\r\n")
    }
}
