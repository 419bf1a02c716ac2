//! Tables that fit the terminal, in one look for all verbs.

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};

use super::context::Context;
use super::failure::Failure;
use super::words::{plain, span};
use crate::model::{LastError, RecordState};

/// An empty table with this header.
pub(crate) fn table(context: &Context<'_>, header: &[&str]) -> Table {
    let mut table = Table::new();
    style(&mut table);
    if !header.is_empty() {
        table.set_header(header);
    }
    if !context.terminal {
        // Whatever reads this wants one line a row, however long.
        table.force_no_tty();
    }
    table
}

pub(crate) fn style(table: &mut Table) -> &mut Table {
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic)
}

/// Keeps columns whole: ids are there to be copied, and numbers to be compared.
pub(crate) fn unbroken(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
}

pub(crate) fn print(context: &mut Context<'_>, mut table: Table) -> Result<(), Failure> {
    pad(&mut table);
    context.line(table.trim_fmt())
}

/// Two spaces between columns, none before the first.
pub(crate) fn pad(table: &mut Table) {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
}

/// A state in its colour.
pub(crate) fn state(context: &Context<'_>, state: RecordState) -> Cell {
    let cell = Cell::new(state.name());
    let colour = match state {
        RecordState::Synced => Color::Green,
        RecordState::Failed => Color::Yellow,
        RecordState::Quarantined => Color::Red,
        RecordState::Pending | RecordState::Syncing => return cell,
    };
    if context.colour { cell.fg(colour) } else { cell }
}

/// `timeout (HTTP 504): no answer in time`
pub(crate) fn error_text(error: &LastError) -> String {
    let status = error.http_status.map_or_else(String::new, |status| format!(" (HTTP {status})"));
    let code = error.code.as_ref().map_or_else(String::new, |code| format!(" {}", plain(code)));
    let message = match plain(&error.message) {
        message if message.is_empty() => String::new(),
        message => format!(": {message}"),
    };
    format!("{}{status}{code}{message}", plain(&error.class))
}

/// How long ago, short enough for a column.
pub(crate) fn age(at: u64, now: u64) -> String {
    span(now.saturating_sub(at))
}
