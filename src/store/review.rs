//! What people do: retry, discard or mend a record under review, pause the daemon. And small notes of other rooms.

use redb::ReadableTable;
use thiserror::Error;
use uuid::Uuid;

use super::StoreError;
use super::append::digest_of;
use super::body;
use super::codec;
use super::lanes::HELD;
use super::op::{Op, Transaction};
use super::schema::{Header, StoredState, Tables, meta};
use crate::model::{Damage, Place, RecordId};

/// Records that one step changes at most, so that others get their turn in between.
pub const REVIEW_STEP: usize = 1000;

/// Retries or discards records under review.
pub struct Review {
    /// Which.
    pub selected: Selected,
    /// What.
    pub action: ReviewAction,
}

/// Which records under review.
pub enum Selected {
    /// These; ids of others are passed over.
    These(Vec<RecordId>),
    /// The next [`REVIEW_STEP`] behind a place, in queue order. Whoever goes on from step to step meets each
    /// record once, though what is queued again may come back meanwhile.
    After(Option<Place>),
}

/// What to do with a record under review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewAction {
    /// Back to PENDING.
    Retry,
    /// Gone for good.
    Discard,
}

/// What a step of a review did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reviewed {
    /// The records that changed.
    pub changed: Vec<RecordId>,
    /// Where the next step goes on; none when this was the last.
    pub next: Option<Place>,
}

impl Op for Review {
    type Reply = Reviewed;

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        let mut next = None;
        let ids = match &self.selected {
            Selected::These(ids) => ids.iter().map(|id| id.0.as_u128()).collect(),
            Selected::After(after) => {
                let mut ids = Vec::new();
                let start = after.map_or(0, |place| place.0 + 1);
                for item in transaction.tables.quarantine.range(start..)?.take(REVIEW_STEP) {
                    let (place, id) = item?;
                    ids.push(id.value());
                    next = Some(Place(place.value())).filter(|_| ids.len() == REVIEW_STEP);
                }
                ids
            }
        };
        let mut changed = Vec::new();
        for id in ids {
            let Some(mut row) = transaction.manifest_row(id)? else {
                continue;
            };
            if row.state != StoredState::Quarantined {
                continue;
            }
            transaction.tables.quarantine.remove(row.place)?;
            match self.action {
                ReviewAction::Retry => {
                    row.state = StoredState::Pending;
                    row.updated_at = transaction.now.wall;
                    transaction.put_row(id, &row, Some(StoredState::Quarantined))?;
                    transaction.release(row.key.as_deref(), row.place)?;
                }
                ReviewAction::Discard => {
                    transaction.drop_payload(row.place, row.payload_bytes)?;
                    transaction.tables.manifest.remove(id)?;
                    transaction.count(Some(StoredState::Quarantined), None);
                    transaction.leave_lane(row.key.as_deref(), row.place)?;
                }
            }
            changed.push(RecordId(Uuid::from_u128(id)));
        }
        Ok(Reviewed { changed, next })
    }

    fn changed(reply: &Self::Reply) -> bool {
        !reply.changed.is_empty()
    }
}

/// Gives a record under review another payload and queues it again.
pub struct Mend {
    /// Which.
    pub id: RecordId,
    /// Checked to be a JSON object.
    pub payload: Box<str>,
}

/// Why a record is not mended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MendRefused {
    /// No record has this id.
    #[error("no record has this id")]
    Unknown,
    /// Only records under review are mended.
    #[error("only a QUARANTINED record can be mended; this one is not under review")]
    NotQuarantined,
    /// `queue.max_bytes` would be passed.
    #[error(
        "the queue is full (queue.max_bytes): the record stays under review as it was; try again when records have been synced"
    )]
    Full,
    /// The disk has no room.
    #[error("the disk is full: the record stays under review as it was; make room and try again")]
    DiskFull,
    /// The payload is larger than `queue.max_record_bytes`.
    #[error("the payload has {bytes} bytes, more than queue.max_record_bytes ({limit})")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}

