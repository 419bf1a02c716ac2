//! The document: one file, in which everything stands that it needs, and what a browser is told about it.
//!
//! The browser runs the script and applies the style that are written here, known by their digests, and
//! nothing else; it loads nothing, asks nobody but this address, and is in nobody's frame.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use ring::digest::{SHA256, digest};

use super::identity::PageKey;

const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

const PROTECTION: [(&str, &str); 7] = [
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

pub(super) struct Page {
    html: String,
    policy: String,
}

impl Page {
    pub(super) fn new() -> Self {
        let html = DOCUMENT.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
        let known = |text: &str| BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            known(SCRIPT),
            known(STYLE),
        );
        Self { html, policy }
    }

    /// The document, with the key by which this copy of it knows the daemon again.
    pub(super) fn html(&self, page: &PageKey) -> String {
        self.html.replace("{{page}}", &page.id).replace("{{key}}", &page.key)
    }

    /// What every answer says to a browser, a refusal, too.
    pub(super) fn protect(&self, headers: &mut HeaderMap) {
        for (name, value) in PROTECTION {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if let Ok(policy) = HeaderValue::from_str(&self.policy) {
            headers.insert(HeaderName::from_static("content-security-policy"), policy);
        }
    }
}
