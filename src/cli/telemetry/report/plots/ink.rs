//! The colours of the plots, which are classes of the page's style sheet: light, dark and printed pages differ.
//!
//! plotters writes colours as numbers. Each ink has a number of its own, and [`apply_classes`] replaces the numbers.

use plotters::style::RGBColor;

/// No other colour is drawn, so the first two components only mark an ink.
const MARK: (u8, u8) = (1, 254);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    Text,
    Muted,
    Grid,
    Axis,
    Median,
    Mean,
    Slowest,
    Succeeded,
    TimedOut,
    Refused,
    OtherFailure,
    Rate,
    Measured,
    Expected,
    Share,
    /// Of a heat map: from nothing to the highest number.
    Heat0,
    Heat1,
    Heat2,
    Heat3,
    Heat4,
    /// Text on the two darkest of them.
    OnHeat,
}

const INKS: [(Ink, &str); 21] = [
    (Ink::Text, "text"),
    (Ink::Muted, "muted"),
    (Ink::Grid, "grid"),
    (Ink::Axis, "axis"),
    (Ink::Median, "median"),
    (Ink::Mean, "mean"),
    (Ink::Slowest, "slowest"),
    (Ink::Succeeded, "succeeded"),
    (Ink::TimedOut, "timed-out"),
    (Ink::Refused, "refused"),
    (Ink::OtherFailure, "other-failure"),
    (Ink::Rate, "rate"),
    (Ink::Measured, "measured"),
    (Ink::Expected, "expected"),
    (Ink::Share, "share"),
    (Ink::Heat0, "heat-0"),
    (Ink::Heat1, "heat-1"),
    (Ink::Heat2, "heat-2"),
    (Ink::Heat3, "heat-3"),
    (Ink::Heat4, "heat-4"),
    (Ink::OnHeat, "on-heat"),
];

impl Ink {
    /// The name in the style sheet.
    pub(crate) fn name(self) -> &'static str {
        INKS.iter().find(|(ink, _)| *ink == self).map_or("text", |(_, name)| name)
    }

    pub(super) fn color(self) -> RGBColor {
        RGBColor(MARK.0, MARK.1, self as u8)
    }
}

/// Replaces the colours by classes: `fill-…` for areas and text, `line-…` for lines.
pub(super) fn apply_classes(svg: &str) -> String {
    let mut svg = svg.to_owned();
    for (ink, name) in INKS {
        let RGBColor(r, g, b) = ink.color();
        for (attribute, prefix) in [("fill", "fill"), ("stroke", "line")] {
            svg = svg.replace(
                &format!("{attribute}=\"#{r:02X}{g:02X}{b:02X}\""),
                &format!("class=\"{prefix}-{name}\""),
            );
        }
    }
    svg
}
