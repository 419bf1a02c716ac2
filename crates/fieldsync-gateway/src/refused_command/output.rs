//! What the commands print. Texts of records and of the receiver are made safe to show.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::CommandError;
use crate::admin::shapes::{RefusedPage, RefusedSummary};
use crate::admin_client::decode;
use crate::clock::rfc3339;
use crate::hidden::{escape_hidden, replace_hidden};
use crate::model::RecordId;

/// Of a time on a terminal: to the minute.
const TIME_CHARS: usize = "2026-03-01T08:15".len();

pub(super) fn print_list(
    records: Vec<RefusedSummary>,
    next: Option<RecordId>,
    is_json: bool,
) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    if is_json {
        let text = serde_json::to_string(&RefusedPage { records, next }).map_err(io::Error::from)?;
        writeln!(out, "{}", escape_hidden(&text))?;
        return Ok(());
    }
    if records.is_empty() {
        writeln!(out, "No record needs review.")?;
        return Ok(());
    }
    // Ids are copied, so that no column is cut. On a terminal, reasons are below their records.
    let is_terminal = io::stdout().is_terminal();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let mut header = vec!["ID", "TYPE", "KEY", "REFUSED", "TRIES"];
    header.extend((!is_terminal).then_some("REASON"));
    table.set_header(header);
    for record in &records {
        let time = rfc3339(record.refused_at);
        let time = if is_terminal { time.chars().take(TIME_CHARS).collect() } else { time };
        let mut row = vec![
            record.id.to_string(),
            replace_hidden(&record.record_type).into_owned(),
            replace_hidden(record.key.as_deref().unwrap_or_default()).into_owned(),
            time,
            record.attempts.to_string(),
        ];
        row.extend((!is_terminal).then(|| describe_reason(record)));
        table.add_row(row);
    }
    let mut lines = table.lines();
    if let Some(header) = lines.next() {
        writeln!(out, "{}", header.trim())?;
    }
    for (line, record) in lines.zip(&records) {
        writeln!(out, "{}", line.trim())?;
        if is_terminal {
            writeln!(out, "  {}", describe_reason(record))?;
        }
    }
    if let Some(next) = next {
        writeln!(out, "\nThere are more: --after {next}")?;
    }
    Ok(())
}

pub(super) fn print_record(body: &[u8], is_json: bool) -> Result<(), CommandError> {
    #[derive(Deserialize)]
    struct PayloadOnly {
        payload: Box<RawValue>,
    }
    let record: RefusedSummary = decode(body)?;
    let PayloadOnly { payload } = decode(body)?;
    let mut out = io::stdout().lock();
    if is_json {
        writeln!(out, "{}", escape_hidden(&String::from_utf8_lossy(body)))?;
        return Ok(());
    }
    for (name, value) in [
        ("Id", record.id.to_string()),
        ("Type", record.record_type.clone()),
        ("Key", record.key.clone().unwrap_or_default()),
        ("Device", record.device_id.to_string()),
        ("Applied", rfc3339(record.applied_at)),
        ("Refused", rfc3339(record.refused_at)),
        ("Tries", record.attempts.to_string()),
        ("Reason", describe_reason(&record)),
    ] {
        if !value.is_empty() {
            writeln!(out, "{name:<9} {}", replace_hidden(&value))?;
        }
    }
    writeln!(out, "\nPayload:\n{}", escape_hidden(payload.get()))?;
    Ok(())
}

/// `1 record is sent again`
pub(super) fn print_changed(changed: u64, participle: &str) -> Result<(), CommandError> {
    let noun = if changed == 1 { "record" } else { "records" };
    writeln!(io::stdout(), "{changed} {noun} {participle}.")?;
    Ok(())
}

/// `INVALID_DATA at /Amount: it must be a number`
fn describe_reason(record: &RefusedSummary) -> String {
    let code = record.code.as_deref().unwrap_or("refused");
    let field = record.field.as_ref().map_or_else(String::new, |field| format!(" at {field}"));
    let message = record.message.as_ref().map_or_else(String::new, |message| format!(": {message}"));
    replace_hidden(&format!("{code}{field}{message}")).into_owned()
}
