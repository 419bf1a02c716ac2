//! What the gateway needs of a ledger: a few operations, each one synchronous and one transaction.
//!
//! An implementation guarantees that [`Ledger::settle`] is atomic and durable when it returns, and
//! that two calls at the same moment, of this process or another, never apply a record twice.
//!
//! The table of applications is in one order, without gaps, and a row is seen only after all before
//! it. So the rows up to some `seq` are what was handed on, and all after it is what waits.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use ring::digest;
use serde_json::value::RawValue;

use crate::model::{BatchId, DeviceId, RecordId};
use crate::protocol::wire::{
    BatchAnswer, ID_CONFLICT, ID_OF_OTHER_DEVICE, RecordResult, RecordStatus, WireRecord,
};

/// Code of a rejected record: it is at fault by itself.
pub(crate) const INVALID_DATA: &str = "INVALID_DATA";

/// What the device keeps of it has 200 characters.
const USED_BY_OTHER_DEVICE: &str = "another device used this id first, for other content. This record is not stored: enqueue its payload \
     under a new id and discard it here; tell whoever runs the server if ids are random";

/// SHA-256.
pub(crate) type Digest = [u8; digest::SHA256_OUTPUT_LEN];

/// A batch that is well formed.
#[derive(Debug)]
pub(crate) struct CheckedBatch {
    pub(crate) device: DeviceId,
    pub(crate) id: BatchId,
    /// Of the decoded body: tells a resend from another batch under the same id.
    pub(crate) fingerprint: Digest,
    /// In the order in which they are applied; no id twice.
    pub(crate) records: Vec<CheckedRecord>,
}

/// What the ledger knows of a record that was applied.
#[derive(Debug)]
pub(crate) struct KnownRecord {
    pub(crate) digest: Digest,
    /// The device that it was applied for; none where an older gateway did not write it down.
    pub(crate) device: Option<DeviceId>,
}

/// A record of such a batch.
#[derive(Debug)]
pub(crate) struct CheckedRecord {
    pub(crate) id: RecordId,
    pub(crate) record_type: String,
    pub(crate) key: Option<String>,
    pub(crate) payload: Box<RawValue>,
    /// Of type, key and payload: tells a duplicate from another record under the same id.
    pub(crate) digest: Digest,
    /// The record is at fault by itself, for this reason, and must not be applied.
    pub(crate) fault: Option<&'static str>,
}

impl CheckedRecord {
    pub(crate) fn new(record: WireRecord, fault: Option<&'static str>) -> Self {
        Self {
            digest: record_digest(&record),
            id: record.id,
            record_type: record.record_type,
            key: record.key,
            payload: record.payload,
            fault,
        }
    }

    /// The result that rejects this record.
    pub(crate) fn rejected(&self, code: &str, message: &str) -> RecordResult {
        RecordResult {
            id: self.id,
            status: RecordStatus::Rejected,
            code: Some(code.into()),
            message: Some(message.into()),
        }
    }

    /// The result for a record of `device` whose id is known.
    pub(crate) fn judge_known(&self, known: &KnownRecord, device: DeviceId) -> RecordResult {
        if known.digest == self.digest {
            self.confirmed(RecordStatus::Duplicate)
        } else if known.device.is_some_and(|first| first != device) {
            self.rejected(ID_OF_OTHER_DEVICE, USED_BY_OTHER_DEVICE)
        } else {
            self.rejected(ID_CONFLICT, "a record with this id and other content was applied before")
        }
    }

    /// The result that confirms this record.
    pub(crate) fn confirmed(&self, status: RecordStatus) -> RecordResult {
        RecordResult { id: self.id, status, code: None, message: None }
    }
}

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    finished(digest::Context::new(&digest::SHA256), &[bytes])
}

fn record_digest(record: &WireRecord) -> Digest {
    let kind = record.record_type.as_bytes();
    let key = record.key.as_deref().unwrap_or_default().as_bytes();
    // Lengths keep the parts apart, and a key that is empty from one that is not there.
    let lengths = format!("{}/{}/{}/", kind.len(), record.key.is_some(), key.len());
    finished(
        digest::Context::new(&digest::SHA256),
        &[lengths.as_bytes(), kind, key, record.payload.get().as_bytes()],
    )
}

fn finished(mut context: digest::Context, parts: &[&[u8]]) -> Digest {
    for part in parts {
        context.update(part);
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// The answer of a batch, as it was given the first time.
#[derive(Debug)]
pub(crate) struct KeptAnswer {
    pub(crate) fingerprint: Digest,
    pub(crate) answer: BatchAnswer,
}

/// How a batch was settled.
#[derive(Debug)]
pub(crate) enum Settled {
    /// Now.
    Fresh(BatchAnswer),
    /// By an earlier request; the answer says so.
    Replayed(BatchAnswer),
    /// Not at all: its id belongs to another body.
    Reused,
}

impl KeptAnswer {
    /// What the batch with this fingerprint gets, now that an answer is known.
    pub(crate) fn for_fingerprint(self, fingerprint: &Digest) -> Settled {
        if self.fingerprint == *fingerprint { Settled::Replayed(self.replay()) } else { Settled::Reused }
    }

    /// The answer, marked as one that was given before.
    pub(crate) fn replay(mut self) -> BatchAnswer {
        self.answer.replayed = true;
        self.answer
    }
}

/// One application of one record, as the append-only table tells it.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) seq: u64,
    pub(crate) id: RecordId,
    pub(crate) device: DeviceId,
    pub(crate) batch: BatchId,
    pub(crate) record_type: String,
    pub(crate) key: Option<String>,
    /// Wall milliseconds.
    pub(crate) applied_at: u64,
    pub(crate) payload: String,
}

/// How much of the table is read at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageLimit {
    pub(crate) rows: usize,
    /// Of payload; the row that passes it is the page's last.
    pub(crate) bytes: usize,
}

