//! Tables that fit the terminal, in the same layout for all commands.
//!
//! Ids and numbers are never cut, because they are copied and compared. If a row is too long, prose moves below it; then
//! names are cut; then the least important columns are omitted; and on an even narrower terminal everything but the first
//! cell moves below. So nothing is wider than the terminal, and no word is broken. Without a terminal, each row is one
//! complete line.

use console::{Color, Style, measure_text_width, truncate_str};

use super::context::CommandContext;
use super::failure::CommandFailure;
use super::format::{duration, strip_controls, wrap};
use super::state_words::{class_word, state_word};
use crate::model::{LastError, RecordState};

/// Spaces between columns.
const GAP_WIDTH: usize = 2;
/// Fewer characters of a name are not useful.
const NAME_WIDTH_MIN: usize = 6;
/// Indentation of lines below a row.
const INDENT: &str = "  ";
/// Lines are not wrapped at this character.
const NO_BREAK_SPACE: &str = "\u{a0}";

/// What happens to a column on a narrow terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnKind {
    Whole,
    Name,
    Extra,
    Prose,
}

/// A column by its header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    head: &'static str,
    kind: ColumnKind,
}

/// Never cut, never omitted.
pub(crate) const fn whole_column(head: &'static str) -> Column {
    Column { head, kind: ColumnKind::Whole }
}

/// Cut on a narrow terminal.
pub(crate) const fn name_column(head: &'static str) -> Column {
    Column { head, kind: ColumnKind::Name }
}

/// Omitted on a narrow terminal.
pub(crate) const fn extra_column(head: &'static str) -> Column {
    Column { head, kind: ColumnKind::Extra }
}

/// Text that needs no header: in the row or below it.
pub(crate) const fn prose_column(head: &'static str) -> Column {
    Column { head, kind: ColumnKind::Prose }
}

/// A text, optionally coloured.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    colour: Option<Color>,
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.to_string(), colour: None }
    }
}

#[derive(Debug)]
pub(crate) struct TextTable<'a> {
    columns: &'a [Column],
    rows: Vec<Vec<Cell>>,
    /// A line above the row with this number, on a terminal.
    heading: Option<(usize, &'static str)>,
    has_header: bool,
    prose_lines_max: usize,
}

impl<'a> TextTable<'a> {
    pub(crate) fn new(columns: &'a [Column]) -> Self {
        Self { columns, rows: Vec::new(), heading: None, has_header: true, prose_lines_max: usize::MAX }
    }

    /// For the continuation of a previous table.
    pub(crate) fn without_header(mut self) -> Self {
        self.has_header = false;
        self
    }

    /// The maximum number of lines of prose below a row.
    pub(crate) fn with_prose_lines_max(mut self, lines: usize) -> Self {
        self.prose_lines_max = lines;
        self
    }

    /// Separates the next rows from those above, on a terminal.
    pub(crate) fn set_heading(&mut self, heading: &'static str) {
        self.heading = Some((self.rows.len(), heading));
    }

    /// Adds a row, with a cell for each column.
    pub(crate) fn push_row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn print(&self, context: &mut CommandContext<'_>) -> Result<(), CommandFailure> {
        let (width, colour) = (context.width, context.has_colour);
        self.render(width, colour).into_iter().try_for_each(|line| context.print_line(line))
    }

    /// The lines for a terminal of this width, or without a terminal.
    fn render(&self, width: Option<usize>, colour: bool) -> Vec<String> {
        let layout = self.choose_layout(width);
        let mut lines = Vec::new();
        if self.has_header && layout.beside.len() > 1 {
            lines.push(layout.join_row(|column, width| pad_cell(self.columns[column].head, None, width)));
        }
        for (n, row) in self.rows.iter().enumerate() {
            if let Some((_, heading)) = self.heading.filter(|(at, _)| *at == n && width.is_some()) {
                lines.extend([String::new(), heading.to_owned()]);
            }
            let style = |cell: &Cell| cell.colour.filter(|_| colour);
            lines.push(
                layout.join_row(|column, width| pad_cell(&row[column].text, style(&row[column]), width)),
            );
            if let Some(width) = width {
                lines.extend(self.render_beneath(row, &layout.beneath, width));
            }
        }
        lines
    }

