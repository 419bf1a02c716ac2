//! Which records of a batch are handed over to the destination, and the results of the others.
//!
//! A record that was applied without a destination, by an older configuration, has no receipt. It is handed over
//! now: the destination may not have it, and if it has it under its id, nothing is stored twice.

use std::collections::{HashMap, HashSet};

use super::held_keys::HeldKeys;
use crate::digest::Sha256Digest;
use crate::model::{DeviceId, RecordId};
use crate::protocol::wire::{ID_OF_OTHER_DEVICE, RecordResult};
use crate::validated_batch::{INVALID_DATA, KnownRecord, ValidatedBatch, ValidatedRecord};

/// Code of a record that another batch, or another gateway, is handing over.
const IN_PROGRESS: &str = "IN_PROGRESS";
/// When such a record may be sent again: most deliveries have ended by then.
const IN_PROGRESS_RETRY_SECONDS: u64 = 5;

/// The device keeps 200 characters of a message.
const SENT_BY_OTHER_DEVICE: &str = "another device sent this id before, for other content, which the destination may have. This record is not \
     sent: enqueue its payload under a new id and discard it here";

/// What happens with a record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is not handed over: this is its result.
    Answered(RecordResult),
    /// It is leased, and is handed over now.
    Deliver,
}

/// A record that was handed over without a certain outcome: the destination may have it.
#[derive(Debug)]
pub(crate) struct SentRecord {
    pub(crate) digest: Sha256Digest,
    pub(crate) device: DeviceId,
}

impl SentRecord {
    /// Rejects the record of another device under the same id, unless it is the same one. A device may correct its own
    /// record: its last content counts.
    fn find_conflict(&self, record: &ValidatedRecord, device: DeviceId) -> Option<RecordResult> {
        let is_foreign = self.device != device && self.digest != record.digest;
        is_foreign.then(|| record.reject(ID_OF_OTHER_DEVICE, SENT_BY_OTHER_DEVICE))
    }
}

/// What the ledger knows of the records of a batch once it has leased what it could.
#[derive(Debug, Default)]
pub(crate) struct AdmissionFacts {
    pub(crate) known: HashMap<RecordId, KnownRecord>,
    pub(crate) sent: HashMap<RecordId, SentRecord>,
    pub(crate) leased_records: HashSet<RecordId>,
    pub(crate) leased_keys: HashSet<String>,
}

impl AdmissionFacts {
    fn has_lease(&self, record: &ValidatedRecord) -> bool {
        self.leased_records.contains(&record.id)
            && record.key.as_ref().is_none_or(|key| self.leased_keys.contains(key))
    }

    /// The result of a record that was settled before, or can never be applied.
    fn find_result(&self, record: &ValidatedRecord, batch: &ValidatedBatch) -> Option<RecordResult> {
        if let Some(fault) = record.fault {
            return Some(record.reject(INVALID_DATA, fault));
        }
        if let Some(known) = self.known.get(&record.id) {
            let result = record.compare_with_known(known, batch.device);
            if result.receipt.is_some() || !result.status.is_stored() {
                return Some(result);
            }
        }
        self.sent.get(&record.id)?.find_conflict(record, batch.device)
    }
}

/// Decides for each record, in the order of the batch.
pub(crate) fn admit_records(batch: &ValidatedBatch, facts: &AdmissionFacts) -> Vec<Admission> {
    let mut held_keys = HeldKeys::default();
    let admit = |record| {
        let needs_lease = || (!facts.has_lease(record)).then(|| defer_record(record));
        let own = facts.find_result(record, batch);
        held_keys.find_result(record, own, needs_lease).map_or(Admission::Deliver, Admission::Answered)
    };
    batch.records.iter().map(admit).collect()
}

