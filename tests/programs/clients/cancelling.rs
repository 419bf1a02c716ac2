//! The app ends a call that waits.

use std::time::Duration;

use serde_json::{Value, json};

use super::adapter::{Adapter, ClientError, Language, TIME_LIMIT_MS, enqueue, events, visits, wait};
use super::scripted_socket::{Act, EVENT_STREAM_HEAD, ScriptedSocket};
use crate::support::wait::wait_for;

/// Shorter than the time limit of the calls, and than the pause of 30 s before a next attempt.
const CANCEL_DEADLINE: Duration = Duration::from_secs(15);

/// The error of a call that is cancelled after its request, to which the daemon responds in this way.
#[track_caller]
fn cancel(language: Language, command: &Value, act: Act) -> ClientError {
    let socket = ScriptedSocket::play(vec![act]);
    let mut client = Adapter::start(language, &socket.path());
    client.send(command);
    wait_for("the request", || (!socket.requests().is_empty()).then_some(()));
    client.cancel();
    let error = client.receive_error_within(CANCEL_DEADLINE);
    assert_eq!(error.kind(), "cancelled", "{command}");
    for later in [json!({"do": "status"}), enqueue(&visits(1)), events(None, "end", 1)] {
        assert_eq!(client.fail(&later).kind(), "cancelled", "{later}");
    }
    assert_eq!(socket.requests().len(), 1, "{command}");
    error
}

fn every_call_ends_while_it_waits_for_a_response(language: Language) {
    for command in [
        enqueue(&visits(1)),
        wait("x"),
        events(None, "end", 1),
        json!({"do": "status", "time_limit_ms": TIME_LIMIT_MS}),
    ] {
        cancel(language, &command, Act::Stall(Vec::new()));
    }
}

fn events_end_while_nothing_happens(language: Language) {
    for command in [events(None, "end", 1), wait("x")] {
        cancel(language, &command, Act::Stall(EVENT_STREAM_HEAD.to_vec()));
    }
}

fn an_enqueue_ends_before_its_next_attempt_and_has_the_ids(language: Language) {
    let error = cancel(language, &enqueue(&visits(2)), Act::error(503, "stopping", "retry-after: 30\r\n"));
    assert_eq!((error.ids().len(), error.stored().len()), (2, 0));
}

for_each_client! {
    every_call_ends_while_it_waits_for_a_response,
    events_end_while_nothing_happens,
    an_enqueue_ends_before_its_next_attempt_and_has_the_ids,
}
