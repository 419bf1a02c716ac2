//! Characters that command a terminal, change the direction of text or have no width. Text that others wrote may hold
//! them; what people read in tables, messages and the journal does not.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a reader would see something else than what the text holds.
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // No width; ends of lines; marks, embeddings, overrides and isolates of direction; fillers. All of them have
            // four digits: what is beyond is written as it is.
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
        )
}

/// The text with U+FFFD for each hidden character.
pub fn replace_hidden(text: &str) -> Cow<'_, str> {
    if text.contains(is_hidden) {
        Cow::Owned(text.replace(is_hidden, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// JSON with the same values and hidden characters escaped. JSON allows those from DEL on unescaped in strings.
pub fn escape_hidden(json: &str) -> Cow<'_, str> {
    let needs_escape = |character: char| character >= '\u{7f}' && is_hidden(character);
    if !json.contains(needs_escape) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() * 2);
    for character in json.chars() {
        if needs_escape(character) {
            // All of them have four hexadecimal digits. Writing to memory does not fail.
            write!(out, "\\u{:04x}", u32::from(character)).ok();
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_become_visible_and_letters_stay() {
        assert_eq!(replace_hidden("\u{1b}[2Jgone\n"), "\u{fffd}[2Jgone\u{fffd}");
        assert_eq!(replace_hidden("a\u{202e}b\u{200b}c\u{feff}"), "a\u{fffd}b\u{fffd}c\u{fffd}");
        assert_eq!(replace_hidden("a\u{2028}b\u{ad}c\u{3164}"), "a\u{fffd}b\u{fffd}c\u{fffd}");
        assert!(matches!(replace_hidden("Zürich 日本 שלום"), Cow::Borrowed(_)));
    }
}
