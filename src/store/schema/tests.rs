//! What is on disk stays as it is.

use super::*;
use crate::store::codec;
use crate::store::tests::support::sample_header;

/// The byte after the version.
fn encoded_variant(stored: &impl StoredRow) -> u8 {
    let bytes = codec::encode_row(stored).unwrap();
    assert_eq!(bytes.len(), 2);
    bytes[1]
}

#[test]
fn the_numbers_of_enums_on_disk_stay_the_same() {
    for (stage, expected) in [(Stage::Fresh, 0), (Stage::Half, 1), (Stage::Micro, 2), (Stage::Single, 3)] {
        assert_eq!(encoded_variant(&StoredStage::from(stage)), expected, "{stage:?}");
        assert_eq!(Stage::from(StoredStage::from(stage)), stage);
    }
    for (rule, expected) in [
        (SizeRule::LargeQueue, 0),
        (SizeRule::LargePayload, 1),
        (SizeRule::Standard, 2),
        (SizeRule::Learned, 3),
        (SizeRule::Micro, 4),
        (SizeRule::Split, 5),
        (SizeRule::ServerHint, 6),
    ] {
        assert_eq!(encoded_variant(&StoredRule::from(rule)), expected, "{rule:?}");
        assert_eq!(SizeRule::from(StoredRule::from(rule)), rule);
    }
    for (phase, expected) in [(BatchPhase::InFlight, 0), (BatchPhase::Unclear, 1), (BatchPhase::Waiting, 2)] {
        assert_eq!(encoded_variant(&StoredPhase::from(phase)), expected, "{phase:?}");
        assert_eq!(BatchPhase::from(StoredPhase::from(phase)), phase);
    }
    for (state, expected) in [
        (StoredState::Pending, 0),
        (StoredState::Failed, 1),
        (StoredState::Synced, 2),
        (StoredState::Quarantined, 3),
        (StoredState::Discarded, 4),
    ] {
        assert_eq!(encoded_variant(&state), expected, "{state:?}");
    }
}

#[test]
fn the_bytes_of_rows_on_disk_stay_the_same() {
    let error = StoredError {
        class: "c".into(),
        http_status: Some(504),
        code: None,
        message: "m".into(),
        at: 9,
        field: None,
    };
    let header = sample_header();
    let row = ManifestRow {
        state: StoredState::Failed,
        attempts: 6,
        updated_at: 8,
        due_at: Some(10),
        batch: Some(11),
        error: Some(error.clone()),
        ..ManifestRow::new_pending(header.clone())
    };
    let field = Some("/f".into());
    let row_with_field = ManifestRow { error: Some(StoredError { field, ..error }), ..row.clone() };
    let (state, discarded_by) = (StoredState::Discarded, Some("al".into()));
    let discarded = ManifestRow { state, discarded_by, ..row_with_field.clone() };
    let batch = BatchRow {
        parent: Some(1),
        stage: StoredStage::Half,
        rule: StoredRule::Split,
        phase: StoredPhase::Waiting,
        sequence: (2, 3),
        attempt: 4,
        lone_failures: 5,
        counted: true,
        bytes: 6,
        members: vec![MemberRow { position: 7, id: 8, bytes: 9, failed: true }],
    };
    assert_eq!(
        codec::encode_header(&header).unwrap(),
        b"\x01\x02\x01T\x01\x01k\x03\x04\x05\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07"
    );
    assert_eq!(
        codec::encode_row(&row).unwrap(),
        b"\x01\x02\x01\x06\x01T\x01\x01k\x05\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\
          \x03\x04\x08\x01\x0a\x01\x0b\x01\x01c\x01\xfb\xf8\x01\x00\x01m\x09"
    );
    assert_eq!(
        codec::encode_row(&row_with_field).unwrap(),
        b"\x02\x02\x01\x06\x01T\x01\x01k\x05\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\
          \x03\x04\x08\x01\x0a\x01\x0b\x01\x01c\x01\xfb\xf8\x01\x00\x01m\x09\x02/f"
    );
    assert_eq!(
        codec::encode_row(&discarded).unwrap(),
        b"\x03\x02\x04\x06\x01T\x01\x01k\x05\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\
          \x03\x04\x08\x01\x0a\x01\x0b\x01\x01c\x01\xfb\xf8\x01\x00\x01m\x09\x01\x02/f\x02al"
    );
    let without_error = ManifestRow { error: None, ..discarded.clone() };
    for row in [&row, &row_with_field, &ManifestRow::new_pending(header), &discarded, &without_error] {
        let bytes = codec::encode_row(row).unwrap();
        assert_eq!(codec::decode_row::<ManifestRow>(&bytes).unwrap(), *row);
        for version in [0, 4, 255] {
            let other = [&[version], &bytes[1..]].concat();
            assert!(
                matches!(codec::decode_row::<ManifestRow>(&other), Err(CodecError::Version(found)) if found == version)
            );
        }
    }
    let without_error = codec::encode_row(&ManifestRow { error: None, ..row }).unwrap();
    let with_field_alone = [b"\x02", &without_error[1..], b"\x02/f"].concat();
    assert!(codec::decode_row::<ManifestRow>(&with_field_alone).is_err(), "a field of no error");
    for contradiction in [
        ManifestRow { state: StoredState::Synced, ..discarded.clone() },
        ManifestRow { discarded_by: None, ..discarded },
    ] {
        let bytes = codec::encode_row(&contradiction).unwrap();
        assert!(codec::decode_row::<ManifestRow>(&bytes).is_err(), "{contradiction:?}");
    }
    assert_eq!(
        codec::encode_row(&batch).unwrap(),
        b"\x01\x01\x01\x01\x05\x02\x02\x03\x04\x05\x01\x06\x01\x07\x08\x09\x01"
    );
}
