//! The HTML document of the page, with script and style inline, and the headers that protect it.
//!
//! The browser runs only this script and applies only this style, identified by their digests. It loads nothing else,
//! connects only to the daemon, and shows the page in no frame.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use ring::digest::{SHA256, digest};

use super::identity::PageKey;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

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
    html: String,
    content_security_policy: String,
}

impl PageDocument {
    pub(super) fn new() -> Self {
        let html = TEMPLATE.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
        let sha256 = |text: &str| BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            sha256(SCRIPT),
            sha256(STYLE),
        );
        Self { html, content_security_policy: policy }
    }

    /// The document with the key of one page.
    pub(super) fn render_html(&self, page: &PageKey) -> String {
        self.html.replace("{{page}}", &page.id).replace("{{key}}", &page.key)
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
