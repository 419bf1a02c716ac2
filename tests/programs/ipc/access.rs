//! Who may do and see what: every cell of the table in `docs/access.md`, tried on a device that users share.

mod probes;
mod scene;
mod table;

use std::collections::BTreeSet;

use crate::support::daemon::Daemon;
use crate::support::document::Document;
use crate::support::settings::Settings;
use crate::support::user::can_be_others;
use probes::Probe;
use scene::{Caller, Scene};

type Calls = BTreeSet<(String, String)>;

fn calls_of_socket(daemon: &Daemon) -> Calls {
    Document::of(daemon).operations().into_iter().map(|(path, method, _)| (method, path)).collect()
}

/// The calls in the source, as literals or constants.
fn calls_of_page() -> Calls {
    let source = include_str!("../../../src/ipc/web/routes.rs");
    let routes = source.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split_once(") =>"));
    let routes = routes.map(|(route, _)| {
        let (method, path) = route.split_once("\", ").unwrap();
        let constant = source.split_once(&format!("const {path}: &str = "));
        let path = constant.map_or(path, |(_, text)| text.split_once(';').unwrap().0).trim_matches('"');
        (method.to_owned(), path.to_owned())
    });
    routes.collect()
}

#[test]
fn every_call_of_the_socket_and_of_the_page_is_in_the_table_and_no_other() {
    let daemon = Daemon::start(&Settings::default());
    let (_, rows) = table::read();
    let in_table: Calls = rows.iter().filter_map(table::Row::call).collect();
    let served: Calls = calls_of_socket(&daemon).union(&calls_of_page()).cloned().collect();
    assert_eq!(in_table, served);
}

#[test]
fn every_cell_of_the_table_matches_the_daemon() {
    if !can_be_others() {
        return;
    }
    // Without the code, the page that all may read; with it, the page that needs the code.
    let [open, closed] = ["open", "token"].map(Scene::set);
    let (of_socket, of_page) = (calls_of_socket(&open.daemon), calls_of_page());
    let (columns, rows) = table::read();
    let mut wrong = Vec::new();
    for row in &rows {
        for (column, cell) in columns.iter().zip(&row.cells) {
            let caller = scene::caller(column);
            let (scene, served) = match caller {
                Caller::Page { knows_code: true } => (&closed, &of_page),
                Caller::Page { knows_code: false } => (&open, &of_page),
                Caller::Socket(_) | Caller::Server => (&open, &of_socket),
            };
            let is_served = row.call().is_some_and(|call| served.contains(&call));
            let found = Probe { scene, row: &row.name, caller, is_served }.cell();
            if found != cell {
                wrong.push(format!("{}: {column} has `{found}`, and the table says `{cell}`", row.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
