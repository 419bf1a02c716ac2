//! `fieldsync show`: one record in plain words, with what happens to it next.

use super::batches::chapter;
use super::context::Context;
use super::failure::Failure;
use super::json_text;
use super::table::error_text;
use super::words::{held, plain, size, stamp};
use crate::clock::wall_ms;
use crate::exit;
use crate::ipc::api::BatchReport;
use crate::ipc::client::{Client, ClientError, decode, with_query};
use crate::ipc::why::short;
use crate::model::{ManifestEntry, RecordId, RecordState};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the record
    id: RecordId,
    /// With its payload
    #[arg(long)]
    payload: bool,
}

pub(crate) async fn run(args: &Args, context: &mut Context<'_>) -> Result<u8, Failure> {
    let wanted: &[_] = if args.payload { &["lineage", "payload"] } else { &["lineage"] };
    let answer = fetch(&context.client, args.id, wanted).await?;
    if context.json {
        context.answer_line(&answer)?;
        return Ok(exit::DONE);
    }
    let entry: ManifestEntry = decode(&answer)?;
    for line in describe(&entry, wall_ms()).into_iter().chain(story(&entry, &lineage(&answer)?)) {
        context.line(line)?;
    }
    if args.payload {
        match payload(&answer)? {
            Some(payload) => {
                context.line("\nPayload:")?;
                context.line(json_text::pretty(&payload).trim_end())?;
            }
            None => context.line("\nThe payload is no longer kept.")?,
        }
    }
    Ok(exit::DONE)
}

/// One record, with what is wanted besides its manifest entry.
pub(crate) async fn fetch(client: &Client, id: RecordId, wanted: &[&str]) -> Result<Bytes, ClientError> {
    let pairs: Vec<_> = wanted.iter().map(|what| (*what, "true")).collect();
    client.get(&with_query(&format!("/v1/records/{id}"), &pairs)).await
}

/// The payload out of a record's detail, as the application wrote it.
pub(crate) fn payload(answer: &[u8]) -> Result<Option<String>, ClientError> {
    #[derive(Deserialize)]
    struct Detail {
        #[serde(default)]
        payload: Option<Box<RawValue>>,
    }
    let detail: Detail = decode(answer)?;
    Ok(detail.payload.map(|payload| payload.get().to_owned()))
}

fn lineage(answer: &[u8]) -> Result<Vec<BatchReport>, ClientError> {
    #[derive(Deserialize)]
    struct Detail {
        #[serde(default)]
        lineage: Vec<BatchReport>,
    }
    let detail: Detail = decode(answer)?;
    Ok(detail.lineage)
}

fn describe(entry: &ManifestEntry, now: u64) -> Vec<String> {
    let mut lines = vec![next_step(entry, now), String::new()];
    let mut field = |name: &str, value: String| lines.push(format!("{name:<13} {value}"));
    field("Record", entry.id.to_string());
    field("State", entry.state.name().to_owned());
    field("Type", plain(&entry.record_type).into_owned());
    if let Some(key) = &entry.key {
        field("Key", plain(key).into_owned());
    }
    if let Some(holder) = entry.held_by {
        field("Held by", holder.to_string());
    }
    if entry.holds > 0 {
        field("Holds back", format!("{} of its key", held(entry.holds)));
    }
    field("Priority", entry.priority.to_string());
    field("Arrival", format!("no. {}", entry.seq));
    field("Payload", size(entry.payload_bytes));
    field("Attempts", entry.attempts.to_string());
    field("Enqueued", stamp(entry.created_at, now));
    field("Last change", stamp(entry.updated_at, now));
    if let Some(at) = entry.next_attempt_at {
        field("Next attempt", stamp(at, now));
    }
    if let Some(batch) = entry.batch_id {
        field("Last batch", batch.to_string());
    }
    if let Some(error) = &entry.last_error {
        field("Last error", error_text(error));
        field("", stamp(error.at, now));
    }
    lines
}

/// How it came to be in its batch, a line a send.
fn story(entry: &ManifestEntry, lineage: &[BatchReport]) -> Vec<String> {
    let mut lines: Vec<String> = lineage.iter().map(|send| format!("  {}", chapter(send))).collect();
    let on_its_way = !matches!(entry.state, RecordState::Synced | RecordState::Quarantined);
    let unsent = entry.batch_id.filter(|id| on_its_way && lineage.iter().all(|send| send.id != *id));
    let unsent = unsent.filter(|_| !lineage.is_empty());
    if let Some(batch) = unsent {
        let now = if entry.state == RecordState::Syncing { "on its way" } else { "not sent yet" };
        lines.push(format!("  batch {}: {now}", short(batch)));
    }
    if !lines.is_empty() {
        lines.insert(0, "\nHow it was sent:".to_owned());
    }
    lines
}

