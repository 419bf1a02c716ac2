//! A batch as the daemon sends it. Its body is a function of a few numbers, so that a resend is byte-identical without
//! the generator keeping the bodies of ten thousand devices.

use std::io::Write as _;

use bytes::Bytes;
use fastrand::Rng;
use jiff::Timestamp;
use uuid::{Builder, Uuid};

/// What the payloads are filled with; ASCII, so that it can be cut anywhere.
const FILLER: &str = "Met the buyer on site, walked through the stock list, agreed on the delivery dates for the \
    next quarter, left two samples of the new product line, and took photographs of the shelves. The account asks for \
    a call about the open invoice before the end of the month; the discount of the spring campaign still applies. \
    Competitors were not seen in the store. The next visit is planned for the second week, in the morning, with the \
    regional manager. Parking is behind the building, the entrance for deliveries is closed until nine. The display \
    at the entrance needs a new lamp, and the price labels of the lower shelf are out of date; both were reported to \
    the store. Opening hours have changed: Saturdays until six, and closed on the first Monday of each month now.";
const PAYLOAD_END: &str = "\"}}";

/// How large the batches of a fleet are.
#[derive(Clone, Copy)]
pub(crate) struct BatchShape {
    pub(crate) records: usize,
    /// Of a record in the body.
    pub(crate) record_bytes: usize,
}

/// A batch of new records.
#[derive(Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) id: Uuid,
    pub(crate) device: Uuid,
    shape: BatchShape,
    created_at_ms: u64,
    seed: u64,
}

impl Batch {
    pub(crate) fn new(device: Uuid, shape: BatchShape, created_at_ms: u64, rng: &mut Rng) -> Self {
        Self { id: random_id(rng), device, shape, created_at_ms, seed: rng.u64(..) }
    }

    /// The same records under another batch id, as from a device that lost track of the first.
    pub(crate) fn with_new_id(&self, rng: &mut Rng) -> Self {
        Self { id: random_id(rng), ..*self }
    }

    /// The ids of its records, in order.
    pub(crate) fn record_ids(&self) -> impl Iterator<Item = Uuid> {
        let mut rng = Rng::with_seed(self.seed);
        let time = self.created_at_ms;
        (0..self.shape.records).map(move |_| {
            let mut random = [0; 10];
            rng.fill(&mut random);
            Builder::from_unix_timestamp_millis(time, &random).into_uuid()
        })
    }

    /// The body of the request, the same at each call.
    pub(crate) fn body(&self) -> Bytes {
        let time = i64::try_from(self.created_at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let created_at = format!("{:.3}", time.expect("a time of this century"));
        let mut body = Vec::with_capacity(256 + self.shape.records * self.shape.record_bytes);
        let (batch, device) = (self.id, self.device);
        write!(
            body,
            r#"{{"batch_id":"{batch}","device_id":"{device}","sequence":{{"index":1,"total":1}},"records":["#
        )
        .expect("memory grows");
        for (number, id) in self.record_ids().enumerate() {
            if number > 0 {
                body.push(b',');
            }
            self.write_record(&mut body, number, id, &created_at);
        }
        body.extend_from_slice(b"]}");
        body.into()
    }

    /// Each record of a batch has another key, as in a batch for a server that may not hold keys.
    fn write_record(&self, body: &mut Vec<u8>, number: usize, id: Uuid, created_at: &str) {
        let start = body.len();
        let amount = self.seed % 9000 + 100;
        write!(
            body,
            r#"{{"id":"{id}","type":"Visits","key":"account-{number}","created_at":"{created_at}","payload":{{"Subject":"Site visit","Number":{number},"Amount":{amount}.5,"Notes":""#,
        )
        .expect("memory grows");
        let written = body.len() - start + PAYLOAD_END.len();
        let filler = self.shape.record_bytes.saturating_sub(written).min(FILLER.len());
        body.extend_from_slice(&FILLER.as_bytes()[..filler]);
        body.extend_from_slice(PAYLOAD_END.as_bytes());
    }
}

/// A UUID v4, without a system call for each.
pub(crate) fn random_id(rng: &mut Rng) -> Uuid {
    Builder::from_random_bytes(rng.u128(..).to_ne_bytes()).into_uuid()
}
