//! The page that `fieldsync telemetry report` writes: in both colour schemes, on phones and on paper.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fieldsync_core::api::samples::telemetry_week;
use fieldsync_core::api::{DayReport, TelemetryReport};
use fieldsync_core::clock::minute_text;
use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::json;

use super::{LANDSCAPE, PORTRAIT};
use crate::support::api_stand_in::ApiStandIn;
use crate::support::chromium::{Browser, Tab};
use crate::support::daemon::{Daemon, cli_command};
use crate::support::process::run;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::directory;

const CONTRAST: &str = include_str!("../../../web/contrast.js");
const PLOTS: &str = include_str!("../../../web/plots.js");
const AXE: &str = include_str!("../../../web/axe.js");

/// A desktop, a tablet in both orientations, and phones.
const SIZES: [(u32, u32); 5] = [(1280, 900), LANDSCAPE, PORTRAIT, (390, 844), (320, 640)];
const SCHEMES: [&str; 2] = ["light", "dark"];
/// A4 within its margins.
const PAPER: (u32, u32) = (680, 1009);
/// The width of the pictures in the documentation.
const PICTURE_WIDTH: u32 = 900;

/// Writes the report of the daemon at this socket into a directory.
fn write_report(socket: PathBuf, target: &Path) -> String {
    let file = target.join("report.html");
    let mut command = cli_command(socket, &["telemetry", "report", "--html", file.to_str().unwrap()]);
    let ran = run(&mut command, b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    format!("file://{}", file.display())
}

/// A report of a plausible week, in a browser.
fn with_week(look: impl FnOnce(&Tab<'_>, &str)) {
    with_report(&telemetry_week(), look);
}

/// A report of so many days, with large numbers and the longest name of a record type.
fn long_report(days: usize) -> TelemetryReport {
    let mut report = telemetry_week();
    let dates = report.days[0].day.parse::<Date>().unwrap().series((-1).day());
    let period = report.days[0].clone();
    report.days =
        dates.take(days).map(|date| DayReport { day: date.to_string(), ..period.clone() }).collect();
    report.by_type[0].record_type = "LongName".repeat(16);
    report.by_type[1].record_type = "W".repeat(128);
    report.per_record.records = 3_579_000_000;
    report
}

fn with_report(report: &TelemetryReport, look: impl FnOnce(&Tab<'_>, &str)) {
    let daemon = Daemon::start(&Settings::default().with("device.name", "tablet-17"));
    let documents = BTreeMap::from([("/v1/telemetry", json!(report)), ("/v1/status", daemon.status())]);
    let stand_in = ApiStandIn::start(documents);
    let target = directory();
    let url = write_report(stand_in.socket(), target.path());
    let browser = Browser::start();
    let tab = browser.open(&url, LANDSCAPE.0, LANDSCAPE.1);
    look(&tab, &url);
}

#[test]
#[ignore = "needs chromium"]
fn the_report_loads_nothing_but_itself_and_no_text_overlaps_at_any_size() {
    with_week(|tab, url| {
        for scheme in SCHEMES {
            tab.prefer(&[("prefers-color-scheme", scheme)]);
            for (width, height) in SIZES {
                tab.resize(width, height);
                tab.wait("the size", &format!("innerWidth === {width}"));
                let wide = tab.eval("document.documentElement.scrollWidth");
                assert!(wide.as_u64().unwrap() <= u64::from(width), "{wide} of {width}");
                assert_eq!(tab.eval(PLOTS), json!([]), "{scheme} {width}");
            }
            assert_eq!(tab.eval(CONTRAST), json!([]), "{scheme}");
        }
        assert_eq!(tab.browser_errors(), Vec::<serde_json::Value>::new());
        assert_eq!(tab.requested_urls(), [url]);
        assert_eq!(tab.eval("document.scripts.length"), 0);
    });
}

#[test]
#[ignore = "needs chromium"]
fn the_texts_of_a_long_period_with_long_names_fit_the_screen_and_the_paper() {
    for days in [22, 30, 90] {
        with_report(&long_report(days), |tab, _| {
            for (width, height) in SIZES {
                tab.resize(width, height);
                tab.wait("the size", &format!("innerWidth === {width}"));
                assert_eq!(tab.eval(PLOTS), json!([]), "{days} days, {width}");
            }
            tab.resize(PAPER.0, PAPER.1);
            tab.emulate_print();
            tab.wait(
                "the tables",
                "[...document.querySelectorAll('table')].every(node => node.checkVisibility())",
            );
            let wide = "[...document.querySelectorAll('table')].filter(node => node.getBoundingClientRect().right > innerWidth).map(node => node.caption.textContent)";
            assert_eq!(tab.eval(wide), json!([]), "{days} days on paper");
            assert_eq!(tab.eval(PLOTS), json!([]), "{days} days on paper");
        });
    }
}

#[test]
#[ignore = "needs chromium"]
fn the_report_of_a_real_daemon_is_as_well_formed() {
    let server = ScriptedServer::at_first(1, |_| Reply::html(504));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue(&[json!({"type": "W".repeat(128), "payload": {}}), json!({"type": "<b>", "payload": {}})]);
    daemon.wait_until_done();
    let target = directory();
    let url = write_report(daemon.home.socket(), target.path());
    let browser = Browser::start();
    let tab = browser.open(&url, PORTRAIT.0, PORTRAIT.1);
    for (width, height) in SIZES {
        tab.resize(width, height);
        tab.wait("the size", &format!("innerWidth === {width}"));
        assert_eq!(tab.eval(PLOTS), json!([]), "{width}");
        let wide = tab.eval("document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= u64::from(width), "{wide} of {width}");
    }
    assert_eq!(tab.browser_errors(), Vec::<serde_json::Value>::new());
    assert_eq!(tab.requested_urls(), [url]);
}

#[test]
#[ignore = "needs chromium"]
fn on_paper_every_table_is_open_and_its_text_has_a_contrast_of_seven() {
    with_week(|tab, _| {
        tab.prefer(&[("prefers-color-scheme", "dark")]);
        let closed = "[...document.querySelectorAll('table')].filter(node => !node.checkVisibility({contentVisibilityAuto: true}) || node.getBoundingClientRect().height === 0).length";
        assert_eq!(tab.eval(closed), 8, "on a screen they are closed at first");
        tab.emulate_print();
        tab.wait("the tables", &format!("{closed} === 0"));
        assert_eq!(tab.eval(CONTRAST), json!([]));
        assert_eq!(tab.eval(PLOTS), json!([]));
    });
}

#[test]
#[ignore = "needs chromium"]
fn each_plot_has_a_text_and_its_numbers_in_a_table() {
    with_week(|tab, _| {
        let names = "[...document.querySelectorAll('svg')].map(node => node.getAttribute('aria-label'))";
        let names: Vec<String> = serde_json::from_value(tab.eval(names)).unwrap();
        assert!(names.iter().all(|name| name.len() > 20), "{names:?}");
        let without = "[...document.querySelectorAll('section')].filter(node => node.querySelector('svg') && !node.querySelector('details table caption')).length";
        assert_eq!(tab.eval(without), 0);
        tab.tap("section:nth-of-type(4) summary");
        tab.wait("the table", "document.querySelector('section:nth-of-type(4) table').checkVisibility()");
        let row = tab.texts("section:nth-of-type(4) tbody tr:first-child > *");
        assert_eq!(row[..4], ["Photos", "286", "4.1 s", "yes"]);
    });
}

#[test]
#[ignore = "needs chromium, and axe-core where FIELDSYNC_AXE says"]
fn axe_core_finds_nothing_in_the_report() {
    let Some(script) = std::env::var_os("FIELDSYNC_AXE") else {
        println!("skipped: FIELDSYNC_AXE does not name axe.min.js");
        return;
    };
    let script = fs::read_to_string(script).unwrap();
    with_week(|tab, _| {
        tab.eval(&format!("{script}; null"));
        tab.eval("document.querySelectorAll('details').forEach(node => { node.open = true; }); null");
        for (scheme, size) in SCHEMES.into_iter().flat_map(|scheme| SIZES.map(|size| (scheme, size))) {
            tab.prefer(&[("prefers-color-scheme", scheme)]);
            tab.resize(size.0, size.1);
            assert_eq!(tab.eval(AXE), json!([]), "{scheme} {size:?}");
        }
    });
}

/// The pictures of the report in the documentation: `docs/pictures/make` writes them again.
#[test]
#[ignore = "needs chromium"]
fn the_pictures_show_durations_and_sizes_in_light_and_types_and_failures_in_dark() {
    let scratch = directory();
    let target = std::env::var_os("FIELDSYNC_PICTURES").map_or(scratch.path().to_owned(), PathBuf::from);
    with_week(|tab, _| {
        tab.eval("document.documentElement.style.scrollbarWidth = 'none'; null");
        // The sample is of a week in the past: its report is shown as if it was written at the end of that week.
        let written = format!("Generated {}", minute_text(telemetry_week().to));
        tab.eval(&format!(
            "(p => {{ p.innerHTML = p.innerHTML.replace(/Generated .* UTC/, '{written}') }})(document.querySelector('header p')); null"
        ));
        assert!(tab.texts("header p")[0].contains(&written));
        for (name, scheme, first, after) in [
            ("telemetry-report.png", "light", "html", "section:nth-of-type(3)"),
            ("telemetry-report-dark.png", "dark", "section:nth-of-type(4)", "section:nth-of-type(6)"),
        ] {
            tab.prefer(&[("prefers-color-scheme", scheme)]);
            tab.resize(PICTURE_WIDTH, LANDSCAPE.1);
            let top = |selector: &str| {
                format!("Math.round(document.querySelector('{selector}').getBoundingClientRect().top)")
            };
            let height = tab.eval(&format!("{} - {}", top(after), top(first))).as_u64().unwrap();
            tab.resize(PICTURE_WIDTH, u32::try_from(height).unwrap());
            tab.eval(&format!("document.querySelector('{first}').scrollIntoView(); null"));
            let picture = tab.take_picture();
            assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "{name} shows something");
            fs::write(target.join(name), picture).unwrap();
        }
    });
}
