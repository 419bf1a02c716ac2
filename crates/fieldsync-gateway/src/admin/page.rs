//! The operator's page: one HTML document with script and style inline, and the headers that protect it.
//!
//! The document holds no data, so it needs no token: its script asks for the token and calls the paths beside it. The
//! browser runs only this script and applies only this style, identified by their digests. It loads nothing else,
//! connects only to this gateway, and shows the page in no frame.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, ContentType, LOCATION};
use actix_web::middleware::DefaultHeaders;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::digest::sha256;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// One script: its parts see each other's names, and everything else does not.
const SCRIPT: &str = concat!(
    "\"use strict\";\n(() => {\n",
    include_str!("page/script/texts.js"),
    include_str!("page/script/calls.js"),
    include_str!("page/script/devices.js"),
    include_str!("page/script/review.js"),
    include_str!("page/script/session.js"),
    "})();\n",
);

static DOCUMENT: LazyLock<PageDocument> = LazyLock::new(PageDocument::new);

const SECURITY_HEADERS: [(&str, &str); 7] = [
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

struct PageDocument {
    html: String,
    content_security_policy: String,
}

impl PageDocument {
    fn new() -> Self {
        let digest_of = |text: &str| BASE64_STANDARD.encode(sha256(text.as_bytes()));
        let content_security_policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            digest_of(SCRIPT),
            digest_of(STYLE),
        );
        let html = TEMPLATE.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
        Self { html, content_security_policy }
    }
}

/// For every response below `/admin`, errors included.
pub(super) fn security_headers() -> DefaultHeaders {
    let policy = (CONTENT_SECURITY_POLICY, DOCUMENT.content_security_policy.as_str());
    SECURITY_HEADERS.into_iter().fold(DefaultHeaders::new().add(policy), DefaultHeaders::add)
}

pub(super) async fn get_page() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::html()).body(DOCUMENT.html.as_str())
}

/// The paths that the page calls are relative to one with a slash at its end.
pub(super) async fn redirect_to_page() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((LOCATION, "admin/")).finish()
}
