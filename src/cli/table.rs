//! Tables that fit the terminal, in one look for all verbs.
//!
//! Ids and numbers are never cut: they are there to be copied and compared. Where a row is too long,
//! prose goes beneath it; then names are cut; then what matters least is left out; and where the
//! terminal is narrower than that, everything but the first cell goes beneath. So nothing is wider
//! than the terminal, and no word is broken. Whatever is no terminal gets one line a row, whole.

use console::{Color, Style, measure_text_width, truncate_str};

use super::context::Context;
use super::failure::Failure;
use super::words::{fold, plain, span};
use crate::model::{LastError, RecordState};

/// Spaces between columns.
const GAP: usize = 2;
/// Fewer characters of a name tell nothing.
const SHORTEST_NAME: usize = 6;
/// What stands beneath a row stands back by that.
const INDENT: &str = "  ";
/// Where no line is folded.
const UNBROKEN_SPACE: &str = "\u{a0}";

/// What becomes of a column where there is little room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Name,
    Extra,
    Prose,
}

/// A column by its header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    head: &'static str,
    kind: Kind,
}

/// Never cut, never left out.
pub(crate) const fn whole(head: &'static str) -> Column {
    Column { head, kind: Kind::Whole }
}

/// Cut where there is little room.
pub(crate) const fn name(head: &'static str) -> Column {
    Column { head, kind: Kind::Name }
}

/// Left out where there is little room.
pub(crate) const fn extra(head: &'static str) -> Column {
    Column { head, kind: Kind::Extra }
}

/// Text that speaks for itself: beside the row or beneath it.
pub(crate) const fn prose(head: &'static str) -> Column {
    Column { head, kind: Kind::Prose }
}

/// A text, perhaps in a colour.
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
pub(crate) struct Table<'a> {
    columns: &'a [Column],
    rows: Vec<Vec<Cell>>,
    has_header: bool,
    most_prose: usize,
}

impl<'a> Table<'a> {
    pub(crate) fn new(columns: &'a [Column]) -> Self {
        Self { columns, rows: Vec::new(), has_header: true, most_prose: usize::MAX }
    }

    /// For what goes on from a table before.
    pub(crate) fn without_header(mut self) -> Self {
        self.has_header = false;
        self
    }

    /// At most so many lines of prose beneath a row.
    pub(crate) fn with_prose(mut self, lines: usize) -> Self {
        self.most_prose = lines;
        self
    }

    /// A cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn print(&self, context: &mut Context<'_>) -> Result<(), Failure> {
        let (width, colour) = (context.width, context.colour);
        self.lines(width, colour).into_iter().try_for_each(|line| context.line(line))
    }

    /// The lines for a terminal of that width, or for none.
    fn lines(&self, width: Option<usize>, colour: bool) -> Vec<String> {
        let layout = self.layout(width);
        let mut lines = Vec::new();
        if self.has_header && layout.beside.len() > 1 {
            lines.push(layout.line(|column, width| pad(self.columns[column].head, None, width)));
        }
        for row in &self.rows {
            let style = |cell: &Cell| cell.colour.filter(|_| colour);
            lines.push(layout.line(|column, width| pad(&row[column].text, style(&row[column]), width)));
            if let Some(width) = width {
                lines.extend(self.beneath(row, &layout.beneath, width));
            }
        }
        lines
    }

    fn beneath(&self, row: &[Cell], columns: &[usize], width: usize) -> Vec<String> {
        let said = |kind: fn(Kind) -> bool| {
            columns
                .iter()
                .filter(move |column| kind(self.columns[**column].kind))
                .map(|column| (self.columns[*column].head.to_lowercase(), row[*column].text.as_str()))
                .filter(|(_, text)| !text.is_empty())
        };
        let fact = |(head, text): (String, &str)| {
            let fact = format!("{head} {text}");
            // Numbers stay beside their names and units, unless the terminal is narrower than that.
            let whole = measure_text_width(&fact) + INDENT.len() < width;
            if whole { fact.replace(' ', UNBROKEN_SPACE) } else { fact }
        };
        let facts: Vec<String> = said(|kind| kind != Kind::Prose).map(fact).collect();
        let prose = said(|kind| kind == Kind::Prose).map(|(_, text)| text.to_owned());
        let under = |texts: &[String], between: &str| match texts.join(between) {
            text if text.is_empty() => Vec::new(),
            text => fold(&format!("{INDENT}{text}"), width, INDENT.len()),
        };
        let mut lines = under(&prose.collect::<Vec<_>>(), "; ");
        if lines.len() > self.most_prose {
            lines.truncate(self.most_prose);
            if let Some(last) = lines.last_mut() {
                *last = truncate_str(&format!("{last} …"), width, "…").into_owned();
            }
        }
        lines.splice(..0, under(&facts, ", "));
        lines.into_iter().map(|line| line.replace(UNBROKEN_SPACE, " ")).collect()
    }

    fn layout(&self, width: Option<usize>) -> Layout {
        let natural = |column: usize| {
            let cells = self.rows.iter().map(|row| measure_text_width(&row[column].text));
            let head = if self.has_header { self.columns[column].head.len() } else { 0 };
            cells.max().unwrap_or_default().max(head)
        };
        let is_blank = |column: usize| self.rows.iter().all(|row| row[column].text.is_empty());
        let all = || 0..self.columns.len();
        let Some(width) = width else {
            return Layout::beside(all().map(|column| (column, natural(column))).collect());
        };
        let kind = |column: usize| self.columns[column].kind;
        let widths = |without: &[Kind]| -> Vec<(usize, usize)> {
            all()
                .filter(|column| !without.contains(&kind(*column)))
                .filter(|column| kind(*column) != Kind::Prose || !is_blank(*column))
                .map(|column| (column, natural(column)))
                .collect()
        };
        let is_prose = |column: &usize| kind(*column) == Kind::Prose;
        for without in [&[][..], &[Kind::Prose], &[Kind::Prose, Kind::Extra]] {
            let mut beside = widths(without);
            let beneath: Vec<usize> =
                all().filter(|column| is_prose(column) && !without.is_empty()).collect();
            // While prose stands beside, nothing is cut for it.
            if !without.is_empty() {
                cut(&mut beside, width, |column| kind(column) == Kind::Name);
            }
            if total(&beside) <= width {
                return Layout { beside, beneath };
            }
        }
        Layout { beside: vec![(0, natural(0).min(width))], beneath: all().skip(1).collect() }
    }
}

