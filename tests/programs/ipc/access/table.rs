//! The table of `docs/access.md`: rows, columns, cells.

use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../../../docs/access.md");
const HEAD: &str = "| call or field |";
/// The possible values of a cell.
const VOCABULARY: [&str; 5] = ["yes", "own", "all", "redacted", "no"];

/// A call or a field, and what each audience gets.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) cells: Vec<String>,
}

impl Row {
    /// Method and path, without the query; none for a field.
    pub(super) fn call(&self) -> Option<(String, String)> {
        let mut words = self.name.split(' ');
        let method = words.next()?;
        let path = words.next()?.split('?').next()?;
        ["GET", "POST", "PUT"].contains(&method).then(|| (method.to_owned(), path.to_owned()))
    }
}

/// The names of the columns, and the rows.
pub(super) fn read() -> (Vec<String>, Vec<Row>) {
    let mut lines = DOCUMENT.lines().skip_while(|line| !line.starts_with(HEAD));
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    let columns = cells(lines.next().expect("the head of the table")).split_off(1);
    let rows = lines.skip(1).take_while(|line| line.starts_with('|')).map(|line| {
        let mut cells = cells(line);
        let name = cells.remove(0);
        assert_eq!(cells.len(), columns.len(), "{name}");
        for cell in &cells {
            assert!(VOCABULARY.contains(&cell.as_str()), "{name}: `{cell}` is not in the vocabulary");
        }
        Row { name, cells }
    });
    let rows: Vec<Row> = rows.collect();
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names.len(), rows.len(), "no row twice");
    (columns, rows)
}
