//! `fieldsync batches ID`: one batch, why it had its size, how it was sent, and what became of its records.

use super::batches::{attempt_line, print_sends};
use super::context::CommandContext;
use super::failure::CommandFailure;
use super::format::{count, size, strip_controls};
use super::list::show_id;
use super::record_ids::IdPart;
use super::table::{
    Cell, Column, TextTable, error_text, name_column, prose_column, state_cell, whole_column,
};
use crate::api::{BatchDetail, BatchReport};
use crate::client::decode_json;
use crate::clock::wall_ms;
use crate::exit;
use crate::model::RecordState;

const COLUMNS: [Column; 5] = [
    whole_column("ID"),
    whole_column("STATE"),
    name_column("TYPE"),
    name_column("KEY"),
    prose_column("LAST ERROR"),
];

pub(crate) async fn run(
    id: &IdPart,
    no_trunc: bool,
    context: &mut CommandContext<'_>,
) -> Result<u8, CommandFailure> {
    let response = context.client.get(&format!("/v1/batches/{id}")).await?;
    if context.json {
        context.print_json(&response)?;
        return Ok(exit::DONE);
    }
    let batch: BatchDetail = decode_json(&response)?;
    let now = wall_ms();
    describe_batch(&batch).into_iter().try_for_each(|line| context.print_wrapped(line))?;
    if !batch.lineage.is_empty() {
        context.print_line("\nHow it was sent:")?;
        let lines = batch.lineage.iter().map(|send| format!("  {}", attempt_line(send, now)));
        lines.collect::<Vec<_>>().iter().try_for_each(|line| context.print_wrapped(line))?;
    }
    let is_short = context.is_terminal && !no_trunc;
    if !batch.parts.is_empty() {
        context.print_line("\nWhat it was split into:")?;
        print_sends(context, &batch.parts, is_short, now)?;
    }
    print_records(context, &batch, is_short)?;
    Ok(exit::DONE)
}

fn describe_batch(batch: &BatchDetail) -> Vec<String> {
    let field = |name: &str, value: &str| format!("{name:<13} {value}");
    let mut lines = vec![field("Batch", &batch.id.to_string())];
    if let Some(last) = own_sends(batch).next_back() {
        let records = format!("{}, {}", count(last.records as u64, "record"), size(last.bytes));
        lines.push(field("Records", &records));
        lines.push(field("Size", &strip_controls(&last.describe_size())));
        lines.push(field("Under way", &strip_controls(&last.describe_in_flight())));
        if let Some(parent) = last.parent {
            lines.push(field("Comes from", &parent.to_string()));
        }
    }
    let is_in_flight = batch.records.iter().any(|record| record.state == RecordState::Syncing);
    let outcome = match own_sends(batch).next_back() {
        _ if is_in_flight => "being sent now".to_owned(),
        None => "not sent yet".to_owned(),
        Some(last) => {
            format!("{} of {} synced; {}", last.synced, last.records, strip_controls(last.describe_result()))
        }
    };
    lines.push(field("Outcome", outcome.trim_end_matches("; ")));
    lines
}

fn own_sends(batch: &BatchDetail) -> impl DoubleEndedIterator<Item = &BatchReport> {
    batch.lineage.iter().filter(|send| send.id == batch.id)
}

fn print_records(
    context: &mut CommandContext<'_>,
    batch: &BatchDetail,
    is_short: bool,
) -> Result<(), CommandFailure> {
    let sent = own_sends(batch).map(|send| send.records).max().unwrap_or_default();
    let elsewhere = sent.saturating_sub(batch.records.len()) as u64;
    context.print_line("\nIts records:")?;
    let mut table = TextTable::new(&COLUMNS);
    for record in &batch.records {
        table.push_row([
            Cell::from(show_id(record.id, is_short)),
            state_cell(record.state),
            strip_controls(&record.record_type).into(),
            strip_controls(record.key.as_deref().unwrap_or("")).into(),
            record.last_error.as_ref().map(error_text).unwrap_or_default().into(),
        ]);
    }
    if !table.is_empty() {
        table.print(context)?;
    }
    if elsewhere > 0 {
        context.print_wrapped(format!(
            "{} of this batch {} not listed: sent again in a later batch, or no longer kept.",
            count(elsewhere, "record"),
            if elsewhere == 1 { "is" } else { "are" }
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rejected_entry, run_verb};
    use super::*;
    use crate::api::samples::{sample_parent, sample_report};
    use crate::client::scripted::{ScriptedDaemon, response_step};
    use crate::model::SizeRule;

    #[tokio::test]
    async fn a_batch_is_shown_with_its_records_and_the_reason_for_its_size() {
        let send = sample_report(SizeRule::Split, Some(sample_parent()));
        let batch = BatchDetail {
            id: send.id,
            lineage: vec![send.clone()],
            parts: Vec::new(),
            records: vec![rejected_entry(1, RecordState::Quarantined)],
        };
        let daemon = ScriptedDaemon::new(vec![response_step(200, &serde_json::to_string(&batch).unwrap())]);
        let id: IdPart = "3f2a91bc".parse().unwrap();
        let (code, text) =
            run_verb(&daemon, false, async |context| super::run(&id, false, context).await).await;
        assert_eq!(code, Ok(0));
        for part in [
            &format!("Batch         {}\n", send.id),
            "Records       25 records, ",
            "Size          split of 3f2a91bc\n",
            "Under way     2 batches at once (measured)\n",
            "How it was sent:\n",
            "  needs review  Visits  Acme  rejected (HTTP 422) BAD_DATE: no such day\n",
            "24 records of this batch are not listed",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let asked = &daemon.into_calls()[0].head;
        assert!(asked.starts_with("GET /v1/batches/3f2a91bc HTTP/1.1"), "{asked}");
    }
}
