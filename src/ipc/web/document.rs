//! The HTML document of the page, with script, style and texts inline, and the headers that protect it.
//!
//! The browser runs only this script and applies only this style, identified by their digests. It loads nothing else,
//! connects only to the daemon, and shows the page in no frame. The texts are a block of data: script and style are the
//! same in every language.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::identity::PageKey;
use super::language::Language;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// One script: its parts see each other's names, and everything else does not.
const SCRIPT: &str = concat!(
    "\"use strict\";\n(() => {\n",
    include_str!("page/script/texts.js"),
    include_str!("page/script/identity.js"),
    include_str!("page/script/code.js"),
    include_str!("page/script/status.js"),
    include_str!("page/script/lists.js"),
    include_str!("page/script/changes.js"),
    include_str!("page/script/events.js"),
    "})();\n",
);

const SECURITY_HEADERS: [(&str, &str); 7] = [
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

pub(super) struct PageDocument {
    /// In each language.
    html: Vec<(Language, String)>,
    content_security_policy: String,
}

impl PageDocument {
    pub(super) fn new() -> Self {
        let html = Language::ALL.map(|language| (language, fill_template(language)));
        let sha256 = |text: &str| BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            sha256(SCRIPT),
            sha256(STYLE),
        );
        Self { html: html.into(), content_security_policy: policy }
    }

    /// The document with the key of one page.
    pub(super) fn render_html(&self, language: Language, page: &PageKey) -> String {
        let html = self.html.iter().find(|(of, _)| *of == language).map_or("", |(_, html)| html.as_str());
        html.replace("{{page}}", &page.id).replace("{{key}}", &page.key)
    }

    /// For every response, errors included.
    pub(super) fn add_security_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in SECURITY_HEADERS {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if let Ok(policy) = HeaderValue::from_str(&self.content_security_policy) {
            headers.insert(HeaderName::from_static("content-security-policy"), policy);
        }
    }
}

/// The document in a language, without the key of a page.
fn fill_template(language: Language) -> String {
    let mut texts = language.texts();
    // The script does not need the texts that are in the template.
    let fixed = texts.remove("document").unwrap_or_default();
    let mut html = TEMPLATE.replace("{{language}}", language.tag());
    for (name, text) in fixed.as_object().into_iter().flatten() {
        html = html.replace(&format!("{{{{text:{name}}}}}"), &escape_html(text.as_str().unwrap_or_default()));
    }
    // In JSON, no `<` can end the element.
    let texts = Value::Object(texts).to_string().replace('<', "\\u003c");
    html.replace("{{texts}}", &texts).replace("{{style}}", STYLE).replace("{{script}}", SCRIPT)
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