fn defer_record(record: &ValidatedRecord) -> RecordResult {
    let message = "this record, or an earlier one of its key, is being handed over to the destination";
    RecordResult { retry_after_s: Some(IN_PROGRESS_RETRY_SECONDS), ..record.retry(IN_PROGRESS, message) }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::digest::sha256;
    use crate::model::BatchId;
    use crate::protocol::receipt::Receipt;
    use crate::protocol::wire::{ID_CONFLICT, WireRecord};
    use crate::validated_batch::HELD;

    fn record(key: Option<&str>, fault: Option<&'static str>) -> ValidatedRecord {
        let record = WireRecord {
            id: RecordId::new(),
            record_type: "Visits".into(),
            key: key.map(Into::into),
            priority: None,
            created_at: 0,
            payload: RawValue::from_string("{}".into()).unwrap(),
        };
        ValidatedRecord::new(record, fault)
    }

    fn batch(records: Vec<ValidatedRecord>) -> ValidatedBatch {
        let device = DeviceId(Uuid::new_v4());
        ValidatedBatch { device, id: BatchId::new(), fingerprint: sha256(b""), records }
    }

    /// All leased, none known.
    fn facts(batch: &ValidatedBatch) -> AdmissionFacts {
        AdmissionFacts {
            known: HashMap::new(),
            sent: HashMap::new(),
            leased_records: batch.records.iter().map(|record| record.id).collect(),
            leased_keys: batch.records.iter().filter_map(|record| record.key.clone()).collect(),
        }
    }

    fn known(record: &ValidatedRecord, receipt: Option<&str>) -> (RecordId, KnownRecord) {
        let receipt = receipt.map(|text| Receipt::parse(text).unwrap());
        (record.id, KnownRecord { digest: record.digest, device: None, receipt })
    }

    fn shown(admissions: &[Admission]) -> Vec<String> {
        let show = |admission: &Admission| match admission {
            Admission::Deliver => "deliver".to_owned(),
            Admission::Answered(result) => match &result.code {
                Some(code) => code.clone(),
                None => format!("{:?}", result.status),
            },
        };
        admissions.iter().map(show).collect()
    }

    #[test]
    fn a_record_behind_one_of_its_key_that_is_not_applied_is_held() {
        let key = Some("k");
        let kinds =
            || vec![record(key, None), record(key, None), record(None, None), record(Some("l"), None)];
        let mut fault = batch(kinds());
        fault.records[0].fault = Some("bad");
        assert_eq!(shown(&admit_records(&fault, &facts(&fault))), [INVALID_DATA, HELD, "deliver", "deliver"]);

        let other = batch(kinds());
        let mut known_otherwise = facts(&other);
        let (id, mut conflict) = known(&other.records[0], Some("{}"));
        conflict.digest = sha256(b"other");
        known_otherwise.known.insert(id, conflict);
        assert_eq!(
            shown(&admit_records(&other, &known_otherwise)),
            [ID_CONFLICT, HELD, "deliver", "deliver"]
        );

        let busy = batch(kinds());
        let mut without_record = facts(&busy);
        without_record.leased_records.remove(&busy.records[0].id);
        assert_eq!(shown(&admit_records(&busy, &without_record)), [IN_PROGRESS, HELD, "deliver", "deliver"]);
        let mut without_key = facts(&busy);
        without_key.leased_keys.remove("k");
        assert_eq!(shown(&admit_records(&busy, &without_key)), [IN_PROGRESS, HELD, "deliver", "deliver"]);
    }

    #[test]
    fn what_was_sent_without_a_certain_outcome_is_not_replaced_by_the_record_of_another_device() {
        let batch = batch((0..4).map(|_| record(None, None)).collect());
        let mut facts = facts(&batch);
        let (digest, other_device) = (batch.records[0].digest, DeviceId(Uuid::new_v4()));
        for (record, digest, device) in [
            (&batch.records[0], digest, batch.device),
            (&batch.records[1], sha256(b"other"), batch.device),
            (&batch.records[2], sha256(b"other"), other_device),
            (&batch.records[3], digest, other_device),
        ] {
            facts.sent.insert(record.id, SentRecord { digest, device });
        }
        let codes = ["deliver", "deliver", ID_OF_OTHER_DEVICE, "deliver"];
        assert_eq!(shown(&admit_records(&batch, &facts)), codes);
        assert!(SENT_BY_OTHER_DEVICE.len() <= 200);
    }

    #[test]
    fn a_known_record_is_a_duplicate_with_its_receipt_and_without_one_is_handed_over() {
        let batch = batch(vec![record(Some("k"), None), record(Some("k"), None), record(Some("k"), None)]);
        let mut facts = facts(&batch);
        facts.known.extend([known(&batch.records[0], Some(r#"{"id":"7"}"#)), known(&batch.records[1], None)]);
        // A lease is not needed for what is known.
        facts.leased_records.remove(&batch.records[0].id);
        let admissions = admit_records(&batch, &facts);
        assert_eq!(shown(&admissions), ["Duplicate", "deliver", "deliver"]);
        let Admission::Answered(result) = &admissions[0] else { unreachable!() };
        assert_eq!(result.receipt, Receipt::parse(r#"{"id":"7"}"#));
    }
}
