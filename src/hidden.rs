//! Characters that command a terminal, change the direction of text or have no width. Text that others wrote may hold
//! them; what people read in tables, messages and the journal does not.

use std::borrow::Cow;

/// Whether a reader would see something else than what the text holds.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // No width; marks, embeddings, overrides and isolates of direction.
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}'
                | '\u{61c}' | '\u{feff}'
        )
}

/// The text with U+FFFD for each hidden character.
pub(crate) fn replace_hidden(text: &str) -> Cow<'_, str> {
    if text.contains(is_hidden) {
        Cow::Owned(text.replace(is_hidden, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_become_visible_and_letters_stay() {
        assert_eq!(replace_hidden("\u{1b}[2Jgone\n"), "\u{fffd}[2Jgone\u{fffd}");
        assert_eq!(replace_hidden("a\u{202e}b\u{200b}c\u{feff}"), "a\u{fffd}b\u{fffd}c\u{fffd}");
        assert!(matches!(replace_hidden("Zürich 日本 שלום"), Cow::Borrowed(_)));
    }
}
