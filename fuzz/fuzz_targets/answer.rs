//! Responses of the server: no response causes a panic, and records are settled only by its results.
//!
//! An input is a response in text form (see `seeds/answer`): the status, header fields in lower case, an empty
//! line, the body.
#![no_main]

#[path = "../../src/transport/response/reference_decoder.rs"]
mod reference_decoder;

use fieldsync::model::BatchId;
use fieldsync::policy::outcome_reply::{OutcomeReply, classify_outcome_reply};
use fieldsync::policy::verdict::{Verdict, classify_response, last_error};
use fieldsync::protocol::exchange::RequestResult;
use fieldsync::transport::response::decode_response;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use uuid::Uuid;

/// The batch that the responses belong to; the seeds name it.
const BATCH: Uuid = Uuid::from_u128(0x0b0f_0000_0000_4000_8000_0000_0000_0001);
const WALL_MS: u64 = 1_772_352_930_000;

fuzz_target!(|input: &[u8]| {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.map_or((input, &[][..]), |end| (&input[..end], &input[end + 2..]));
    let mut lines = str::from_utf8(head).unwrap_or_default().lines();
    let status = lines.next().and_then(|line| line.parse().ok()).unwrap_or(200);
    let fields: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
    let field = |name| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);

    let decoded = decode_response(status, field, body, WALL_MS);
    let seen = RequestResult::Response(decoded.response);
    for compressed in [true, false] {
        let verdict = classify_response(BatchId(BATCH), compressed, &seen);
        if let Verdict::Completed(results) = &verdict {
            assert!(matches!(status, 200 | 207));
            reference_decoder::assert_matches(body, BATCH, &json!(results));
        }
        let error = last_error(&verdict, &seen, WALL_MS);
        assert!(error.message.len() + error.code.map_or(0, |code| code.len()) <= 2000);
    }
    if let OutcomeReply::Completed(results) = classify_outcome_reply(BatchId(BATCH), &seen) {
        assert!(matches!(status, 200 | 207));
        reference_decoder::assert_matches(body, BATCH, &json!(results));
    }
});
