//! The pages about the kit and the protocol name every point and every paragraph.

use std::fs;

use super::kit::judge;
use crate::support::faulty_server::FaultyServer;

#[test]
fn the_page_lists_every_point_and_each_point_names_a_paragraph_of_the_protocol() {
    let server = FaultyServer::start(&[]);
    let (report, _) = judge(&server.url(), &[]);
    let page = fs::read_to_string("docs/conformance.md").unwrap();
    let protocol = fs::read_to_string("docs/wire-protocol.md").unwrap();
    let listed = page.lines().filter(|line| line.starts_with("| `") && !line.starts_with("| `--")).count();
    assert_eq!(listed, report.points.len());
    for point in &report.points {
        let row = format!("| `{}` | {} |", point.id, point.title);
        assert!(page.contains(&row), "docs/conformance.md lacks {row}");
        let (section, term) = point.paragraph.split_once(": ").unwrap_or((&point.paragraph, ""));
        assert!(protocol.contains(&format!("# {section}\n")), "there is no section `{section}`");
        let has_term = term.is_empty() || protocol.contains(&format!("- **{term}.**"));
        assert!(has_term, "there is no paragraph `{term}`");
    }
}
