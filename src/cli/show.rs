//! `fieldsync show`: one record in plain words: what happens to it next and what a person can do, what
//! is known of it, and every attempt to send it that is still listed. The daemon says why it waits.

use super::batches::{attempt_line, is_attempt};
use super::context::CommandContext;
use super::failure::CommandFailure;
use super::format::{blocked_records, count, relative, size, strip_controls, timestamp};
use super::receipt::ReceiptMembers;
use super::record_ids::IdPart;
use super::state_words::state_word;
use super::table::error_text;
use super::{id_completion, json_text};
use crate::api::batch_reasons::short_id;
use crate::api::{BatchReport, WaitingFor};
use crate::client::{Client, ClientError, decode_json, with_query};
use crate::clock::wall_ms;
use crate::exit;
use crate::model::{ManifestEntry, RecordId, RecordState};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Shows what happens to the record next and why, what a person can do, and every
attempt that is still listed.

Examples:
  fieldsync show 0191b3a0-0000-7000-8000-000000000000
  fieldsync show --payload --json 0191b3a0-0000-7000-8000-000000000000")]
pub(crate) struct Args {
    /// Id of the record, or any unique beginning or end of it
    #[arg(add = id_completion::records())]
    id: IdPart,
    /// Also show its payload
    #[arg(long)]
    payload: bool,
}

