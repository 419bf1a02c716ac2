//! `fieldsync events`: one line for each event, for people and for programs.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::batches;
use super::context::CommandContext;
use super::failure::CommandFailure;
use super::follow::{EventFollower, FollowEvent, Interrupt};
use super::format::{strip_controls, with_spaces};
use super::json_text;
use super::state_words::state_phrase;
use super::table::error_text;
use crate::api::{BatchReport, OpenEnum, Status};
use crate::client::ServerSentEvent;
use crate::clock::{rfc3339, wall_ms};
use crate::exit;
use crate::model::{LastError, RecordId, RecordState};

#[derive(Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// End after this many events; the first is the present status
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Serialize)]
struct EventLine<'a> {
    event: &'a str,
    data: Box<RawValue>,
}

pub(crate) async fn run(args: &EventsArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let client = context.client.clone();
    let mut interrupt = Interrupt::new()?;
    let mut follower = EventFollower::open(&client, Duration::MAX).await?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let news = tokio::select! {
            () = interrupt.wait() => break,
            news = follower.next() => news?,
        };
        left -= u64::from(matches!(news, FollowEvent::Event(_)));
        match news {
            FollowEvent::Disconnected => {
                context.print_note("The connection to the daemon was lost; waiting for it to come back.");
            }
            // A `gap` event reports missed events.
            FollowEvent::Reconnected => context.print_note("The daemon is back."),
            FollowEvent::Event(event) if context.json => context.print_line_now(json_line(&event)?)?,
            FollowEvent::Event(event) => {
                let at = rfc3339(wall_ms());
                let name = strip_controls(&event.name);
                context.print_wrapped(format!("{at} {name:<12} {}", describe_event(&event)))?;
                context.out.flush()?;
            }
        }
    }
    Ok(exit::DONE)
}

fn json_line(event: &ServerSentEvent) -> Result<String, CommandFailure> {
    let line = RawValue::from_string(json_text::compact_json(&event.data))
        .and_then(|data| serde_json::to_string(&EventLine { event: &event.name, data }));
    line.map_err(|error| {
        CommandFailure::failed(format!("the daemon sent an event that is not JSON: {error}."))
    })
}

fn describe_event(event: &ServerSentEvent) -> String {
    let known = match event.name.as_str() {
        "status" | "progress" => serde_json::from_str(&event.data)
            .ok()
            .map(|status: Status| strip_controls(&status.sync.text).into_owned()),
        "batch" => {
            serde_json::from_str(&event.data).ok().map(|report: BatchReport| batches::batch_sentence(&report))
        }
        "record" => serde_json::from_str(&event.data).ok().map(|news: RecordEvent| news.describe()),
        "gap" => Some(describe_gap(&event.data)),
        _ => None,
    };
    known.unwrap_or_else(|| describe_fields(&event.data))
}

#[derive(Deserialize)]
struct RecordEvent {
    id: RecordId,
    state: Option<OpenEnum<RecordState>>,
    change: Option<String>,
    discarded_by: Option<String>,
    #[serde(rename = "type")]
    record_type: Option<String>,
    last_error: Option<LastError>,
}

impl RecordEvent {
    /// `0191… needs review (Visits): rejected (HTTP 422) BAD_DATE: no such day`
    fn describe(&self) -> String {
        let Self { id, state, change, discarded_by, record_type, last_error } = self;
        let became = match (state, change) {
            (_, Some(change)) if discarded_by.is_some() => format!(" was {}", strip_controls(change)),
            (Some(OpenEnum::Known(state)), _) => format!(" {}", state_phrase(*state)),
            (Some(OpenEnum::Unknown(state)), _) => format!(" is {}", strip_controls(state)),
            (None, Some(change)) => format!(" was {}", strip_controls(change)),
            (None, None) => String::new(),
        };
        let by =
            discarded_by.as_ref().map_or_else(String::new, |user| format!(" by {}", strip_controls(user)));
        let of = record_type.as_ref().map_or_else(String::new, |name| format!(" ({})", strip_controls(name)));
        let why = last_error.as_ref().map_or_else(String::new, |error| format!(": {}", error_text(error)));
        format!("{id}{became}{by}{of}{why}")
    }
}

