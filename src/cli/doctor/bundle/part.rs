//! One file of the bundle: what it is, and its content or why it is left out.

use std::fmt::Display;

/// The largest file of the bundle, uncompressed. What is longer is cut.
pub(super) const PART_BYTES_MAX: usize = 8 << 20;

/// A file of the bundle.
#[derive(Debug)]
pub(super) struct BundlePart {
    pub(super) name: &'static str,
    /// What it is, for the person who opens the bundle.
    pub(super) purpose: &'static str,
    pub(super) content: PartContent,
}

/// What was collected.
#[derive(Debug)]
pub(super) enum PartContent {
    Collected {
        text: String,
        /// What is missing in it, and why.
        note: Option<String>,
    },
    LeftOut {
        reason: String,
    },
}

impl BundlePart {
    pub(super) fn collected(name: &'static str, purpose: &'static str, text: String) -> Self {
        Self::new(name, purpose, Ok((text, None)))
    }

    pub(super) fn left_out(name: &'static str, purpose: &'static str, reason: impl Display) -> Self {
        Self::new(name, purpose, Err(reason.to_string()))
    }

    /// A text with a note, or the reason why there is none.
    pub(super) fn new(
        name: &'static str,
        purpose: &'static str,
        collected: Result<(String, Option<String>), String>,
    ) -> Self {
        let content = match collected {
            Ok((text, note)) => cut_to_limit(text, note),
            // Programs may print several lines.
            Err(reason) => PartContent::LeftOut { reason: reason.lines().collect::<Vec<_>>().join("; ") },
        };
        Self { name, purpose, content }
    }
}

/// Cuts behind a line, so that what is left of NDJSON is valid.
fn cut_to_limit(mut text: String, note: Option<String>) -> PartContent {
    if text.len() <= PART_BYTES_MAX {
        return PartContent::Collected { text, note };
    }
    let end = text.as_bytes().iter().take(PART_BYTES_MAX).rposition(|byte| *byte == b'\n');
    text.truncate(end.map_or(0, |end| end + 1));
    let cut = format!("cut after {} MiB", PART_BYTES_MAX >> 20);
    let note = note.map_or_else(|| cut.clone(), |note| format!("{note}; {cut}"));
    PartContent::Collected { text, note: Some(note) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_part_is_cut_behind_a_line_and_says_so() {
        let line = "x".repeat(999) + "\n";
        let part = BundlePart::collected("a", "b", line.repeat(PART_BYTES_MAX / line.len() + 2));
        let PartContent::Collected { text, note } = part.content else { panic!("{part:?}") };
        assert!(text.len() <= PART_BYTES_MAX && text.ends_with("x\n"));
        assert_eq!(note.as_deref(), Some("cut after 8 MiB"));
    }
}
