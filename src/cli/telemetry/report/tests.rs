//! The page as text: its parts, what it must not contain, and what it shows without data.

use super::page::{ReportOrigin, render_page};
use super::{ReportArgs, run};
use crate::api::samples::telemetry_week;
use crate::api::{Phase, TelemetryReport};
use crate::cli::testing::{run_verb, sample_status};
use crate::client::scripted::{ScriptedDaemon, response_step};
use crate::exit;

/// Twice the size of the page of a busy week: types, hours and kinds of failures are bounded.
const PAGE_BYTES_MAX: usize = 512 * 1024;

fn render(report: &TelemetryReport) -> String {
    let origin = ReportOrigin {
        device: "tablet-17".to_owned(),
        version: "0.2.0".to_owned(),
        generated_at: telemetry_week().to,
    };
    render_page(report, &origin).unwrap()
}

#[test]
fn each_question_has_a_sentence_plots_and_tables() {
    let page = render(&telemetry_week());
    for part in [
        "<title>tablet-17: telemetry report</title>",
        "<p>2026-03-02 00:00 UTC to 2026-03-08 20:00 UTC (7 d)<br>\nGenerated 2026-03-08 20:00 UTC by fieldsync 0.2.0</p>",
        "<div><dt>Records measured</dt><dd>3,579 <small></small></dd></div>",
        "<p class=\"finding\">Half of the records took 390 ms or less, and 95 of 100 took 2.2 s or less.</p>",
        "<p class=\"finding\">Photos took 53 % of the time, with 8 % of the records; one took 4.1 s.</p>",
        "<svg role=\"img\" aria-label=\"Share of the time by type: Photos 53 %, PriceSurveys 17 %,",
        "<svg role=\"img\" aria-label=\"Failures by hour of the day. no response in time: most at 08:00 (6),",
        "<tr><th scope=\"row\">51–100</th><td>9</td><td>5</td><td>56 %</td><td>4</td><td>0</td><td>0</td><td>361</td><td>2.1</td></tr>",
        "<tr><th scope=\"row\">26–50</th><td>11 s</td><td>12 s</td><td>+10 %</td><td>34</td><td>34</td></tr>",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert_eq!(page.matches("<section ").count(), 6);
    assert_eq!(page.matches("<table>").count(), 8);
    // Those that fill the page are drawn for phones, too.
    assert_eq!(page.matches("<svg ").count(), 4 + 2 * 6);
    for (open, close) in
        [("<svg ", "</svg>"), ("<text ", "</text>"), ("<figure ", "</figure>"), ("<div", "</div>")]
    {
        assert_eq!(page.matches(open).count(), page.matches(close).count(), "{open}");
    }
}

#[test]
fn the_page_loads_and_runs_nothing() {
    let page = render(&telemetry_week());
    for forbidden in [
        "<script", "<link", "<img", "<iframe", "<object", "href=", "src=", "url(", "@import", "http:",
        "https:", "style=\"",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("content=\"default-src 'none'; style-src 'sha256-"), "{page}");
    assert!(page.len() < PAGE_BYTES_MAX / 2, "{}", page.len());
}

#[test]
fn every_colour_is_a_class_of_the_style_sheet() {
    let page = render(&telemetry_week());
    let (style, body) = page.split_once("</style>").unwrap();
    assert!(!body.contains("=\"#"), "no colour is left in a plot");
    for class in body.split("class=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        for class in class.split(' ').filter(|class| class.contains('-')) {
            assert!(style.contains(&format!(".{class}")), "{class}");
        }
    }
    let has_two = |element: &&str| element.matches("class=").count() > 1;
    assert_eq!(body.split('<').find(has_two), None);
}

