//! What the command prints. Texts of devices are made safe to show.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};

use crate::admin::device_shapes::{DevicePage, DeviceSummary};
use crate::clock::rfc3339;
use crate::hidden::{escape_hidden, replace_hidden};

/// Of a time on a terminal: to the minute.
const TIME_CHARS: usize = "2026-03-01T08:15".len();
/// In place of a value that the device never reported.
const UNKNOWN: &str = "-";

pub(super) fn print_list(list: &DevicePage, is_overdue_only: bool, is_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if is_json {
        let text = serde_json::to_string(list)?;
        writeln!(out, "{}", escape_hidden(&text))?;
        return Ok(());
    }
    if list.devices.is_empty() {
        let text = if is_overdue_only { "No device is overdue." } else { "No device was in contact yet." };
        writeln!(out, "{text}")?;
        return Ok(());
    }
    let is_terminal = io::stdout().is_terminal();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "ID",
        "NAME",
        "LAST CONTACT",
        "STATE",
        "UNSENT",
        "OLDEST",
        "REVIEW",
        "VERSION",
        "ALERTS",
    ]);
    for device in &list.devices {
        table.add_row(describe_device(device, is_terminal));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim())?;
    }
    writeln!(out, "\n{}", describe_counts(list))?;
    if let Some(next) = &list.next {
        writeln!(out, "There are more: --after {}", replace_hidden(next))?;
    }
    Ok(())
}

fn describe_device(device: &DeviceSummary, is_terminal: bool) -> [String; 9] {
    let time = |ms: u64| {
        let time = rfc3339(ms);
        if is_terminal { time.chars().take(TIME_CHARS).collect() } else { time }
    };
    let text = |text: Option<&str>| replace_hidden(text.unwrap_or(UNKNOWN)).into_owned();
    let count = |count: Option<u64>| count.map_or_else(|| UNKNOWN.to_owned(), |count| count.to_string());
    [
        device.device_id.to_string(),
        text(device.name.as_deref()),
        time(device.last_contact_at),
        if device.overdue { "overdue" } else { "ok" }.to_owned(),
        count(device.unsent),
        device.oldest_unsent_at.map_or_else(|| UNKNOWN.to_owned(), time),
        count(device.under_review),
        text(device.version.as_deref()),
        if device.alerts.is_empty() { UNKNOWN.to_owned() } else { text(Some(&device.alerts.join(","))) },
    ]
}

/// `12 devices, 1 of them overdue.`
fn describe_counts(list: &DevicePage) -> String {
    let noun = if list.counts.known == 1 { "device" } else { "devices" };
    format!("{} {noun}, {} of them overdue.", list.counts.known, list.counts.overdue)
}