    fn render_beneath(&self, row: &[Cell], columns: &[usize], width: usize) -> Vec<String> {
        let texts_of_kind = |kind: fn(ColumnKind) -> bool| {
            columns
                .iter()
                .filter(move |column| kind(self.columns[**column].kind))
                .map(|column| (self.columns[*column].head.to_lowercase(), row[*column].text.as_str()))
                .filter(|(_, text)| !text.is_empty())
        };
        let fact = |(head, text): (String, &str)| {
            let fact = format!("{head} {text}");
            // Numbers are not separated from their names and units, unless the terminal is too narrow.
            let whole = measure_text_width(&fact) + INDENT.len() < width;
            if whole { fact.replace(' ', NO_BREAK_SPACE) } else { fact }
        };
        let facts: Vec<String> = texts_of_kind(|kind| kind != ColumnKind::Prose).map(fact).collect();
        let prose = texts_of_kind(|kind| kind == ColumnKind::Prose).map(|(_, text)| text.to_owned());
        let under = |texts: &[String], between: &str| match texts.join(between) {
            text if text.is_empty() => Vec::new(),
            text => wrap(&format!("{INDENT}{text}"), width, INDENT.len()),
        };
        let mut lines = under(&prose.collect::<Vec<_>>(), "; ");
        if lines.len() > self.prose_lines_max {
            lines.truncate(self.prose_lines_max);
            if let Some(last) = lines.last_mut() {
                *last = truncate_str(&format!("{last} …"), width, "…").into_owned();
            }
        }
        lines.splice(..0, under(&facts, ", "));
        lines.into_iter().map(|line| line.replace(NO_BREAK_SPACE, " ")).collect()
    }

    fn choose_layout(&self, width: Option<usize>) -> Layout {
        let natural = |column: usize| {
            let cells = self.rows.iter().map(|row| measure_text_width(&row[column].text));
            let head = if self.has_header { self.columns[column].head.len() } else { 0 };
            cells.max().unwrap_or_default().max(head)
        };
        let is_blank = |column: usize| self.rows.iter().all(|row| row[column].text.is_empty());
        let all = || 0..self.columns.len();
        let Some(width) = width else {
            return Layout::all_beside(all().map(|column| (column, natural(column))).collect());
        };
        let kind = |column: usize| self.columns[column].kind;
        let widths = |without: &[ColumnKind]| -> Vec<(usize, usize)> {
            all()
                .filter(|column| !without.contains(&kind(*column)))
                .filter(|column| kind(*column) != ColumnKind::Prose || !is_blank(*column))
                .map(|column| (column, natural(column)))
                .collect()
        };
        let is_prose = |column: &usize| kind(*column) == ColumnKind::Prose;
        for without in [&[][..], &[ColumnKind::Prose], &[ColumnKind::Prose, ColumnKind::Extra]] {
            let mut beside = widths(without);
            let beneath: Vec<usize> =
                all().filter(|column| is_prose(column) && !without.is_empty()).collect();
            // Names are not cut as long as prose is in the row.
            if !without.is_empty() {
                cut_names(&mut beside, width, |column| kind(column) == ColumnKind::Name);
            }
            if total_width(&beside) <= width {
                return Layout { beside, beneath };
            }
        }
        Layout { beside: vec![(0, natural(0).min(width))], beneath: all().skip(1).collect() }
    }
}

/// The columns in the row, each with its width, and those below it.
#[derive(Debug)]
struct Layout {
    beside: Vec<(usize, usize)>,
    beneath: Vec<usize>,
}

impl Layout {
    fn all_beside(beside: Vec<(usize, usize)>) -> Self {
        Self { beside, beneath: Vec::new() }
    }

    fn join_row(&self, cell: impl Fn(usize, usize) -> String) -> String {
        let cells: Vec<String> = self.beside.iter().map(|(column, width)| cell(*column, *width)).collect();
        cells.join(&" ".repeat(GAP_WIDTH)).trim_end().to_owned()
    }
}

/// Cuts or pads a text to a width.
fn pad_cell(text: &str, colour: Option<Color>, width: usize) -> String {
    let text = truncate_str(text, width, "…");
    let padding = " ".repeat(width.saturating_sub(measure_text_width(&text)));
    match colour {
        Some(colour) => format!("{}{padding}", Style::new().fg(colour).force_styling(true).apply_to(text)),
        None => format!("{text}{padding}"),
    }
}

fn total_width(columns: &[(usize, usize)]) -> usize {
    columns.iter().map(|(_, width)| width + GAP_WIDTH).sum::<usize>().saturating_sub(GAP_WIDTH)
}

/// Shortens the widest names first, until the row fits or no name can be shorter.
fn cut_names(columns: &mut [(usize, usize)], width: usize, may_be_cut: impl Fn(usize) -> bool) {
    for _ in width..total_width(columns) {
        let names =
            columns.iter_mut().filter(|(column, width)| may_be_cut(*column) && *width > NAME_WIDTH_MIN);
        let Some((_, widest)) = names.max_by_key(|(_, width)| *width) else {
            return;
        };
        *widest -= 1;
    }
}

/// A state in its colour.
pub(crate) fn state_cell(state: RecordState) -> Cell {
    let colour = match state {
        RecordState::Synced => Some(Color::Green),
        RecordState::Failed => Some(Color::Yellow),
        RecordState::Quarantined => Some(Color::Red),
        RecordState::Pending | RecordState::Syncing | RecordState::Discarded => None,
    };
    Cell { text: state_word(state).to_owned(), colour }
}