/// `12 events were missed (the daemon was restarted)`
fn describe_gap(data: &str) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct MissedEvents {
        missed: Option<u64>,
        reason: Option<String>,
    }
    let MissedEvents { missed, reason } = serde_json::from_str(data).unwrap_or_default();
    let missed = match missed {
        Some(1) => "1 event was missed".to_owned(),
        Some(number) => format!("{number} events were missed"),
        None => "an unknown number of events were missed".to_owned(),
    };
    reason.map_or_else(|| missed.clone(), |reason| format!("{missed} ({})", with_spaces(&reason)))
}

/// `state=online metered=false`: for all other events, including those of newer daemons.
fn describe_fields(data: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(data) else {
        return strip_controls(data).into_owned();
    };
    let pairs: Vec<String> = fields
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| match value {
            Value::String(text) => format!("{}={}", strip_controls(name), strip_controls(text)),
            other => format!("{}={}", strip_controls(name), strip_controls(&other.to_string())),
        })
        .collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_of(name: &str, data: &str) -> ServerSentEvent {
        ServerSentEvent { name: name.to_owned(), id: None, data: data.to_owned() }
    }

    #[test]
    fn programs_get_the_data_as_it_came() {
        let line = json_line(&event_of("alert", "{\"n\": 1.50,\n\"text\": \"a b\"}")).unwrap();
        assert_eq!(line, r#"{"event":"alert","data":{"n":1.50,"text":"a b"}}"#);
        assert!(json_line(&event_of("alert", "no json")).is_err());
    }

    #[test]
    fn people_get_one_line_for_every_kind_of_event() {
        let link = event_of("connectivity", r#"{"metered":false,"state":"online","since":null}"#);
        assert_eq!(describe_event(&link), "metered=false state=online");
        assert_eq!(describe_event(&event_of("news", "text\u{7}")), "text\u{fffd}");
    }

    #[test]
    fn a_record_event_is_described_with_its_new_state() {
        let id = "6f1c1c9e-0c55-4b4f-9a55-0b7c5c7f0a01";
        let data = format!(
            r#"{{"id":"{id}","state":"QUARANTINED","type":"Visits","last_error":{{"class":"rejected",
               "http_status":null,"code":"BAD_DATE","message":"no such day","at":"2026-03-01T08:15:30.120Z"}}}}"#
        );
        let expected = format!("{id} needs review (Visits): rejected BAD_DATE: no such day");
        assert_eq!(describe_event(&event_of("record", &data)), expected);
        let data = format!(r#"{{"id":"{id}","change":"discarded"}}"#);
        assert_eq!(describe_event(&event_of("record", &data)), format!("{id} was discarded"));
        let data =
            format!(r#"{{"id":"{id}","state":"DISCARDED","change":"discarded","discarded_by":"alice"}}"#);
        assert_eq!(describe_event(&event_of("record", &data)), format!("{id} was discarded by alice"));
    }

    #[test]
    fn a_gap_is_described() {
        let describe_gap = |data| describe_event(&event_of("gap", data));
        assert_eq!(
            describe_gap(r#"{"missed":12,"reason":"daemon_restarted"}"#),
            "12 events were missed (daemon restarted)"
        );
        assert_eq!(describe_gap(r#"{"missed":1}"#), "1 event was missed");
        assert_eq!(describe_gap("{}"), "an unknown number of events were missed");
    }

    #[test]
    fn a_batch_event_is_described_in_a_sentence() {
        let data = r#"{"id":"6f1c1c9e-0c55-4b4f-9a55-0b7c5c7f0a01","parent":null,"sequence":"3/6","records":25,"bytes":900,
            "attempt":1,"outcome":"answered","http_status":200,"duration_ms":950,"synced":25,"rule":"large_queue",
            "note":"done","at":"2026-03-01T08:15:30.120Z"}"#;
        assert_eq!(
            describe_event(&event_of("batch", data)),
            "3/6 of 25 records, try 1: answered (HTTP 200) after 950 ms, 25 synced; done"
        );
    }
}
