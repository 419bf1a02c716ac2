//! `fieldsync events`: one line an event, for people to read along and for programs to act on.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::batches;
use super::context::Context;
use super::failure::Failure;
use super::follow::{Follower, Interrupt, News};
use super::json_text;
use super::table::error_text;
use super::words::{plain, spaced};
use crate::api::{BatchReport, Status};
use crate::client::Event;
use crate::clock::{rfc3339, wall_ms};
use crate::exit;
use crate::model::{LastError, RecordId};

#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    data: Box<RawValue>,
}

pub(crate) async fn run(context: &mut Context<'_>) -> Result<u8, Failure> {
    let client = context.client.clone();
    let mut interrupt = Interrupt::new()?;
    let mut follower = Follower::open(&client, Duration::MAX).await?;
    loop {
        let news = tokio::select! {
            () = interrupt.wait() => return Ok(exit::DONE),
            news = follower.next() => news?,
        };
        match news {
            News::Gone => context.note("The daemon went away; waiting for it to come back."),
            // What was missed, a `gap` tells.
            News::Back => context.note("The daemon is back."),
            News::Event(event) if context.json => context.line_now(json_line(&event)?)?,
            News::Event(event) => {
                let at = rfc3339(wall_ms());
                let name = plain(&event.name);
                context.text(format!("{at} {name:<12} {}", words(&event)))?;
                context.out.flush()?;
            }
        }
    }
}

fn json_line(event: &Event) -> Result<String, Failure> {
    let line = RawValue::from_string(json_text::compact(&event.data))
        .and_then(|data| serde_json::to_string(&Line { event: &event.name, data }));
    line.map_err(|error| Failure::failed(format!("the daemon sent an event that is no JSON: {error}.")))
}

fn words(event: &Event) -> String {
    let known = match event.name.as_str() {
        "status" | "progress" => {
            serde_json::from_str(&event.data).ok().map(|status: Status| plain(&status.sync.text).into_owned())
        }
        "batch" => {
            serde_json::from_str(&event.data).ok().map(|report: BatchReport| batches::sentence(&report))
        }
        "record" => serde_json::from_str(&event.data).ok().map(|news: RecordNews| news.words()),
        "gap" => Some(gap(&event.data)),
        _ => None,
    };
    known.unwrap_or_else(|| pairs(&event.data))
}

#[derive(Deserialize)]
struct RecordNews {
    id: RecordId,
    state: Option<String>,
    change: Option<String>,
    #[serde(rename = "type")]
    record_type: Option<String>,
    last_error: Option<LastError>,
}

impl RecordNews {
    /// `0191… is QUARANTINED (Visits): rejected (HTTP 422) BAD_DATE: no such day`
    fn words(&self) -> String {
        let Self { id, state, change, record_type, last_error } = self;
        let became = match (state, change) {
            (Some(state), _) => format!(" is {}", plain(state)),
            (None, Some(change)) => format!(" was {}", plain(change)),
            (None, None) => String::new(),
        };
        let of = record_type.as_ref().map_or_else(String::new, |name| format!(" ({})", plain(name)));
        let why = last_error.as_ref().map_or_else(String::new, |error| format!(": {}", error_text(error)));
        format!("{id}{became}{of}{why}")
    }
}

/// `12 events were missed (the daemon was restarted)`
fn gap(data: &str) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Gap {
        missed: Option<u64>,
        reason: Option<String>,
    }
    let Gap { missed, reason } = serde_json::from_str(data).unwrap_or_default();
    let missed = match missed {
        Some(1) => "1 event was missed".to_owned(),
        Some(number) => format!("{number} events were missed"),
        None => "events were missed, nobody knows how many".to_owned(),
    };
    reason.map_or_else(|| missed.clone(), |reason| format!("{missed} ({})", spaced(&reason)))
}

/// `state=online metered=false`: every event is readable, those of newer daemons too.
fn pairs(data: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(data) else {
        return plain(data).into_owned();
    };
    let pairs: Vec<String> = fields
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| match value {
            Value::String(text) => format!("{}={}", plain(name), plain(text)),
            other => format!("{}={}", plain(name), plain(&other.to_string())),
        })
        .collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), id: None, data: data.to_owned() }
    }

    #[test]
    fn programs_get_the_data_as_it_came() {
        let line = json_line(&event("alert", "{\"n\": 1.50,\n\"text\": \"a b\"}")).unwrap();
        assert_eq!(line, r#"{"event":"alert","data":{"n":1.50,"text":"a b"}}"#);
        assert!(json_line(&event("alert", "no json")).is_err());
    }

    #[test]
    fn people_get_a_line_for_events_of_any_kind() {
        let link = event("connectivity", r#"{"metered":false,"state":"online","since":null}"#);
        assert_eq!(words(&link), "metered=false state=online");
        assert_eq!(words(&event("news", "text\u{7}")), "text\u{fffd}");
    }

    #[test]
    fn a_record_is_told_with_what_became_of_it() {
        let id = "6f1c1c9e-0c55-4b4f-9a55-0b7c5c7f0a01";
        let data = format!(
            r#"{{"id":"{id}","state":"QUARANTINED","type":"Visits","last_error":{{"class":"rejected",
               "http_status":null,"code":"BAD_DATE","message":"no such day","at":"2026-03-01T08:15:30.120Z"}}}}"#
        );
        let told = format!("{id} is QUARANTINED (Visits): rejected BAD_DATE: no such day");
        assert_eq!(words(&event("record", &data)), told);
        let data = format!(r#"{{"id":"{id}","change":"discarded"}}"#);
        assert_eq!(words(&event("record", &data)), format!("{id} was discarded"));
    }

    #[test]
    fn a_gap_is_told() {
        let told = |data| words(&event("gap", data));
        assert_eq!(
            told(r#"{"missed":12,"reason":"daemon_restarted"}"#),
            "12 events were missed (daemon restarted)"
        );
        assert_eq!(told(r#"{"missed":1}"#), "1 event was missed");
        assert_eq!(told("{}"), "events were missed, nobody knows how many");
    }

    #[test]
    fn a_batch_is_told_in_a_sentence() {
        let data = r#"{"id":"6f1c1c9e-0c55-4b4f-9a55-0b7c5c7f0a01","parent":null,"sequence":"3/6","records":25,"bytes":900,
            "attempt":1,"outcome":"answered","http_status":200,"duration_ms":950,"synced":25,"rule":"large_queue",
            "note":"done","at":"2026-03-01T08:15:30.120Z"}"#;
        assert_eq!(
            words(&event("batch", data)),
            "3/6 of 25 records, try 1: answered (HTTP 200) after 950 ms, 25 synced; done"
        );
    }
}