/// `timeout (HTTP 504): no answer in time`, or `rejected (HTTP 200) INVALID_DATA at /Amount: it must be a number`
pub(crate) fn error_text(error: &LastError) -> String {
    let status = error.http_status.map_or_else(String::new, |status| format!(" (HTTP {status})"));
    let code = error.code.as_ref().map_or_else(String::new, |code| format!(" {}", strip_controls(code)));
    let field =
        error.field.as_ref().map_or_else(String::new, |field| format!(" at {}", strip_controls(field)));
    let message = match strip_controls(&error.message) {
        message if message.is_empty() => String::new(),
        message => format!(": {message}"),
    };
    format!("{}{status}{code}{field}{message}", class_word(&error.class))
}

/// The age of a record, short enough for a column.
pub(crate) fn short_age(at: u64, now: u64) -> String {
    let age = duration(now.saturating_sub(at));
    // The larger unit alone: `3 min` of `3 min 12 s`.
    age.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 5] = [
        whole_column("ID"),
        name_column("TYPE"),
        extra_column("SIZE"),
        whole_column("TRIES"),
        prose_column("LAST ERROR"),
    ];
    const ID: &str = "01a2162c-6412";

    fn sample_table() -> TextTable<'static> {
        let mut table = TextTable::new(&COLUMNS);
        table.push_row([ID, "Visits", "24 B", "1", ""].map(Cell::from));
        table.push_row([ID, "PriceSurveyOfTheYear", "1 KiB", "5", "failed alone 2 times"].map(Cell::from));
        table
    }

    fn render_at(width: Option<usize>) -> Vec<String> {
        sample_table().render(width, false)
    }

    #[test]
    fn with_enough_width_a_row_is_one_line() {
        let lines = [
            "ID             TYPE                  SIZE   TRIES  LAST ERROR",
            "01a2162c-6412  Visits                24 B   1",
            "01a2162c-6412  PriceSurveyOfTheYear  1 KiB  5      failed alone 2 times",
        ];
        assert_eq!(render_at(None), lines);
        assert_eq!(render_at(Some(71)), lines);
    }

    #[test]
    fn a_heading_separates_rows_that_line_up_on_a_terminal_only() {
        let mut table = sample_table();
        table.set_heading("Last:");
        table.push_row(["1", "V", "2 B", "1", ""].map(Cell::from));
        let lines = table.render(Some(80), false);
        assert_eq!(lines[3..], ["", "Last:", "1              V                     2 B    1"]);
        assert_eq!(table.render(None, false).len(), 4, "a pipe gets one line for each row");
    }

    #[test]
    fn prose_moves_below_then_names_are_cut_then_extra_columns_are_omitted() {
        assert_eq!(
            render_at(Some(50)),
            [
                "ID             TYPE                  SIZE   TRIES",
                "01a2162c-6412  Visits                24 B   1",
                "01a2162c-6412  PriceSurveyOfTheYear  1 KiB  5",
                "  failed alone 2 times",
            ]
        );
        assert_eq!(render_at(Some(37))[2..], ["01a2162c-6412  PriceSu…  1 KiB  5", "  failed alone 2 times"]);
        assert_eq!(render_at(Some(28))[..2], ["ID             TYPE    TRIES", "01a2162c-6412  Visits  1"]);
    }

    #[test]
    fn if_nothing_fits_all_but_the_first_cell_moves_below() {
        assert_eq!(
            render_at(Some(24)),
            [
                "01a2162c-6412",
                "  type Visits,",
                "  size 24 B, tries 1",
                "01a2162c-6412",
                "  type",
                "  PriceSurveyOfTheYear,",
                "  size 1 KiB, tries 5",
                "  failed alone 2 times",
            ]
        );
    }

    #[test]
    fn nothing_is_wider_than_the_terminal() {
        for width in 13..100 {
            for line in render_at(Some(width)) {
                assert!(measure_text_width(&line) <= width, "{width}: {line}");
            }
        }
        let mut short = sample_table();
        short.rows[1][4] = "word ".repeat(40).into();
        let lines = short.with_prose_lines_max(2).render(Some(50), false);
        assert_eq!(lines.len(), 5);
        assert!(lines[4].ends_with('…') && lines[4].chars().count() <= 50, "{}", lines[4]);
    }

    #[test]
    fn colours_do_not_move_columns() {
        let columns = [whole_column("STATE"), whole_column("N")];
        let mut table = TextTable::new(&columns);
        table.push_row([state_cell(RecordState::Failed), 1.into()]);
        assert_eq!(table.render(None, true)[1], "\u{1b}[33mfailed\u{1b}[0m  1");
    }
}