pub(crate) async fn run(args: &Args, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let wanted: &[_] = if args.payload { &["lineage", "payload"] } else { &["lineage"] };
    let response = fetch(&context.client, args.id.resolve(&context.client).await?, wanted).await?;
    if context.json {
        context.print_json(&response)?;
        return Ok(exit::DONE);
    }
    let entry: ManifestEntry = decode_json(&response)?;
    let RecordExtras { lineage, redacted, waiting_for, receipt } = decode_json(&response)?;
    let now = wall_ms();
    for line in next_step(&entry, waiting_for.as_ref(), now) {
        context.print_wrapped(line)?;
    }
    context.print_line("")?;
    if redacted {
        context.print_wrapped(format!(
            "It is a record of another user (uid {}): its key, its payload, its receipt and the message of its last error \
             are for that user and for admins.",
            entry.submitter
        ))?;
        context.print_line("")?;
    }
    let lines = describe(&entry, now).into_iter().chain(describe_receipt(receipt));
    for line in lines.chain(attempt_history(&entry, &lineage, now)) {
        context.print_wrapped(line)?;
    }
    if args.payload {
        match payload(&response)? {
            Some(payload) => {
                context.print_line("\nPayload:")?;
                let text = json_text::indent_json(&payload);
                context.print_line(json_text::escape_hidden(text.trim_end()))?;
            }
            None => context.print_line("\nThe payload is no longer kept.")?,
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
pub(crate) fn payload(response: &[u8]) -> Result<Option<String>, ClientError> {
    #[derive(Deserialize)]
    struct Detail {
        #[serde(default)]
        payload: Option<Box<RawValue>>,
    }
    let detail: Detail = decode_json(response)?;
    Ok(detail.payload.map(|payload| payload.get().to_owned()))
}

/// Fields of a record besides its manifest entry and its payload.
#[derive(Deserialize)]
struct RecordExtras {
    #[serde(default)]
    lineage: Vec<BatchReport>,
    #[serde(default)]
    redacted: bool,
    /// Older daemons do not send it.
    #[serde(default)]
    waiting_for: Option<WaitingFor>,
    /// Older daemons do not send it either.
    #[serde(default)]
    receipt: ReceiptMembers,
}

/// What the server said the record became: `key value` on each line.
fn describe_receipt(receipt: ReceiptMembers) -> impl Iterator<Item = String> {
    let names = std::iter::once("Receipt").chain(std::iter::repeat(""));
    names.zip(receipt.0).map(|(name, member)| field_line(name, &member))
}

fn field_line(name: &str, value: &str) -> String {
    format!("{name:<13} {value}")
}

fn describe(entry: &ManifestEntry, now: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut field = |name: &str, value: String| lines.push(field_line(name, &value));
    field("Record", entry.id.to_string());
    field("State", state_word(entry.state).to_owned());
    field("Type", strip_controls(&entry.record_type).into_owned());
    if let Some(key) = &entry.key {
        field("Key", strip_controls(key).into_owned());
    }
    if let Some(blocker) = entry.blocked_by {
        field("Blocked by", blocker.to_string());
    }
    if entry.blocked_count > 0 {
        field("Blocks", format!("{} of its key", blocked_records(entry.blocked_count)));
    }
    field("Priority", entry.priority.to_string());
    field("Arrival", format!("no. {}", entry.seq));
    field("Payload", size(entry.payload_bytes));
    field("Attempts", describe_attempts(entry));
    field("Submitter", format!("uid {}", entry.submitter));
    field("Enqueued", timestamp(entry.created_at, now));
    let is_discarded = entry.state == RecordState::Discarded;
    field(if is_discarded { "Discarded" } else { "Last change" }, timestamp(entry.updated_at, now));
    if let Some(user) = &entry.discarded_by {
        field("Discarded by", strip_controls(user).into_owned());
    }
    if let Some(at) = entry.next_attempt_at {
        field("Next attempt", timestamp(at, now));
    }
    if let Some(batch) = entry.batch_id {
        field("Last batch", batch.to_string());
    }
    if let Some(error) = &entry.last_error {
        field("Last error", error_text(error));
        field("", timestamp(error.at, now));
    }
    lines
}

/// Attempts count only where the server may have had the record; people also want to know how often it was sent.
fn describe_attempts(entry: &ManifestEntry) -> String {
    let sends = entry.sends.max(entry.attempts);
    let times = if sends == 1 { "once".to_owned() } else { format!("{sends} times") };
    match (entry.attempts, sends) {
        (0, 0) => "0, not sent yet".to_owned(),
        (0, _) => format!("0; sent {times}, no response for this record"),
        (attempts, sends) if attempts == sends => attempts.to_string(),
        (attempts, _) => format!("{attempts}; sent {times}"),
    }
}

/// The attempts to send it, one on each line.
fn attempt_history(entry: &ManifestEntry, lineage: &[BatchReport], now: u64) -> Vec<String> {
    let listed = lineage.iter().filter(|send| is_attempt(send)).count() as u64;
    let earlier = u64::from(entry.attempts).saturating_sub(listed);
    let mut lines: Vec<String> =
        lineage.iter().map(|send| format!("  {}", attempt_line(send, now))).collect();
    let on_its_way = matches!(entry.state, RecordState::Pending | RecordState::Syncing | RecordState::Failed);
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

/// In the first line what happens next and why it waits, in the second what a person can do.
fn next_step(entry: &ManifestEntry, waiting: Option<&WaitingFor>, now: u64) -> Vec<String> {
    let first = match entry.state {
        RecordState::Pending => "Waits to be sent.".to_owned(),
        RecordState::Syncing => "On its way to the server in a batch.".to_owned(),
        RecordState::Synced => "Done: the server confirmed it. Only its receipt is kept here.".to_owned(),
        // The reason below says when it is sent again.
        RecordState::Failed if is_held(entry) => "The server held it back; it is safe here.".to_owned(),
        RecordState::Failed => match entry.next_attempt_at {
            Some(at) if at > now => {
                format!("Did not get through; it is safe here and will be sent again {}.", relative(at, now))
            }
            _ => "Did not get through; it is safe here and will be sent again.".to_owned(),
        },
        RecordState::Discarded => discarded_text(entry, now),
        RecordState::Quarantined => {
            let error = entry.last_error.as_ref();
            error.map_or(String::new(), |error| format!("Not sent: {}.", error_text(error)))
        }
    };
    let reason = waiting.map(|waiting| strip_controls(&waiting.text).into_owned()).unwrap_or_default();
    let mut lines = vec![format!("{first} {reason}").trim().to_owned()];
    if entry.state == RecordState::Quarantined {
        lines.push("To do: decide about it with one of these commands".to_owned());
        let id = entry.id;
        for (verb, does) in [
            ("edit", "correct it and send it again"),
            ("retry", "send it again as it is"),
            ("discard", "delete it permanently"),
        ] {
            lines.push(format!("  fieldsync quarantine {verb} {id}"));
            lines.push(format!("      {does}"));
        }
    } else {
        lines.extend(waiting.and_then(remedy).map(|remedy| format!("To do: {remedy}")));
    }
    lines
}

/// Who discarded the record and when.
fn discarded_text(entry: &ManifestEntry, now: u64) -> String {
    let user = entry.discarded_by.as_deref().map(strip_controls);
    let by = user.map_or_else(String::new, |user| format!(" by {user}"));
    let at = timestamp(entry.updated_at, now);
    format!("Discarded{by}: {at}. It is not sent any more, and its payload is deleted.")
}

/// The server did not apply it, because it did not apply an earlier one of its key.
fn is_held(entry: &ManifestEntry) -> bool {
    entry.last_error.as_ref().is_some_and(|error| error.code.as_deref() == Some("HELD"))
}

/// What the daemon says that a person can do.
fn remedy(waiting: &WaitingFor) -> Option<String> {
    let remedy = waiting.remedy.as_deref().map(|remedy| strip_controls(remedy).into_owned());
    // A daemon before 0.3 only names the record.
    remedy.or_else(|| waiting.held_by.map(|blocker| format!("fieldsync show {blocker}")))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rejected_entry, run_verb};
    use super::*;
    use crate::api::samples::sample_report;
    use crate::api::{OpenEnum, WaitingReason};
    use crate::client::scripted::{ScriptedDaemon, response_step};
    use crate::model::{BatchId, SizeRule};

    fn join_next_step(entry: &ManifestEntry, waiting: Option<&WaitingFor>) -> String {
        next_step(entry, waiting, 20_000).join("\n")
    }

    fn waiting(reason: WaitingReason, text: &str, remedy: Option<&str>) -> WaitingFor {
        let (text, remedy) = (text.to_owned(), remedy.map(str::to_owned));
        WaitingFor { reason: reason.into(), until: None, held_by: None, text, remedy }
    }

    #[test]
    fn the_next_step_has_its_reason_and_a_remedy() {
        let mut record = rejected_entry(1, RecordState::Failed);
        record.next_attempt_at = Some(52_000);
        let text = "The last attempt failed; the next one is at 00:00:52 UTC.";
        assert_eq!(
            join_next_step(
                &record,
                Some(&waiting(WaitingReason::Backoff, text, Some("fieldsync\u{1b} sync")))
            ),
            "Did not get through; it is safe here and will be sent again in 32 s. \
             The last attempt failed; the next one is at 00:00:52 UTC.\nTo do: fieldsync\u{fffd} sync"
        );
        record.state = RecordState::Pending;
        let text = join_next_step(&record, Some(&waiting(WaitingReason::Paused, "Paused.", None)));
        assert_eq!(text, "Waits to be sent. Paused.");
        record.state = RecordState::Quarantined;
        let review = waiting(WaitingReason::Review, "Needs review.", Some("fieldsync quarantine show ID"));
        let text = join_next_step(&record, Some(&review));
        let first = "Not sent: rejected (HTTP 422) BAD_DATE: no such day. Needs review.\nTo do: decide about it with one of these commands\n";
        assert!(text.starts_with(first), "{text}");
        assert!(text.contains(&format!("quarantine retry {}", record.id)), "{text}");
        let text = describe(&record, 20_000).join("\n");
        assert!(text.contains("rejected (HTTP 422) BAD_DATE: no such day"), "{text}");
        record.last_error.as_mut().unwrap().field = Some("/When\u{1b}".into());
        let text = describe(&record, 20_000).join("\n");
        assert!(text.contains("BAD_DATE at /When\u{fffd}: no such day"), "{text}");
    }

    #[test]
    fn missing_and_unknown_waiting_reasons_are_shown() {
        let record = rejected_entry(1, RecordState::Pending);
        assert_eq!(join_next_step(&record, None), "Waits to be sent.");
        let reason = OpenEnum::Unknown("moon_phase".into());
        let text = "Waiting for the full \u{202e}moon.";
        let full_moon = WaitingFor { reason, ..waiting(WaitingReason::NextBatch, text, None) };
        assert_eq!(
            join_next_step(&record, Some(&full_moon)),
            "Waits to be sent. Waiting for the full \u{fffd}moon."
        );
    }

    #[test]
    fn blocker_and_blocked_records_are_shown() {
        let blocker = rejected_entry(1, RecordState::Quarantined);
        let later = ManifestEntry { blocked_by: Some(blocker.id), ..rejected_entry(2, RecordState::Pending) };
        let behind =
            WaitingFor { held_by: Some(blocker.id), ..waiting(WaitingReason::Key, "Behind another.", None) };
        let text = join_next_step(&later, Some(&behind));
        assert!(text.ends_with(&format!("Behind another.\nTo do: fieldsync show {}", blocker.id)), "{text}");
        let text = describe(&later, 20_000).join("\n");
        assert!(text.contains(&format!("Blocked by    {}", blocker.id)), "{text}");
        let holds = ManifestEntry { blocked_count: 3, ..rejected_entry(1, RecordState::Quarantined) };
        let text = describe(&holds, 20_000).join("\n");
        assert!(text.contains("Blocks        3 records of its key"), "{text}");
    }

    #[test]
    fn the_sends_that_led_to_its_batch_are_listed_in_order() {
        let [fresh, part, next] = [(); 3].map(|()| BatchId::new());
        let sends = [
            BatchReport {
                id: fresh,
                note: "cut into 7 parts".into(),
                ..sample_report(SizeRule::Standard, None)
            },
            BatchReport { id: part, records: 1, ..sample_report(SizeRule::Split, Some(fresh)) },
        ];
        let record =
            ManifestEntry { batch_id: Some(next), attempts: 2, ..rejected_entry(1, RecordState::Failed) };
        let text = attempt_history(&record, &sends, 22_000);
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
        assert_eq!(attempt_history(&record, &sends, 22_000), text[..3]);
        let untold = ManifestEntry { attempts: 5, ..record };
        assert_eq!(attempt_history(&untold, &sends, 22_000)[1], "  3 earlier attempts are no longer listed.");
        assert_eq!(attempt_history(&untold, &[], 22_000)[1], "  5 earlier attempts are no longer listed.");
        assert_eq!(
            attempt_history(&ManifestEntry { attempts: 0, ..untold }, &[], 22_000),
            Vec::<String>::new()
        );
    }

    #[tokio::test]
    async fn redacted_fields_are_explained() {
        let mut record =
            ManifestEntry { key: None, submitter: 1001, ..rejected_entry(1, RecordState::Synced) };
        record.last_error = None;
        let mut body = serde_json::to_string(&record).unwrap();
        body.insert_str(body.len() - 1, r#","redacted":true"#);
        let daemon = ScriptedDaemon::new(vec![response_step(200, &body)]);
        let args = Args { id: record.id.into(), payload: false };
        let (_, text) = run_verb(&daemon, false, async |context| super::run(&args, context).await).await;
        assert!(text.contains("another user (uid 1001)") && text.contains("for admins"), "{text}");
    }

    #[tokio::test]
    async fn payloads_are_shown_as_they_were_written() {
        let record = rejected_entry(1, RecordState::Synced);
        let mut body = serde_json::to_string(&record).unwrap();
        body.insert_str(body.len() - 1, r#","payload":{"z": 1.50,"a": 123456789012345678901}"#);
        let daemon = ScriptedDaemon::new(vec![response_step(200, &body)]);
        let id = record.id;
        let args = Args { id: id.into(), payload: true };
        let (code, text) = run_verb(&daemon, false, async |context| super::run(&args, context).await).await;
        assert_eq!(code, Ok(0));
        assert!(text.ends_with("Payload:\n{\n  \"z\": 1.50,\n  \"a\": 123456789012345678901\n}\n"), "{text}");
        let asked = &daemon.into_calls()[0].head;
        assert!(asked.starts_with(&format!("GET /v1/records/{id}?lineage=true&payload=true ")), "{asked}");
    }
}