/// What is to be handed on.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing by this gateway: another one hands on.
    Elsewhere,
    /// These, in order, out of `waiting`.
    Ours { page: Vec<Application>, waiting: u64 },
}

/// Where the gateway keeps what it must not forget.
pub(crate) trait Ledger: Send + Sync {
    /// How many operations that write make sense side by side.
    fn writers(&self) -> usize;

    /// Other gateways may use the ledger, too.
    fn is_shared(&self) -> bool;

    /// Claims a batch, until it is released or this gateway is gone. False: another gateway has it.
    ///
    /// A claim keeps work from being done twice and tells who asks that it is being done. It may be
    /// lost with a connection: what is applied is for [`Self::settle`] alone to decide.
    fn claim(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError>;

    /// Gives up a claim. False: it was lost before.
    fn release(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError>;

    /// Some gateway has claimed the batch.
    fn is_claimed(&self, device: DeviceId, batch: BatchId) -> Result<bool, LedgerError>;

    /// The answer that a batch got.
    fn answer(&self, device: DeviceId, batch: BatchId) -> Result<Option<KeptAnswer>, LedgerError>;

    /// Applies the records that are new, and keeps the answer: all of it, or nothing.
    fn settle(&self, batch: &CheckedBatch, now: u64) -> Result<Settled, LedgerError>;

    /// Forgets at most `most` answers that were given before `before`; says how many.
    fn prune(&self, before: u64, most: usize) -> Result<usize, LedgerError>;

    /// The applications after `seq`, in order.
    fn applied_after(&self, seq: u64, limit: PageLimit) -> Result<Vec<Application>, LedgerError>;

    /// The applications that were not handed on yet. Who gets some is the only one to hand on, until it is gone.
    fn to_forward(&self, limit: PageLimit) -> Result<Turn, LedgerError>;

    /// Keeps in mind that everything up to `seq` was handed on.
    fn forwarded(&self, seq: u64) -> Result<(), LedgerError>;

    /// Lets another gateway hand on, if there is one that does.
    fn yield_forwarding(&self) -> Result<(), LedgerError>;

    /// Fails when the ledger cannot be read, or takes nothing.
    fn probe(&self) -> Result<(), LedgerError>;

    /// Ends the ledger once running operations are through; later ones fail.
    fn close(&self) -> Result<(), LedgerError>;
}

/// Why a ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the store {} is in use by another process", path.display())]
    Locked { path: PathBuf },
    #[error("{} exists, but is not a ledger of this program", path.display())]
    Foreign {
        path: PathBuf,
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    #[error("the store {store} has schema {found}; this program knows schema {known}")]
    Schema { store: String, found: u64, known: u64 },
    #[error("cannot make or read the store {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot open the store {}", path.display())]
    Engine {
        path: PathBuf,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("the database {database} does not let this gateway in, or is not fit for a ledger")]
    Unfit {
        database: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("the database {database} cannot be reached; records wait on their devices until it can")]
    Unreachable {
        database: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("cannot start")]
    Start(#[source] io::Error),
}

/// Why an operation of a ledger failed. Nothing is half applied: all of it, or none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error("the ledger cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    #[error("the ledger's storage failed")]
    Storage(#[source] Box<dyn Error + Send + Sync>),
    #[error("an answer in the ledger cannot be written or read")]
    Answer(#[from] serde_json::Error),
    #[error("the ledger is closed")]
    Closed,
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::record_digest;
    use crate::model::RecordId;
    use crate::protocol::wire::WireRecord;

    fn digest(record_type: &str, key: Option<&str>, payload: &str) -> super::Digest {
        record_digest(&WireRecord {
            id: RecordId::default(),
            record_type: record_type.into(),
            key: key.map(Into::into),
            created_at: 0,
            payload: RawValue::from_string(payload.into()).unwrap(),
        })
    }

    #[test]
    fn the_digest_of_a_record_depends_on_type_key_and_payload_and_on_nothing_else() {
        let digests = [
            digest("Visits", None, "{}"),
            digest("Visits", Some(""), "{}"),
            digest("Visit", Some("s"), "{}"),
            digest("Visits", None, "{ }"),
        ];
        for (at, one) in digests.iter().enumerate() {
            assert!(!digests[at + 1..].contains(one));
        }
        assert_eq!(digests[0], digest("Visits", None, "{}"));
    }
}