impl Op for Mend {
    type Reply = Result<(), MendRefused>;

    fn weight(&self) -> u64 {
        self.payload.len() as u64
    }

    fn changed(reply: &Self::Reply) -> bool {
        reply.is_ok()
    }

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        let id = self.id.0.as_u128();
        let (bytes, limit) = (self.payload.len() as u64, transaction.limits.max_record_bytes);
        if bytes > limit {
            return Ok(Err(MendRefused::TooLarge { bytes, limit }));
        }
        let Some(mut row) = transaction.manifest_row(id)? else {
            return Ok(Err(MendRefused::Unknown));
        };
        if row.state != StoredState::Quarantined {
            return Ok(Err(MendRefused::NotQuarantined));
        }
        let kept = transaction.state.counters.bytes.saturating_sub(u64::from(row.payload_bytes));
        if kept + bytes > transaction.limits.max_bytes && bytes > u64::from(row.payload_bytes) {
            return Ok(Err(MendRefused::Full));
        }
        if !transaction.admits {
            return Ok(Err(MendRefused::DiskFull));
        }
        row.payload_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        row.digest = digest_of(&row.record_type, row.key.as_deref(), &self.payload);
        let header = Header {
            id,
            place: row.place,
            record_type: row.record_type.clone(),
            key: row.key.clone(),
            submitter: row.submitter,
            created_at: row.created_at,
            bytes: row.payload_bytes,
            digest: row.digest,
        };
        transaction.remove_body(row.place)?;
        let Tables { payload, chunks, .. } = &mut transaction.tables;
        body::write(payload, chunks, &header, &self.payload)?;
        transaction.state.counters.bytes = kept + bytes;
        row.state = StoredState::Pending;
        row.updated_at = transaction.now.wall;
        transaction.put_row(id, &row, Some(StoredState::Quarantined))?;
        transaction.tables.quarantine.remove(row.place)?;
        transaction.release(row.key.as_deref(), row.place)?;
        Ok(Ok(()))
    }
}

/// Makes FAILED records due now: a person asked. A step at a time; true when there is more.
pub struct Expedite;

impl Op for Expedite {
    type Reply = bool;

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        let later = (transaction.now.steady + 1, 0)..(HELD, 0);
        let mut waiting = Vec::new();
        for item in transaction.tables.retry.range(later)?.take(REVIEW_STEP) {
            waiting.push(item?.0.value());
        }
        for (due, place) in &waiting {
            if let Some(header) = transaction.header(*place)? {
                transaction.reschedule(header.id, *place, *due, transaction.now.steady)?;
            }
        }
        Ok(waiting.len() == REVIEW_STEP)
    }
}

/// Pauses or resumes; survives a restart.
pub struct Pause(pub bool);

impl Op for Pause {
    type Reply = ();

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        if self.0 {
            transaction.tables.meta.insert(meta::PAUSED, codec::encode(&true)?.as_slice())?;
        } else {
            transaction.tables.meta.remove(meta::PAUSED)?;
        }
        transaction.state.paused = self.0;
        Ok(())
    }
}

/// Keeps a small note of another room, under its name.
pub struct Remember {
    /// Whose.
    pub name: &'static str,
    /// What.
    pub note: Vec<u8>,
}

impl Op for Remember {
    type Reply = ();

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        transaction.tables.meta.insert(self.name, self.note.as_slice())?;
        Ok(())
    }
}

/// Takes back the notes of damage: somebody has read them.
pub struct Acknowledge;

impl Op for Acknowledge {
    /// What was noted.
    type Reply = Vec<Damage>;

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        transaction.tables.meta.remove(meta::DAMAGE)?;
        Ok(std::mem::take(&mut transaction.state.damage))
    }

    fn changed(reply: &Self::Reply) -> bool {
        !reply.is_empty()
    }
}