#[test]
fn text_of_others_is_only_text() {
    let hostile = "<script>alert(1)</script>\"'&\u{1b}[2J\u{202e}";
    let mut week = telemetry_week();
    for one in &mut week.by_type {
        one.record_type = hostile.into();
    }
    for one in &mut week.failures {
        one.class = hostile.into();
        one.interfaces[0].interface = hostile.into();
    }
    week.by_batch_size[0].size = hostile.into();
    week.by_in_flight[0].in_flight = hostile.into();
    week.days[0].day = hostile.into();
    let origin = ReportOrigin { device: hostile.into(), version: hostile.into(), generated_at: 0 };
    let page = render_page(&week, &origin).unwrap();
    assert!(!page.contains("<script") && !page.contains("&amp;lt;"), "neither raw nor escaped twice");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;\u{fffd}[2J\u{fffd}</th>"));
    let is_odd = |character: char| crate::hidden::is_hidden(character) && character != '\n';
    assert!(!page.contains(is_odd));
}

#[test]
fn without_data_each_section_says_so() {
    let page = render(&TelemetryReport::default());
    assert_eq!(page.matches("No data yet.").count(), 6, "{page}");
    assert!(!page.contains("<svg"));
    assert!(page.contains("<dt>Median per record</dt><dd>– <small>mean –</small></dd>"), "{page}");
}

#[test]
fn extreme_numbers_do_not_break_a_plot_or_the_size() {
    let mut week = telemetry_week();
    let of_type = week.by_type[0].clone();
    week.by_type = vec![of_type; 5000];
    for one in &mut week.by_type {
        one.record_type = "W".repeat(128);
        one.delay_share = f64::NAN;
    }
    week.failures = vec![week.failures[0].clone(); 500];
    for (n, hour) in (0..).zip(&mut week.hours) {
        hour.hour = u64::MAX / 1000 - n * 86_400_000_000;
        hour.period.per_record.p95_ms = u64::MAX;
    }
    week.by_batch_size[0].outcomes.records_per_s = Some(f64::INFINITY);
    week.by_batch_size[1].mean_ms = Some(f64::MAX);
    let page = render(&week);
    assert!(page.len() < PAGE_BYTES_MAX, "{}", page.len());
}

#[test]
fn the_newest_days_and_hours_are_shown_and_everything_measured_is_in_a_table() {
    let mut week = telemetry_week();
    let (day, hour) = (week.days[0].clone(), week.hours[0].clone());
    let mut old = day.clone();
    old.day = "2025-09-01".to_owned();
    week.days = vec![old, day];
    let mut old = hour.clone();
    old.hour -= 60 * 24 * 3_600_000;
    week.hours = vec![old, hour];
    let page = render(&week);
    for name in ["Sat 7 Mar 2026", "Mon 1 Sep 2025", "Sat 7 Mar 17:00", "Tue 6 Jan 17:00"] {
        assert!(page.contains(&format!("<th scope=\"row\">{name}</th>")), "{name}\n{page}");
    }
    assert!(page.contains("7 Mar</text>") && !page.contains("1 Sep</text>"), "{page}");
}

#[test]
fn a_long_number_is_in_a_smaller_font() {
    let mut week = telemetry_week();
    week.per_record.records = 3_579_000;
    assert!(render(&week).contains("<dd class=\"long\">3,579,000 "));
}

#[tokio::test]
async fn the_page_is_written_to_a_file_or_to_standard_output() {
    let week = serde_json::to_string(&telemetry_week()).unwrap();
    let status = sample_status(Phase::Idle, "Nothing to sync", crate::api::Counts::default());
    let status = serde_json::to_string(&status).unwrap();
    let steps = || vec![response_step(200, &week), response_step(200, &status)];
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.html");
    let args = ReportArgs { html: Some(file.clone()) };
    let (code, text) =
        run_verb(&ScriptedDaemon::new(steps()), false, async |context| run(&args, context).await).await;
    assert_eq!((code, text), (Ok(exit::DONE), format!("The report was written to {}\n", file.display())));
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.contains("van-12") && page.ends_with("</html>\n"), "{page}");

    let args = ReportArgs { html: Some("-".into()) };
    let (code, text) =
        run_verb(&ScriptedDaemon::new(steps()), false, async |context| run(&args, context).await).await;
    assert_eq!(code, Ok(exit::DONE));
    assert!(text.starts_with("<!DOCTYPE html>") && text.ends_with("</html>\n"), "{text}");
}
