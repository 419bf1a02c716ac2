//! What the command prints: a line for each point as it ends, or JSON at the end.

use std::io::{self, Write};

use serde::Serialize;

use super::finding::{Finding, PointResult};
use super::point::Point;
use super::quote::quote;

/// A report has this much of any text: a server may send a lot.
const TEXT_CHARS_MAX: usize = 2000;

/// How a point ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum PointState {
    Ok,
    Failed,
    Skipped,
}

/// The report of a run, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct ConformanceReport {
    /// The batch endpoint.
    url: String,
    ok: usize,
    failed: usize,
    skipped: usize,
    points: Vec<PointReport>,
    /// Why no point could be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct PointReport {
    id: &'static str,
    title: &'static str,
    paragraph: &'static str,
    state: PointState,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
    /// Why it was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl PointReport {
    fn new(point: &Point, ended: PointResult, token: Option<&str>) -> Self {
        let redact = |text: String| quote(&text, token, TEXT_CHARS_MAX);
        let report = Self {
            id: point.id,
            title: point.title,
            paragraph: point.paragraph,
            state: PointState::Ok,
            expected: None,
            found: None,
            reason: None,
        };
        match ended {
            Ok(()) => report,
            Err(Finding::Failed { expected, found }) => Self {
                state: PointState::Failed,
                expected: Some(redact(expected)),
                found: Some(redact(found)),
                ..report
            },
            Err(Finding::Skipped(reason)) => {
                Self { state: PointState::Skipped, reason: Some(redact(reason)), ..report }
            }
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let state = match self.state {
            PointState::Ok => "ok",
            PointState::Failed => "FAILED",
            PointState::Skipped => "skipped",
        };
        writeln!(out, "{state:<8} {:<28} {}", self.id, self.title)?;
        for (name, text) in [("because", &self.reason), ("expected", &self.expected), ("found", &self.found)]
        {
            if let Some(text) = text {
                writeln!(out, "           {name}: {text}")?;
            }
        }
        if self.state == PointState::Failed {
            writeln!(out, "           see: docs/wire-protocol.md, {}", self.paragraph)?;
        }
        Ok(())
    }
}

impl ConformanceReport {
    pub(super) fn new(url: String) -> Self {
        Self { url, ok: 0, failed: 0, skipped: 0, points: Vec::new(), error: None }
    }

    /// Adds a point that ended, and prints it unless the report is printed as JSON.
    pub(super) fn add(
        &mut self,
        point: &Point,
        ended: PointResult,
        token: Option<&str>,
        is_json: bool,
    ) -> io::Result<()> {
        let report = PointReport::new(point, ended, token);
        match report.state {
            PointState::Ok => self.ok += 1,
            PointState::Failed => self.failed += 1,
            PointState::Skipped => self.skipped += 1,
        }
        if !is_json {
            report.print(&mut io::stdout().lock())?;
        }
        self.points.push(report);
        Ok(())
    }

    /// Prints, as JSON, that no point could be judged.
    pub(super) fn print_error(mut self, error: String) -> io::Result<()> {
        self.error = Some(error);
        self.print_end(true)
    }

    pub(super) fn print_end(&self, is_json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if is_json {
            serde_json::to_writer(&mut out, self).map_err(io::Error::from)?;
            return writeln!(out);
        }
        let count = self.points.len();
        writeln!(out, "{count} points: {} ok, {} failed, {} skipped", self.ok, self.failed, self.skipped)
    }

    /// A skipped point is not a failure.
    pub(super) fn all_hold(&self) -> bool {
        self.failed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point() -> Point {
        Point {
            id: "a.b",
            title: "A title",
            paragraph: "The response",
            check: |_| Box::pin(async { Ok(()) }),
        }
    }

    #[test]
    fn a_failed_point_says_what_was_expected_and_found_and_never_the_token() {
        let ended = Err(Finding::failed("HTTP 200", "HTTP 401 for s3cret"));
        let report = PointReport::new(&point(), ended, Some("s3cret"));
        let mut text = Vec::new();
        report.print(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("FAILED   a.b  "), "{text}");
        for part in
            ["expected: HTTP 200\n", "found: HTTP 401 for [token]\n", "wire-protocol.md, The response\n"]
        {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn only_a_failed_point_fails_the_run() {
        let mut report = ConformanceReport::new(String::new());
        report.add(&point(), Ok(()), None, true).unwrap();
        report.add(&point(), Err(Finding::skipped("no command")), None, true).unwrap();
        assert!(report.all_hold());
        report.add(&point(), Err(Finding::failed("", "")), None, true).unwrap();
        assert!(!report.all_hold());
        assert_eq!((report.ok, report.failed, report.skipped), (1, 1, 1));
    }
}
