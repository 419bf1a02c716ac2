//! `fieldsync show`: one record in plain words: what happens to it next and what a person can do, what
//! is known of it, and every attempt to send it that is still told of.
//!
//! Where a record waits, the daemon and the record that holds it are asked too. They may have moved on
//! by then, which makes the words a moment old and not wrong.

use super::batches::{chapter, is_attempt};
use super::context::Context;
use super::failure::Failure;
use super::json_text;
use super::table::error_text;
use super::words::{count, held, plain, size, stamp, when};
use crate::api::batch_reasons::short_id;
use crate::api::{BatchReport, Phase, Status};
use crate::client::{Client, ClientError, decode_json, with_query};
use crate::clock::wall_ms;
use crate::exit;
use crate::model::{ManifestEntry, RecordId, RecordState};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Tells what happens to it next and why, what a person can do, and every attempt
that is still listed.

Examples:
  fieldsync show 0191b3a0-0000-7000-8000-000000000000
  fieldsync show --payload --json 0191b3a0-0000-7000-8000-000000000000")]
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
    let entry: ManifestEntry = decode_json(&answer)?;
    let (lineage, is_redacted) = lineage(&answer)?;
    let reason = Reason::of(&context.client, &entry).await?;
    let now = wall_ms();
    for line in next_step(&entry, &reason, now) {
        context.text(line)?;
    }
    context.line("")?;
    if is_redacted {
        context.text(format!(
            "It is a record of another user (uid {}): its key, its payload and the message of its last error are for \
             that user and for admins.",
            entry.submitter
        ))?;
        context.line("")?;
    }
    for line in describe(&entry, now).into_iter().chain(story(&entry, &lineage, now)) {
        context.text(line)?;
    }
    if args.payload {
        match payload(&answer)? {
            Some(payload) => {
                context.line("\nPayload:")?;
                let text = json_text::pretty(&payload);
                context.line(json_text::escape_hidden(text.trim_end()))?;
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
    let detail: Detail = decode_json(answer)?;
    Ok(detail.payload.map(|payload| payload.get().to_owned()))
}

/// The sends, and whether parts of the record are not for this user.
fn lineage(answer: &[u8]) -> Result<(Vec<BatchReport>, bool), ClientError> {
    #[derive(Deserialize)]
    struct Detail {
        #[serde(default)]
        lineage: Vec<BatchReport>,
        #[serde(default)]
        redacted: bool,
    }
    let detail: Detail = decode_json(answer)?;
    Ok((detail.lineage, detail.redacted))
}

fn describe(entry: &ManifestEntry, now: u64) -> Vec<String> {
    let mut lines = Vec::new();
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
    field("Submitter", format!("uid {}", entry.submitter));
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

/// How it came to be in its batch, a line an attempt.
fn story(entry: &ManifestEntry, lineage: &[BatchReport], now: u64) -> Vec<String> {
    let told = lineage.iter().filter(|send| is_attempt(send)).count() as u64;
    let earlier = u64::from(entry.attempts).saturating_sub(told);
    let mut lines: Vec<String> = lineage.iter().map(|send| format!("  {}", chapter(send, now))).collect();
    let on_its_way = !matches!(entry.state, RecordState::Synced | RecordState::Quarantined);
    let unsent = entry.batch_id.filter(|id| on_its_way && lineage.iter().all(|send| send.id != *id));
    let unsent = unsent.filter(|_| !lineage.is_empty());
    if let Some(batch) = unsent {
        let now = if entry.state == RecordState::Syncing { "on its way" } else { "not sent yet" };
        lines.push(format!("  batch {}: {now}", short_id(batch)));
    }
    if earlier > 0 {
        let are = if earlier == 1 { "is" } else { "are" };
        lines.insert(0, format!("  {} {are} no longer listed.", count(earlier, "earlier attempt")));
    }
    if !lines.is_empty() {
        lines.insert(0, "\nHow it was sent:".to_owned());
    }
    lines
}

/// What a record waits for.
enum Reason {
    /// It does not wait.
    None,
    /// A record of its key goes first.
    Held(Option<Box<ManifestEntry>>, RecordId),
    /// Its turn.
    Turn(Box<Status>),
}

impl Reason {
    async fn of(client: &Client, entry: &ManifestEntry) -> Result<Self, ClientError> {
        if !matches!(entry.state, RecordState::Pending | RecordState::Failed) {
            return Ok(Self::None);
        }
        let Some(holder) = entry.held_by else {
            return Ok(Self::Turn(Box::new(decode_json(&client.get("/v1/status").await?)?)));
        };
        match fetch(client, holder, &[]).await {
            Ok(answer) => Ok(Self::Held(Some(Box::new(decode_json(&answer)?)), holder)),
            // Settled and forgotten since.
            Err(ClientError::Refused { status: 404, .. }) => Ok(Self::Held(None, holder)),
            Err(error) => Err(error),
        }
    }
}

/// What happens next, why it waits, and what a person can do.
fn next_step(entry: &ManifestEntry, reason: &Reason, now: u64) -> Vec<String> {
    let id = entry.id;
    let first = match entry.state {
        RecordState::Pending => "Waits to be sent.".to_owned(),
        RecordState::Syncing => "On its way to the server in a batch.".to_owned(),
        RecordState::Synced => "Done: the server confirmed it. Only its receipt is kept here.".to_owned(),
        RecordState::Failed => match entry.next_attempt_at {
            Some(at) if at > now => {
                format!("Did not get through; it is safe here and tried again {}.", when(at, now))
            }
            _ => "Did not get through; it is safe here and tried again.".to_owned(),
        },
        RecordState::Quarantined => {
            "Set aside: the server does not take it as it is, and a person has to decide:".to_owned()
        }
    };
    let mut lines = vec![first];
    match reason {
        Reason::None => {}
        Reason::Held(holder, holding) => lines.extend(held_back(holder.as_deref(), *holding)),
        Reason::Turn(status) => lines.extend(match denied(entry, status) {
            Some(told) => told.to_vec(),
            None => turn(status),
        }),
    }
    if entry.state == RecordState::Quarantined {
        for (verb, does) in [
            ("edit", "mend it and send it again"),
            ("retry", "send it again as it is"),
            ("discard", "give it up"),
        ] {
            lines.push(format!("  fieldsync quarantine {verb} {id}"));
            lines.push(format!("      {does}"));
        }
    }
    lines
}

fn held_back(holder: Option<&ManifestEntry>, id: RecordId) -> [String; 2] {
    let state = holder.map_or("gone by now", |holder| holder.state.name());
    let ends = match holder.map(|holder| holder.state) {
        Some(RecordState::Quarantined) => "It waits until a person has decided about that one:",
        _ => "It waits until that one got through, or a person has decided about it:",
    };
    [format!("Record {id} of its key goes first, and is {state}. {ends}"), format!("  fieldsync show {id}")]
}

/// Its batch is turned away while others get through, and what can be done about it.
fn denied(entry: &ManifestEntry, status: &Status) -> Option<[String; 3]> {
    let set = status.sync.denied.iter().find(|set| Some(set.batch_id) == entry.batch_id)?;
    let said = plain(&error_text(&set.error)).into_owned();
    Some([
        format!(
            "Its batch of {} is turned away again and again while others get through: {said}.",
            count(set.records as u64, "record")
        ),
        "Something between here and the server objects to one of its records. The daemon looks for it; to decide about this one now:".to_owned(),
        format!("  fieldsync quarantine add {}", entry.id),
    ])
}

/// What the daemon does instead, and what can be done about it.
fn turn(status: &Status) -> Vec<String> {
    let mut lines = vec![format!("The daemon now: {}", plain(&status.sync.text))];
    lines.extend(
        match status.sync.phase {
            Phase::Paused => Some("  fieldsync resume ends the pause."),
            Phase::Waiting => Some("  fieldsync sync tries now."),
            Phase::Deferred => Some("  fieldsync sync sends all the same, once."),
            Phase::AuthRequired => Some(
                "  Renew the token or the certificate, then: fieldsync sync; fieldsync doctor says more.",
            ),
            Phase::Misconfigured => Some("  Correct the configuration; fieldsync doctor says more."),
            Phase::Offline => Some("  It goes on by itself when the link is back."),
            Phase::Idle | Phase::Syncing => None,
        }
        .map(str::to_owned),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, run, status};
    use super::*;
    use crate::api::Counts;
    use crate::api::samples::sample_report;
    use crate::client::scripted::{Scripted, answer_step};
    use crate::model::SizeRule;
    use crate::model::{BatchId, DeniedSet, LastError};

    fn told(entry: &ManifestEntry, reason: &Reason) -> String {
        next_step(entry, reason, 20_000).join("\n")
    }

    fn turn_at(phase: Phase, text: &str) -> Reason {
        Reason::Turn(Box::new(status(phase, text, Counts::default())))
    }

    #[test]
    fn the_next_step_is_told_with_its_reason_and_what_can_be_done() {
        let mut record = entry(1, RecordState::Failed);
        record.next_attempt_at = Some(52_000);
        assert_eq!(
            told(&record, &turn_at(Phase::Waiting, "Waiting 32 s to retry: 1 record waiting")),
            "Did not get through; it is safe here and tried again in 32 s.\n\
             The daemon now: Waiting 32 s to retry: 1 record waiting\n  fieldsync sync tries now."
        );
        record.state = RecordState::Pending;
        let text = told(&record, &turn_at(Phase::Paused, "Paused: 1 record waiting"));
        assert!(text.ends_with("fieldsync resume ends the pause."), "{text}");
        record.state = RecordState::Quarantined;
        let text = told(&record, &Reason::None);
        assert!(text.contains(&format!("quarantine retry {}", record.id)), "{text}");
        let text = describe(&record, 20_000).join("\n");
        assert!(text.contains("rejected (HTTP 422) BAD_DATE: no such day"), "{text}");
    }

    #[test]
    fn a_batch_that_is_denied_alone_is_named_with_what_was_said() {
        let batch = BatchId::new();
        let record = ManifestEntry { batch_id: Some(batch), ..entry(1, RecordState::Pending) };
        let mut now = status(Phase::Syncing, "Syncing 45 of 150 records", Counts::default());
        let error = LastError {
            class: "unauthorized".into(),
            http_status: Some(403),
            code: None,
            message: "the answer was HTTP 403".into(),
            at: 12_000,
        };
        now.sync.denied = vec![DeniedSet { batch_id: batch, records: 13, denials: 3, error }];
        let text = told(&record, &Reason::Turn(Box::new(now.clone())));
        assert!(text.contains("Its batch of 13 records is turned away again and again"), "{text}");
        assert!(text.contains("unauthorized (HTTP 403)"), "{text}");
        assert!(text.ends_with(&format!("  fieldsync quarantine add {}", record.id)), "{text}");
        let other = ManifestEntry { batch_id: Some(BatchId::new()), ..record };
        assert!(!told(&other, &Reason::Turn(Box::new(now))).contains("turned away"));
    }

    #[test]
    fn who_holds_whom_is_told() {
        let holder = entry(1, RecordState::Quarantined);
        let held = ManifestEntry { held_by: Some(holder.id), ..entry(2, RecordState::Pending) };
        let id = holder.id;
        let text = told(&held, &Reason::Held(Some(Box::new(holder)), id));
        assert!(text.contains(&format!("Record {id} of its key goes first, and is QUARANTINED.")), "{text}");
        assert!(text.ends_with(&format!("  fieldsync show {id}")), "{text}");
        let text = describe(&held, 20_000).join("\n");
        assert!(text.contains(&format!("Held by       {id}")), "{text}");
        let holds = ManifestEntry { holds: 3, ..entry(1, RecordState::Quarantined) };
        let text = describe(&holds, 20_000).join("\n");
        assert!(text.contains("Holds back    3 records of its key"), "{text}");
    }

    #[test]
    fn the_sends_that_led_to_its_batch_are_told_in_order() {
        let [fresh, part, next] = [(); 3].map(|()| BatchId::new());
        let sends = [
            BatchReport {
                id: fresh,
                note: "cut into 7 parts".into(),
                ..sample_report(SizeRule::Standard, None)
            },
            BatchReport { id: part, records: 1, ..sample_report(SizeRule::Split, Some(fresh)) },
        ];
        let record = ManifestEntry { batch_id: Some(next), attempts: 2, ..entry(1, RecordState::Failed) };
        let text = story(&record, &sends, 22_000);
        assert_eq!(text.len(), 4, "{text:?}");
        let at = "  1970-01-01T00:00:10.000Z (12 s ago)";
        assert!(
            text[1]
                .starts_with(&format!("{at}  batch {}, 25 records (standard: 25), try 1: ", short_id(fresh)))
        );
        let split =
            format!("{at}  batch {}, 1 record (split of {}), try 1: ", short_id(part), short_id(fresh));
        assert!(text[2].starts_with(&split), "{text:?}");
        assert_eq!(text[3], format!("  batch {}: not sent yet", short_id(next)));
        let record = ManifestEntry { batch_id: Some(part), ..record };
        assert_eq!(story(&record, &sends, 22_000), text[..3]);
        let untold = ManifestEntry { attempts: 5, ..record };
        assert_eq!(story(&untold, &sends, 22_000)[1], "  3 earlier attempts are no longer listed.");
        assert_eq!(story(&untold, &[], 22_000)[1], "  5 earlier attempts are no longer listed.");
        assert_eq!(story(&ManifestEntry { attempts: 0, ..untold }, &[], 22_000), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_is_not_for_this_user_is_told_in_words() {
        let mut record = ManifestEntry { key: None, submitter: 1001, ..entry(1, RecordState::Synced) };
        record.last_error = None;
        let mut body = serde_json::to_string(&record).unwrap();
        body.insert_str(body.len() - 1, r#","redacted":true"#);
        let daemon = Scripted::new(vec![answer_step(200, &body)]);
        let args = Args { id: record.id, payload: false };
        let (_, text) = run(&daemon, false, async |context| super::run(&args, context).await).await;
        assert!(text.contains("another user (uid 1001)") && text.contains("for admins"), "{text}");
    }

    #[tokio::test]
    async fn payloads_are_shown_as_they_were_written() {
        let record = entry(1, RecordState::Synced);
        let mut body = serde_json::to_string(&record).unwrap();
        body.insert_str(body.len() - 1, r#","payload":{"z": 1.50,"a": 123456789012345678901}"#);
        let daemon = Scripted::new(vec![answer_step(200, &body)]);
        let id = record.id;
        let args = Args { id, payload: true };
        let (code, text) = run(&daemon, false, async |context| super::run(&args, context).await).await;
        assert_eq!(code, Ok(0));
        assert!(text.ends_with("Payload:\n{\n  \"z\": 1.50,\n  \"a\": 123456789012345678901\n}\n"), "{text}");
        let asked = &daemon.into_calls()[0].head;
        assert!(asked.starts_with(&format!("GET /v1/records/{id}?lineage=true&payload=true ")), "{asked}");
    }
}
