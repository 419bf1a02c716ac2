//! What the daemon does with a response, from the first byte to the next decision, and the invariants of that.

use std::time::Duration;

use serde_json::json;

use super::BATCH;
use crate::config::Config;
use crate::model::{
    Backlog, BatchId, BatchPhase, LinkState, Network, OpenBatch, QueuePosition, SizeRule, Stage,
};
use crate::policy::breaker::BreakerState;
use crate::policy::learned::Learned;
use crate::policy::outcome_reply::{OutcomeReply, classify_outcome_reply};
use crate::policy::scheduler::{Scheduler, View};
use crate::policy::service_time::Load;
use crate::policy::verdict::{Ambiguity, UploadResult, Verdict, classify_response, last_error};
use crate::protocol::exchange::{RequestResult, ResponseBody, ServerHints};
use crate::protocol::wire::RecordResult;
use crate::transport::response::reference_decoder::assert_matches;
use crate::transport::response::{DecodedResponse, decode_response};

/// 2026-03-01 08:15:30 UTC
pub(super) const WALL_MS: u64 = 1_772_352_930_000;
const RECORDS: usize = 20;
/// Most bytes of a manifest entry; there is one for each record of a batch.
const ERROR_BYTES_MAX: usize = 2000;

/// Header fields, by name.
pub(super) type Fields = Vec<(&'static str, String)>;

pub(super) fn decoded(status: u16, fields: &Fields, body: &[u8]) -> DecodedResponse {
    let field =
        |name: &'static str| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    decode_response(status, field, body, WALL_MS)
}

/// The verdicts for a batch and for an outcome query. They settle nothing that the response does not say.
pub(super) fn judged(status: u16, fields: &Fields, body: &[u8]) -> (Verdict, OutcomeReply) {
    let seen = RequestResult::Response(decoded(status, fields, body).response);
    let (verdict, found) =
        (classify_response(BatchId(BATCH), false, &seen), classify_outcome_reply(BatchId(BATCH), &seen));
    let settled_results = if let Verdict::Completed(results) = &verdict { Some(results) } else { None };
    let completed = if let OutcomeReply::Completed(results) = &found { Some(results) } else { None };
    assert_eq!(settled_results, completed);
    if let Some(results) = settled_results {
        assert!(matches!(status, 200 | 207), "settled by {status}");
        assert_matches(body, BATCH, &json!(results));
    }
    (verdict, found)
}

/// As [`judged`], and passes the verdicts to the policy: in a test build, an overflow panics.
pub(super) fn digest(status: u16, fields: &Fields, body: &[u8]) -> (Verdict, OutcomeReply) {
    let decoded = decoded(status, fields, body);
    assert_modest(&decoded.response.body, body.len());
    let (verdict, found) = judged(status, fields, body);
    let seen = RequestResult::Response(decoded.response);
    for verdict in [&verdict, &classify_response(BatchId(BATCH), true, &seen)] {
        decide(verdict, &found, decoded.hints, &seen);
    }
    (verdict, found)
}

/// A decoded body takes at most a small multiple of its size.
pub(super) fn assert_modest(body: &ResponseBody, size: usize) {
    let held = count_held_bytes(body);
    assert!(held <= 5 * size + 1024, "{held} bytes of {size}");
}

/// Bytes that a decoded body takes.
fn count_held_bytes(body: &ResponseBody) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
    match body {
        ResponseBody::Batch(batch) => {
            let texts = batch.results.iter().map(|result| {
                let receipt = result.receipt.as_ref().map_or(0, |receipt| receipt.as_str().len());
                text(&result.code) + text(&result.message) + text(&result.field) + receipt
            });
            batch.results.capacity() * size_of::<RecordResult>() + texts.sum::<usize>()
        }
        ResponseBody::Error(detail) => detail.code.capacity() + detail.message.capacity(),
        _ => 0,
    }
}

fn decide(verdict: &Verdict, found: &OutcomeReply, hints: ServerHints, seen: &RequestResult) {
    let mut config = Config::default();
    config.server.url = "https://sync.example".into();
    let open = OpenBatch {
        id: BatchId(BATCH),
        parent: None,
        stage: Stage::Fresh,
        rule: SizeRule::Standard,
        place: QueuePosition(0),
        records: RECORDS,
        bytes: 100_000,
        attempt: 1,
        lone_failures: 0,
        phase: BatchPhase::InFlight,
    };
    let mut load = Load::default();
    (0..RECORDS).for_each(|_| load.add_record("Visits", 5000));
    let mut scheduler = Scheduler::new(Vec::new(), Learned::default(), fastrand::Rng::with_seed(1));
    let backlog = Backlog { pending: 500, claimable: true, ..Backlog::default() };
    let view = |now| View {
        now: Duration::from_secs(now),
        wall_ms: WALL_MS,
        steady_ms: WALL_MS,
        config: &config,
        backlog: &backlog,
        link: LinkState::Online,
        deferral: None,
        breaker: BreakerState::default(),
    };
    let error = last_error(verdict, seen, WALL_MS);
    let kept = error.message.len() + error.code.as_ref().map_or(0, String::len);
    assert!(kept <= ERROR_BYTES_MAX, "{kept} bytes for each record");
    let timed_out = Verdict::Ambiguous(Ambiguity::TimedOut);
    for verdict in [verdict, &timed_out, verdict] {
        scheduler.start_send(&view(1), &open, load.clone());
        let result = UploadResult {
            verdict: verdict.clone(),
            error: error.clone(),
            elapsed: Duration::from_secs(5),
            is_replayed: false,
            hints: Some(hints),
            network: Network { sent: Some(Duration::from_secs(1)), ..Network::default() },
        };
        drop(scheduler.on_response(&view(100), open.id, &result));
        drop(scheduler.next_action(&view(100)));
        drop(scheduler.on_outcome_reply(&view(101), open.id, found));
        drop(scheduler.next_action(&view(101)));
    }
    let learned = scheduler.learned_state(&view(102));
    assert!(Learned::from_note(&learned.to_note()).is_ok());
}
