//! The generator sends what the daemon would send.

use fieldsync::protocol::wire::BatchRequest;
use uuid::{Uuid, Version};

use super::generator::{Batch, BatchShape};

const SHAPE: BatchShape = BatchShape { records: 3, record_bytes: 600 };

#[test]
fn a_batch_of_the_generator_is_the_json_that_the_types_of_the_protocol_produce() {
    let device = Uuid::new_v4();
    let batch = Batch::new(device, SHAPE, 1_772_352_930_120, &mut fastrand::Rng::with_seed(7));
    let body = batch.body();
    let parsed: BatchRequest = serde_json::from_slice(&body).unwrap();
    assert_eq!(serde_json::to_vec(&parsed).unwrap(), body);
    assert_eq!((parsed.batch_id.0, parsed.device_id.0), (batch.id, device));
    assert_eq!(batch.id.get_version(), Some(Version::Random));
    assert!(parsed.records.iter().map(|record| record.id.0).eq(batch.record_ids()));
    for record in &parsed.records {
        assert_eq!(record.id.0.get_version(), Some(Version::SortRand));
        assert_eq!(serde_json::to_vec(record).unwrap().len(), SHAPE.record_bytes);
    }
}

#[test]
fn a_batch_of_the_generator_has_the_same_body_at_each_resend() {
    let mut rng = fastrand::Rng::with_seed(7);
    let batches = [(); 2].map(|()| Batch::new(Uuid::new_v4(), SHAPE, 1_772_352_930_120, &mut rng));
    assert_eq!(batches[0].body(), batches[0].body());
    assert_ne!(batches[0].body(), batches[1].body());
}
