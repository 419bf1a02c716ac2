//! The page as a whole: one file without scripts that loads nothing.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{SHA256, digest};

use super::html::{escape, push};
use super::plots::PlotError;
use super::sections::write_sections;
use crate::api::TelemetryReport;
use crate::cli::format::duration;
use crate::cli::telemetry::words::{NO_VALUE, measured_duration, number, percent_of, short_duration};
use crate::clock::minute_text;

/// A longer number is in a smaller font, because it does not fit its tile otherwise.
const LARGE_TEXT_CHARS_MAX: usize = 8;

/// Where the numbers come from.
#[derive(Clone, Debug)]
pub(super) struct ReportOrigin {
    pub(super) device: String,
    pub(super) version: String,
    pub(super) generated_at: u64,
}

/// `style.css` on few lines.
fn style() -> String {
    include_str!("style.css").lines().map(str::trim).filter(|line| !line.starts_with("/*")).collect()
}

/// The page of a report.
pub(super) fn render_page(report: &TelemetryReport, origin: &ReportOrigin) -> Result<String, PlotError> {
    let style = style();
    let hash = BASE64_STANDARD.encode(digest(&SHA256, style.as_bytes()));
    let device = escape(&origin.device);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{device}: telemetry report</title>\n<style>{style}</style>\n</head>\n<body>\n<header>\n<h1>Telemetry report: <span class=\"device\">{device}</span></h1>\n"
    );
    push(
        &mut out,
        format_args!(
            "<p>{} to {} ({})<br>\nGenerated {} by fieldsync {}</p>\n</header>\n<main>\n",
            minute_text(report.from),
            minute_text(report.to),
            duration(report.window_s.saturating_mul(1000)),
            minute_text(origin.generated_at),
            escape(&origin.version)
        ),
    );
    write_totals(&mut out, report);
    write_sections(&mut out, report)?;
    out.push_str("</main>\n</body>\n</html>\n");
    Ok(out)
}

/// The numbers that people look for first.
fn write_totals(out: &mut String, report: &TelemetryReport) {
    let each = report.per_record;
    let sum = |number: fn(&crate::api::Outcomes) -> u64| {
        report.by_batch_size.iter().map(|bucket| number(&bucket.outcomes)).sum::<u64>()
    };
    let batches = sum(|outcomes| outcomes.batches);
    let quarantined: u64 = report.by_type.iter().map(|one| one.quarantined).sum();
    let mean = if each.records == 0 { NO_VALUE.to_owned() } else { short_duration(each.mean_ms) };
    let totals = [
        ("Records measured", number(each.records), String::new()),
        ("Median per record", measured_duration(each.p50_ms, each.records), format!("mean {mean}")),
        (
            "Batches that succeeded",
            percent_of(sum(|outcomes| outcomes.succeeded), batches),
            format!("of {}", number(batches)),
        ),
        (
            "No response in time",
            number(sum(|outcomes| outcomes.timeouts)),
            format!("{} of the batches", percent_of(sum(|outcomes| outcomes.timeouts), batches)),
        ),
        ("Need review", number(quarantined), "records since the start of the period".to_owned()),
    ];
    out.push_str("<dl class=\"totals\" aria-label=\"In short\">\n");
    for (name, value, note) in totals {
        push(
            out,
            format_args!(
                "<div><dt>{name}</dt><dd{}>{} <small>{}</small></dd></div>\n",
                if value.chars().count() > LARGE_TEXT_CHARS_MAX { " class=\"long\"" } else { "" },
                escape(&value),
                escape(&note)
            ),
        );
    }
    out.push_str("</dl>\n");
}
