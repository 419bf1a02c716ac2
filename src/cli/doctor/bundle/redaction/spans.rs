//! Ranges of a text that are masked. All rules look at the same text, so that what one of them masks cannot hide
//! anything from another.

use std::ops::Range;

use crate::config::MASK;

/// Ranges of one text, in any order; they may overlap.
#[derive(Debug, Default)]
pub(crate) struct MaskedSpans(Vec<Range<usize>>);

impl MaskedSpans {
    pub(crate) fn add(&mut self, span: Range<usize>) {
        if !span.is_empty() {
            self.0.push(span);
        }
    }

    /// The text with one mask for each range, or for ranges that touch.
    pub(crate) fn apply(mut self, text: &str) -> String {
        self.0.sort_by_key(|span| span.start);
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        let mut masked_to = None;
        for span in self.0 {
            // Ranges are those of matches, so they begin and end at characters.
            if masked_to.is_none_or(|end| span.start > end) {
                out.push_str(text.get(copied..span.start).unwrap_or_default());
                out.push_str(MASK);
            }
            copied = copied.max(span.end);
            masked_to = Some(copied);
        }
        out.push_str(text.get(copied..).unwrap_or_default());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_or_touch_have_one_mask() {
        let mut spans = MaskedSpans::default();
        for span in [6..7, 1..3, 2..4, 4..5, 1..2, 7..7] {
            spans.add(span);
        }
        assert_eq!(spans.apply("0123456789"), "0***5***789");
        assert_eq!(MaskedSpans::default().apply("0123"), "0123");
    }
}
