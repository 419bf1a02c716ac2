//! What the daemon does with an answer, from the first byte to the next decision, and what must hold of it.

use std::time::Duration;

use serde_json::json;

use super::BATCH;
use crate::config::Config;
use crate::model::{Backlog, BatchId, BatchPhase, LinkState, OpenBatch, QueuePosition, SizeRule, Stage};
use crate::policy::breaker::BreakerState;
use crate::policy::learned::Learned;
use crate::policy::outcome_reply::{OutcomeReply, classify_outcome_reply};
use crate::policy::scheduler::{Scheduler, Sent, View};
use crate::policy::service_time::Load;
use crate::policy::verdict::{Ambiguity, Verdict, classify_response, last_error};
use crate::protocol::exchange::{RequestResult, ResponseBody, ServerHints};
use crate::protocol::wire::RecordResult;
use crate::transport::response::reference_decoder::assert_said;
use crate::transport::response::{Decoded, decode};

/// 2026-03-01 08:15:30 UTC
pub(super) const WALL_MS: u64 = 1_772_352_930_000;
const RECORDS: usize = 20;
/// Bytes of an entry of the manifest, which there is one of for each record of a batch.
const MOST_OF_AN_ERROR: usize = 2000;

/// Header fields, by name.
pub(super) type Fields = Vec<(&'static str, String)>;

pub(super) fn decoded(status: u16, fields: &Fields, body: &[u8]) -> Decoded {
    let field =
        |name: &'static str| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    decode(status, field, body, WALL_MS)
}

/// What a batch and a look-up are told by an answer. No more is kept of it than it is worth, and nothing is
/// settled that it does not say.
pub(super) fn judged(status: u16, fields: &Fields, body: &[u8]) -> (Verdict, OutcomeReply) {
    let seen = RequestResult::Response(decoded(status, fields, body).answer);
    let (verdict, found) =
        (classify_response(BatchId(BATCH), false, &seen), classify_outcome_reply(BatchId(BATCH), &seen));
    let answered = if let Verdict::Completed(results) = &verdict { Some(results) } else { None };
    let completed = if let OutcomeReply::Completed(results) = &found { Some(results) } else { None };
    assert_eq!(answered, completed);
    if let Some(results) = answered {
        assert!(matches!(status, 200 | 207), "answered by {status}");
        assert_said(body, BATCH, &json!(results));
    }
    (verdict, found)
}

/// As [`judged`], and has the policy live with it: in a build for tests, what overflows panics.
pub(super) fn digest(status: u16, fields: &Fields, body: &[u8]) -> (Verdict, OutcomeReply) {
    let decoded = decoded(status, fields, body);
    assert_modest(&decoded.answer.body, body.len());
    let (verdict, found) = judged(status, fields, body);
    let seen = RequestResult::Response(decoded.answer);
    for verdict in [&verdict, &classify_response(BatchId(BATCH), true, &seen)] {
        decide(verdict, &found, decoded.hints, &seen);
    }
    (verdict, found)
}

/// What was made from a body of this size is at most a small multiple of it.
pub(super) fn assert_modest(body: &ResponseBody, size: usize) {
    let held = held(body);
    assert!(held <= 4 * size + 1024, "{held} bytes of {size}");
}

/// Bytes of what was made from a body.
fn held(body: &ResponseBody) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
    match body {
        ResponseBody::Batch(answer) => {
            let texts = answer.results.iter().map(|result| text(&result.code) + text(&result.message));
            answer.results.capacity() * size_of::<RecordResult>() + texts.sum::<usize>()
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
    (0..RECORDS).for_each(|_| load.add("Visits", 5000));
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
    assert!(kept <= MOST_OF_AN_ERROR, "{kept} bytes for each record");
    let timed_out = Verdict::Ambiguous(Ambiguity::TimedOut);
    for verdict in [verdict, &timed_out, verdict] {
        scheduler.start_send(Duration::from_secs(1), &open, load.clone());
        scheduler.apply_hints(hints);
        let sent = Sent {
            verdict,
            error: &error,
            took: Duration::from_secs(5),
            sending: Some(Duration::from_secs(1)),
            replayed: false,
        };
        drop(scheduler.on_response(&view(100), open.id, &sent));
        drop(scheduler.next_action(&view(100)));
        drop(scheduler.on_outcome_reply(&view(101), open.id, found));
        drop(scheduler.next_action(&view(101)));
    }
    let learned = scheduler.learned_state(&view(102));
    assert!(Learned::from_note(&learned.to_note()).is_ok());
}
