//! An error and its causes in one line, for people.

use std::error::Error;
use std::iter::successors;

/// The error's text, then the text of each cause that does not repeat the one before it.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in successors(error.source(), |cause| (*cause).source()) {
        let reason = cause.to_string();
        // Wrappers often repeat the text of what they wrap.
        if !text.ends_with(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    fn chain(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().unwrap();
        Layer { text, source: (!rest.is_empty()).then(|| Box::new(chain(rest))) }
    }

    #[test]
    fn causes_follow_the_error_and_a_repeated_text_appears_once() {
        assert_eq!(with_causes(&chain(&["alone"])), "alone");
        assert_eq!(
            with_causes(&chain(&["cannot connect", "tcp error: refused", "refused"])),
            "cannot connect: tcp error: refused"
        );
    }
}
