//! Writes HTML in which text from others is only text.

use std::fmt::Write as _;

use super::plots::Ink;
use crate::hidden::replace_hidden;

/// The text for an element or for an attribute in double quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in replace_hidden(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A table of numbers with the names of its rows in the first column.
#[derive(Debug)]
pub(super) struct DataTable {
    pub(super) caption: &'static str,
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl DataTable {
    /// Behind a line that opens it.
    pub(super) fn write(&self, out: &mut String) {
        let caption = escape(self.caption);
        // The table can be scrolled sideways on a phone, also with a keyboard.
        push(
            out,
            format_args!(
                "<details><summary>Numbers: {caption}</summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\">\n<table><caption>{caption}</caption>\n<thead><tr>"
            ),
        );
        for head in &self.head {
            push(out, format_args!("<th scope=\"col\">{}</th>", escape(head)));
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            out.push_str("<tr>");
            for (n, cell) in row.iter().enumerate() {
                let cell = escape(cell);
                let cell = if n == 0 {
                    format!("<th scope=\"row\">{cell}</th>")
                } else {
                    format!("<td>{cell}</td>")
                };
                out.push_str(&cell);
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div></details>\n");
    }
}

/// The names of the colours of a plot.
pub(super) fn write_legend(out: &mut String, entries: &[(Ink, &str)]) {
    out.push_str("<ul class=\"legend\">");
    for (ink, name) in entries {
        push(
            out,
            format_args!("<li><span class=\"swatch swatch-{}\"></span>{}</li>", ink.name(), escape(name)),
        );
    }
    out.push_str("</ul>\n");
}

/// Writing to memory does not fail.
pub(super) fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_others_is_only_text() {
        assert_eq!(
            escape("<script>alert('x')</script> & \"y\"\u{202e}\n"),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;y&quot;\u{fffd}\u{fffd}"
        );
        let table = DataTable {
            caption: "<c>",
            head: vec!["<h>".into()],
            rows: vec![vec!["<r>".into(), "<v>".into()]],
        };
        let mut out = String::new();
        table.write(&mut out);
        assert!(["<c>", "<h>", "<r>", "<v>"].iter().all(|raw| !out.contains(raw)), "{out}");
        assert!(out.contains("<th scope=\"row\">&lt;r&gt;</th><td>&lt;v&gt;</td>"), "{out}");
    }
}
