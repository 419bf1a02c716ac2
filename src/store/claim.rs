//! Taking records from the queue into a batch: failed ones that are due, then fresh ones.

use std::collections::BTreeSet;

use redb::ReadableTable;
use uuid::Uuid;

use super::StoreError;
use super::codec;
use super::holds::HELD;
use super::queue::{Op, Transaction};
use super::schema::{BatchRow, Header, MemberRow, StoredState};
use crate::model::{Batch, BatchPhase, Stage};
use crate::policy::agenda::ClaimOrder;

/// Records that one claim looks at; the next goes on from there.
const CLAIM_SCAN: usize = 10_000;

/// Takes fresh records from the queue into a batch.
pub struct Claim(pub ClaimOrder);

impl Op for Claim {
    type Reply = Option<Batch>;

    fn apply(self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        transaction.claim(&self.0)
    }
}

/// Candidates for a batch, as they are found.
#[derive(Default)]
struct Draft {
    members: Vec<MemberRow>,
    places: BTreeSet<u64>,
    bytes: u64,
}

impl Draft {
    /// False when the batch is full.
    fn has_room(&self, order: &ClaimOrder, bytes: u64) -> bool {
        self.members.is_empty()
            || (self.members.len() < order.limit.records && self.bytes + bytes <= order.limit.bytes)
    }

    fn add(&mut self, member: MemberRow) {
        self.places.insert(member.place);
        self.bytes += u64::from(member.bytes);
        self.members.push(member);
    }
}

impl Transaction<'_, '_> {
    pub(super) fn claim(&mut self, order: &ClaimOrder) -> Result<Option<Batch>, StoreError> {
        let mut draft = Draft::default();
        self.draft_due(order, &mut draft)?;
        self.draft_fresh(order, &mut draft)?;
        if draft.members.is_empty() {
            return Ok(None);
        }
        draft.members.sort_by_key(|member| member.place);
        let id = Uuid::new_v4().as_u128();
        let row = BatchRow {
            parent: None,
            stage: Stage::Fresh,
            rule: order.limit.rule,
            phase: BatchPhase::InFlight,
            sequence: (order.sequence.index, order.sequence.total),
            attempt: 1,
            lone_failures: 0,
            counted: false,
            bytes: draft.bytes,
            members: draft.members,
        };
        let batch = self.load(id, &row)?;
        for (member, record) in row.members.iter().zip(&batch.records) {
            self.state.keys.claim(record.key.as_deref(), member.place);
            if let Some(key) = &record.key {
                // The open batch holds the key from now on.
                self.tables.holds.remove((key.as_str(), member.place))?;
            }
        }
        self.put_batch(id, row)?;
        Ok(Some(batch))
    }

    /// Failed records whose time has come, the longest due first.
    fn draft_due(&mut self, order: &ClaimOrder, draft: &mut Draft) -> Result<(), StoreError> {
        let (mut taken, mut held) = (Vec::new(), Vec::new());
        // A row that leads nowhere would be due for ever.
        let mut stray = Vec::new();
        for item in self.tables.retry.range(..=(self.now, u64::MAX))?.take(CLAIM_SCAN) {
            let (due, place) = item?.0.value();
            let Some((header, bytes)) = self.header(place)? else {
                stray.push((due, place));
                continue;
            };
            if !draft.has_room(order, u64::from(bytes)) {
                break;
            }
            if self.is_held(header.key.as_deref(), place, &draft.places)? {
                held.push((due, place, header.id));
            } else {
                draft.add(MemberRow { place, id: header.id, bytes, failed: true });
                taken.push((due, place));
                // Those that it held back may come along, and must, before any later one does.
                if header.key.is_some() && self.state.cursors.passed_held {
                    self.state.cursors.rewind();
                }
            }
        }
        for (due, place, id) in held {
            self.reschedule(id, place, due, HELD)?;
        }
        for row in taken.into_iter().chain(stray) {
            self.tables.retry.remove(row)?;
        }
        Ok(())
    }

    /// Records that were never tried, in queue order.
    fn draft_fresh(&mut self, order: &ClaimOrder, draft: &mut Draft) -> Result<(), StoreError> {
        let mut looked_at = 0;
        for range in self.state.cursors.ranges() {
            let mut passed = Vec::new();
            for item in self.tables.payload.range(range)? {
                let (place, sealed) = item?;
                let place = place.value();
                if looked_at == CLAIM_SCAN {
                    break;
                }
                let (header, body) = match codec::unseal::<Header>(sealed.value()) {
                    Ok(whole) => whole,
                    Err(error) => {
                        tracing::error!(place, %error, "a waiting record does not read and is left where it is");
                        passed.push(place);
                        continue;
                    }
                };
                let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
                if !draft.has_room(order, u64::from(bytes)) {
                    looked_at = CLAIM_SCAN;
                    break;
                }
                looked_at += 1;
                passed.push(place);
                let plainly_waits = !self.state.claimed.contains_key(&place)
                    && self.manifest_row(header.id)?.is_some_and(|row| row.state == StoredState::Pending);
                if !plainly_waits {
                    continue;
                }
                if self.is_held(header.key.as_deref(), place, &draft.places)? {
                    self.state.cursors.passed_held = true;
                } else {
                    draft.add(MemberRow { place, id: header.id, bytes, failed: false });
                }
            }
            if let Some(place) = passed.last() {
                self.state.cursors.passed(*place);
            }
            if looked_at >= CLAIM_SCAN {
                return Ok(());
            }
        }
        self.state.cursors.dry = true;
        Ok(())
    }

    /// The header of a payload, and the size of its body. One that does not read is left where it
    /// is: it must not keep the others from going.
    pub(super) fn header(&self, place: u64) -> Result<Option<(Header, u32)>, StoreError> {
        let Some(sealed) = self.tables.payload.get(place)? else {
            return Ok(None);
        };
        match codec::unseal::<Header>(sealed.value()) {
            Ok((header, body)) => Ok(Some((header, u32::try_from(body.len()).unwrap_or(u32::MAX)))),
            Err(error) => {
                tracing::error!(place, %error, "a record does not read and is left where it is");
                Ok(None)
            }
        }
    }
}