/// What happens next, or what a person has to do.
fn next_step(entry: &ManifestEntry, now: u64) -> String {
    let id = entry.id;
    match entry.state {
        RecordState::Pending | RecordState::Failed if entry.held_by.is_some() => {
            "Waits for an earlier record of its key, which did not get through.".to_owned()
        }
        RecordState::Pending => "Waits for its turn to be sent.".to_owned(),
        RecordState::Syncing => "On its way to the server in a batch.".to_owned(),
        RecordState::Synced => "Done: the server confirmed it. Only its receipt is kept here.".to_owned(),
        RecordState::Failed => match entry.next_attempt_at {
            Some(at) if at > now => format!(
                "Did not get through; it is safe here and tried again {}.",
                super::words::when(at, now)
            ),
            _ => "Did not get through; it is safe here and tried again soon.".to_owned(),
        },
        RecordState::Quarantined => format!(
            "Set aside: the server does not take it as it is, and a person has to decide:\n  \
             fieldsync quarantine edit {id}     mend it and send it again\n  \
             fieldsync quarantine retry {id}    send it again as it is\n  \
             fieldsync quarantine discard {id}  give it up"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, run};
    use super::*;
    use crate::ipc::client::scripted::{Scripted, answer};
    use crate::ipc::why::tests::report;
    use crate::model::BatchId;

    #[test]
    fn the_next_step_is_the_first_line() {
        let mut record = entry(1, RecordState::Failed);
        record.next_attempt_at = Some(52_000);
        assert_eq!(
            describe(&record, 20_000)[0],
            "Did not get through; it is safe here and tried again in 32 s."
        );
        record.state = RecordState::Quarantined;
        let text = describe(&record, 20_000).join("\n");
        assert!(text.contains(&format!("quarantine retry {}", record.id)), "{text}");
        assert!(text.contains("rejected (HTTP 422) BAD_DATE: no such day"), "{text}");
    }

    #[test]
    fn who_holds_whom_is_told() {
        let holder = RecordId::new();
        let held = ManifestEntry { held_by: Some(holder), ..entry(2, RecordState::Pending) };
        let text = describe(&held, 20_000).join("\n");
        assert!(text.starts_with("Waits for an earlier record of its key"), "{text}");
        assert!(text.contains(&format!("Held by       {holder}")), "{text}");
        let holds = ManifestEntry { holds: 3, ..entry(1, RecordState::Quarantined) };
        let text = describe(&holds, 20_000).join("\n");
        assert!(text.contains("Holds back    3 records of its key"), "{text}");
    }

    #[test]
    fn the_sends_that_led_to_its_batch_are_told_in_order() {
        let [fresh, part, next] = [(); 3].map(|()| BatchId::new());
        let sends = [
            BatchReport { id: fresh, note: "cut into 7 parts".into(), ..report("standard", None) },
            BatchReport { id: part, records: 1, ..report("split", Some(fresh)) },
        ];
        let record = ManifestEntry { batch_id: Some(next), ..entry(1, RecordState::Failed) };
        let text = story(&record, &sends);
        assert_eq!(text.len(), 4, "{text:?}");
        assert!(
            text[1].starts_with(&format!("  batch {}, 25 records (standard: 25), try 1: ", short(fresh)))
        );
        let split = format!("  batch {}, 1 record (split of {}), try 1: ", short(part), short(fresh));
        assert!(text[2].starts_with(&split), "{text:?}");
        assert_eq!(text[3], format!("  batch {}: not sent yet", short(next)));
        let record = ManifestEntry { batch_id: Some(part), ..record };
        assert_eq!(story(&record, &sends), text[..3]);
        assert_eq!(story(&record, &[]), Vec::<String>::new());
    }

    #[tokio::test]
    async fn payloads_are_shown_as_they_were_written() {
        let record = entry(1, RecordState::Pending);
        let mut body = serde_json::to_string(&record).unwrap();
        body.insert_str(body.len() - 1, r#","payload":{"z": 1.50,"a": 123456789012345678901}"#);
        let daemon = Scripted::new(vec![answer(200, &body)]);
        let id = record.id;
        let args = Args { id, payload: true };
        let (code, text) = run(&daemon, false, async |context| super::run(&args, context).await).await;
        assert_eq!(code, Ok(0));
        assert!(text.ends_with("Payload:\n{\n  \"z\": 1.50,\n  \"a\": 123456789012345678901\n}\n"), "{text}");
        let asked = &daemon.calls()[0].head;
        assert!(asked.starts_with(&format!("GET /v1/records/{id}?lineage=true&payload=true ")), "{asked}");
    }
}
