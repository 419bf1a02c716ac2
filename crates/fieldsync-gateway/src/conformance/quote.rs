//! Text of a server in a report: without the token, without characters that command a terminal, and of bounded length.

use crate::hidden::replace_hidden;

/// The token is replaced before the text is cut, so that no part of it stays.
pub(super) fn quote(text: &str, token: Option<&str>, chars_max: usize) -> String {
    let redacted = token.map_or_else(|| text.to_owned(), |token| text.replace(token, "[token]"));
    let mut characters = redacted.chars();
    let start: String = characters.by_ref().take(chars_max).collect();
    let end = if characters.next().is_some() { "…" } else { "" };
    format!("{}{end}", replace_hidden(&start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_token_and_no_hidden_character_is_quoted() {
        let token = Some("s3cret-token");
        assert_eq!(quote("Bearer s3cret-token", token, 100), "Bearer [token]");
        assert_eq!(quote("Bearer s3cret-token", token, 10), "Bearer [to…");
        assert_eq!(quote("\u{9b}31mred\u{202e}", None, 100), "\u{fffd}31mred\u{fffd}");
        assert_eq!(quote("whole", None, 5), "whole");
    }
}
