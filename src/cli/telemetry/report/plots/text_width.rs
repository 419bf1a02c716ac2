//! How wide a text is. The font of the reader is not known, so this is the width in a wide one.

use crate::hidden::replace_hidden;

/// Pixels of the text of axes and labels.
pub(super) const TEXT_PX: f64 = 13.0;

/// Pixels at the size of the text of plots.
pub(super) fn text_width_px(text: &str) -> i32 {
    text.chars().map(char_width_px).sum()
}

/// The visible beginning of a text that fits, with … if there is more; the tables have all of it.
pub(super) fn cut_to_width(text: &str, width_px: i32) -> String {
    let text = replace_hidden(text);
    if text_width_px(&text) <= width_px {
        return text.into_owned();
    }
    let mut left_px = width_px - char_width_px('…');
    let fits = |character: &char| {
        left_px -= char_width_px(*character);
        left_px >= 0
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// In thousandths of the size of the text, rounded up.
#[expect(clippy::cast_possible_truncation, reason = "a small number of pixels")]
fn char_width_px(character: char) -> i32 {
    let part = match character {
        'i' | 'j' | 'l' | 'I' | ' ' | '.' | ',' | ':' | '\'' => 0.35,
        'a'..='l' | 'n'..='v' | 'x'..='z' | '0'..='9' | '-' | '–' | '(' | ')' | '_' | '/' => 0.65,
        'A'..='L' | 'N'..='V' | 'X'..='Z' | '+' | '=' | '<' | '>' => 0.8,
        // M, W, and all other scripts.
        _ => 1.05,
    };
    (TEXT_PX * part).ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_where_its_space_ends() {
        assert_eq!(cut_to_width("Visits", 100), "Visits");
        let cut = cut_to_width(&"W".repeat(128), 200);
        assert!(cut.ends_with("W…") && text_width_px(&cut) <= 200, "{cut}");
        assert!(text_width_px("illi") < text_width_px("mmmm"));
        assert_eq!(cut_to_width("a\u{202e}b", 100), "a\u{fffd}b");
        assert_eq!(cut_to_width("anything", 0), "…");
    }
}
