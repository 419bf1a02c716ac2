//! Says what is wrong with JSON or a query of a caller, in the words of this project instead of the parser's.

use serde_json::error::Category;

/// What is wrong with a body. The parser's own messages change with its version, and few callers know its terms.
pub fn describe_json_error(error: &serde_json::Error) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    let text = error.to_string();
    match error.classify() {
        Category::Eof => "the JSON ends too early".to_owned(),
        Category::Data => {
            describe_field_error(&text).unwrap_or_else(|| format!("a value has the wrong type ({place})"))
        }
        Category::Syntax | Category::Io if text.starts_with("trailing characters") => {
            format!("{MORE_TEXT} ({place})")
        }
        Category::Syntax | Category::Io if text.starts_with("recursion limit") => {
            format!("the JSON is nested too deeply ({place})")
        }
        Category::Syntax | Category::Io => format!("it is not valid JSON ({place})"),
    }
}

/// How the description of a body begins in which more than one JSON value stands.
pub const MORE_TEXT: &str = "more text follows the JSON value";

/// What is wrong with a field or a parameter, if a message of serde names it.
pub fn describe_field_error(message: &str) -> Option<String> {
    let quoted = |kind: &str| {
        let rest = message.strip_prefix(kind)?.trim_start().strip_prefix('`')?;
        rest.split_once('`')
    };
    if let Some((name, rest)) = quoted("unknown field") {
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        let known =
            if known.is_empty() { String::new() } else { format!("; known are {}", known.join(", ")) };
        return Some(format!("`{name}` is not known here{known}"));
    }
    if let Some((name, _)) = quoted("missing field") {
        return Some(format!("`{name}` is missing"));
    }
    if let Some((name, _)) = quoted("duplicate field") {
        return Some(format!("`{name}` is given twice"));
    }
    if message.starts_with("UUID parsing failed") {
        return Some("each id must be a UUID".to_owned());
    }
    message
        .starts_with("provided string was not `true` or `false`")
        .then(|| "a parameter must be true or false".to_owned())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only errors are of interest")]
    struct Body {
        ids: Vec<Uuid>,
        all: Option<bool>,
    }

    #[test]
    fn every_kind_of_mistake_has_words_of_its_own() {
        for (text, expected) in [
            ("", "the JSON ends too early"),
            (r#"{"ids":["#, "the JSON ends too early"),
            (r#"{"ids":[}"#, "it is not valid JSON (line 1, column 9)"),
            ("{\"ids\":[],\n\"all\":yes}", "it is not valid JSON (line 2, column 7)"),
            (r#"{"ids":[]} {"ids":[]}"#, "more text follows the JSON value (line 1, column 12)"),
            (r#"{"id":[]}"#, "`id` is not known here; known are ids, all"),
            (r#"{"all":true}"#, "`ids` is missing"),
            (r#"{"ids":[],"ids":[]}"#, "`ids` is given twice"),
            (r#"{"ids":["17"]}"#, "each id must be a UUID"),
            (r#"{"ids":17}"#, "a value has the wrong type (line 1, column 9)"),
        ] {
            let error = serde_json::from_str::<Body>(text).unwrap_err();
            assert_eq!(describe_json_error(&error), expected, "{error}");
        }
    }
}
