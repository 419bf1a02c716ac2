//! Quoted text in messages of the journal: a bug may quote the data that it handled.
//!
//! Data may contain quotes itself, escaped or not, so everything from the first quote to the last one is masked. Paths
//! of the system are kept: they say which file a message is about.

use std::ops::Range;

/// Where the files are that messages name.
const PATH_ROOTS: [&str; 4] = ["/etc/", "/var/", "/run/", "/usr/"];
const APOSTROPHE: char = '\'';

/// The range between the first quote and the last one. A quote that is not closed quotes the rest.
pub(crate) fn find_quoted(text: &str) -> Option<Range<usize>> {
    let mut quotes = list_quotes(text);
    remove_paths(text, &mut quotes);
    let opening = quotes.iter().position(|quote| quote.may_open)?;
    let first = quotes.get(opening)?;
    let last = quotes.iter().skip(opening + 1).rfind(|quote| quote.may_close);
    Some(first.end..last.map_or(text.len(), |last| last.start))
}

struct Quote {
    start: usize,
    end: usize,
    may_open: bool,
    may_close: bool,
}

/// An apostrophe is a quote only at the edge of a word.
fn list_quotes(text: &str) -> Vec<Quote> {
    let mut quotes = Vec::new();
    let mut previous: Option<char> = None;
    let mut letters = text.char_indices().peekable();
    while let Some((start, letter)) = letters.next() {
        let next = letters.peek().map(|(_, next)| *next);
        let is_apostrophe = letter == APOSTROPHE;
        if is_apostrophe || matches!(letter, '"' | '`' | '“' | '”' | '„' | '‘' | '«' | '»') {
            let is_in_word = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
            quotes.push(Quote {
                start,
                end: start + letter.len_utf8(),
                may_open: !is_apostrophe || !is_in_word(previous),
                may_close: !is_apostrophe || !is_in_word(next),
            });
        }
        previous = Some(letter);
    }
    quotes
}

/// Removes the quotes around each path.
fn remove_paths(text: &str, quotes: &mut Vec<Quote>) {
    let mut at = 0;
    while let (Some(open), Some(close)) = (quotes.get(at), quotes.get(at + 1)) {
        let is_same = text.get(open.start..open.end) == text.get(close.start..close.end);
        if is_same && text.get(open.end..close.start).is_some_and(is_system_path) {
            quotes.drain(at..at + 2);
        } else {
            at += 1;
        }
    }
}

fn is_system_path(text: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-@".contains(letter);
    PATH_ROOTS.iter().any(|root| text.starts_with(root)) && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_from_the_first_quote_to_the_last() {
        for (text, expected) in [
            (r#"value: Parse("{\"date\": \"sesame\"}") ends"#, r#"value: Parse("***") ends"#),
            ("boundary of `a ` b` ends", "boundary of `***` ends"),
            ("the server's time is 'O'Brien' now", "the server's time is '***' now"),
            (r#""/sesame is bad""#, r#""***""#),
            (r#"not "closed sesame"#, r#"not "***"#),
            ("„sesame“ and “sesame”", "„***”"),
        ] {
            let range = find_quoted(text).unwrap();
            assert_eq!(format!("{}***{}", &text[..range.start], &text[range.end..]), expected);
        }
    }

    #[test]
    fn paths_and_apostrophes_are_not_quoted_text() {
        for text in ["cannot read \"/etc/fieldsync/token\" or `/run/a`", "the server's clock", ""] {
            assert_eq!(find_quoted(text), None, "{text}");
        }
    }
}
