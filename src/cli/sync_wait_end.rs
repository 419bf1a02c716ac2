//! What `fieldsync sync --wait` says when it did not see the end.

use std::time::Duration;

use super::failure::{CommandFailure, as_sentence};
use super::format::{duration, strip_controls};
use crate::api::{Phase, Status};
use crate::clock::millis;

pub(super) fn describe_timeout(limit: Option<Duration>, status: Option<&Status>) -> CommandFailure {
    let limit = duration(limit.map_or(0, millis));
    let text =
        status.map_or("The daemon does not respond.".to_owned(), |status| as_sentence(&status.sync.text));
    let next = describe_next(status);
    CommandFailure::failed(format!("not all records were sent within {limit}. {text} {next}"))
}

/// What becomes of the records after a wait that did not see the end.
pub(super) fn describe_next(status: Option<&Status>) -> String {
    let Some(Status { sync, .. }) = status else {
        return "Records that were accepted are safe on disk: fieldsync doctor".to_owned();
    };
    let is_trying = matches!(
        sync.phase.known(),
        Some(Phase::Idle | Phase::Syncing | Phase::Waiting | Phase::Offline | Phase::Deferred)
    );
    // Such a remedy says that the device does what is needed.
    let remedy = sync.remedy.as_deref().filter(|remedy| !remedy.starts_with("nothing")).map(strip_controls);
    match remedy {
        None if is_trying => "The daemon continues by itself: fieldsync status".to_owned(),
        Some(remedy) if is_trying && sync.next_attempt_at.is_some() => {
            format!("The daemon tries again by itself. To do: {remedy}")
        }
        Some(remedy) => format!("The records are safe on disk. To do: {remedy}"),
        None => "The records are safe on disk: fieldsync status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample_status;
    use super::*;
    use crate::api::Counts;

    #[test]
    fn after_a_wait_the_message_says_what_happens_next_in_each_situation() {
        let nothing = "nothing, it is tried again by itself; to try now: fieldsync sync";
        let resume = "to send again: fieldsync resume";
        for (phase, remedy, next, expected) in [
            (Phase::Syncing, None, None, "The daemon continues by itself: fieldsync status"),
            (Phase::Waiting, Some(nothing), Some(1), "The daemon continues by itself: fieldsync status"),
            (Phase::Waiting, Some("start it"), Some(1), "The daemon tries again by itself. To do: start it"),
            (Phase::Deferred, Some("charge it"), None, "The records are safe on disk. To do: charge it"),
            (
                Phase::Paused,
                Some(resume),
                Some(1),
                "The records are safe on disk. To do: to send again: fieldsync resume",
            ),
            (Phase::Misconfigured, Some("set it"), None, "The records are safe on disk. To do: set it"),
            (Phase::AuthRequired, None, None, "The records are safe on disk: fieldsync status"),
        ] {
            let mut status = sample_status(phase, "A sentence", Counts::default());
            status.sync.remedy = remedy.map(Into::into);
            status.sync.next_attempt_at = next;
            assert_eq!(describe_next(Some(&status)), expected, "{phase:?}");
        }
        let silent = describe_timeout(Some(Duration::from_secs(2)), None).message;
        assert!(silent.ends_with(
            "The daemon does not respond. Records that were accepted are safe on disk: fieldsync doctor"
        ));
    }
}