/// Which columns stand in the row, each with its width, and which beneath it.
#[derive(Debug)]
struct Layout {
    beside: Vec<(usize, usize)>,
    beneath: Vec<usize>,
}

impl Layout {
    fn beside(beside: Vec<(usize, usize)>) -> Self {
        Self { beside, beneath: Vec::new() }
    }

    fn line(&self, cell: impl Fn(usize, usize) -> String) -> String {
        let cells: Vec<String> = self.beside.iter().map(|(column, width)| cell(*column, *width)).collect();
        cells.join(&" ".repeat(GAP)).trim_end().to_owned()
    }
}

/// A text, brought to a width.
fn pad(text: &str, colour: Option<Color>, width: usize) -> String {
    let text = truncate_str(text, width, "…");
    let padding = " ".repeat(width.saturating_sub(measure_text_width(&text)));
    match colour {
        Some(colour) => format!("{}{padding}", Style::new().fg(colour).force_styling(true).apply_to(text)),
        None => format!("{text}{padding}"),
    }
}

fn total(columns: &[(usize, usize)]) -> usize {
    columns.iter().map(|(_, width)| width + GAP).sum::<usize>().saturating_sub(GAP)
}

/// Takes from the widest first, as far as that helps.
fn cut(columns: &mut [(usize, usize)], width: usize, may_be_cut: impl Fn(usize) -> bool) {
    for _ in width..total(columns) {
        let names =
            columns.iter_mut().filter(|(column, width)| may_be_cut(*column) && *width > SHORTEST_NAME);
        let Some((_, widest)) = names.max_by_key(|(_, width)| *width) else {
            return;
        };
        *widest -= 1;
    }
}

/// A state in its colour.
pub(crate) fn state(state: RecordState) -> Cell {
    let colour = match state {
        RecordState::Synced => Some(Color::Green),
        RecordState::Failed => Some(Color::Yellow),
        RecordState::Quarantined => Some(Color::Red),
        RecordState::Pending | RecordState::Syncing => None,
    };
    Cell { text: state.name().to_owned(), colour }
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
    let age = span(now.saturating_sub(at));
    // The larger unit alone: `3 min` of `3 min 12 s`.
    age.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 5] =
        [whole("ID"), name("TYPE"), extra("SIZE"), whole("TRIES"), prose("LAST ERROR")];
    const ID: &str = "01a2162c-6412";

    fn table() -> Table<'static> {
        let mut table = Table::new(&COLUMNS);
        table.row([ID, "Visits", "24 B", "1", ""].map(Cell::from));
        table.row([ID, "PriceSurveyOfTheYear", "1 KiB", "5", "failed alone 2 times"].map(Cell::from));
        table
    }

    fn at(width: Option<usize>) -> Vec<String> {
        table().lines(width, false)
    }

    #[test]
    fn with_room_a_row_is_a_line() {
        let lines = [
            "ID             TYPE                  SIZE   TRIES  LAST ERROR",
            "01a2162c-6412  Visits                24 B   1",
            "01a2162c-6412  PriceSurveyOfTheYear  1 KiB  5      failed alone 2 times",
        ];
        assert_eq!(at(None), lines);
        assert_eq!(at(Some(71)), lines);
    }

    #[test]
    fn prose_goes_beneath_then_names_are_cut_then_what_matters_least_is_left_out() {
        assert_eq!(
            at(Some(50)),
            [
                "ID             TYPE                  SIZE   TRIES",
                "01a2162c-6412  Visits                24 B   1",
                "01a2162c-6412  PriceSurveyOfTheYear  1 KiB  5",
                "  failed alone 2 times",
            ]
        );
        assert_eq!(at(Some(37))[2..], ["01a2162c-6412  PriceSu…  1 KiB  5", "  failed alone 2 times"]);
        assert_eq!(at(Some(28))[..2], ["ID             TYPE    TRIES", "01a2162c-6412  Visits  1"]);
    }

    #[test]
    fn where_nothing_fits_all_but_the_first_cell_goes_beneath() {
        assert_eq!(
            at(Some(24)),
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
            for line in at(Some(width)) {
                assert!(measure_text_width(&line) <= width, "{width}: {line}");
            }
        }
        let mut short = table();
        short.rows[1][4] = "word ".repeat(40).into();
        let lines = short.with_prose(2).lines(Some(50), false);
        assert_eq!(lines.len(), 5);
        assert!(lines[4].ends_with('…') && lines[4].chars().count() <= 50, "{}", lines[4]);
    }

    #[test]
    fn colours_do_not_move_columns() {
        let columns = [whole("STATE"), whole("N")];
        let mut table = Table::new(&columns);
        table.row([state(RecordState::Failed), 1.into()]);
        assert_eq!(table.lines(None, true)[1], "\u{1b}[33mFAILED\u{1b}[0m  1");
    }
}
