//! Other web sites in the same browser cannot use the page.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use ring::digest::{SHA256, digest};

use crate::support::daemon::Daemon;
use crate::support::http::HttpResponse;
use crate::support::settings::Settings;
use crate::support::web::{CODE, Page, with_code, with_page};

const PATHS: [&str; 4] = ["/", "/v1/status", "/v1/review", "/nothing"];

fn refused(response: &HttpResponse, status: u16, code: &str) {
    assert_eq!((response.status, response.code().as_str()), (status, code), "{}", response.text());
}

#[test]
fn only_the_addresses_of_this_device_are_accepted_as_host() {
    let daemon = Daemon::start(&with_page(&Settings::default()));
    let page = Page::of(&daemon);
    let port = page.0.port();
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let response = page.request_as(&format!("{host}:{port}"), Method::GET, "/v1/status", &[], "");
        assert_eq!(response.status, 200, "{host}");
    }
    for path in PATHS.into_iter().chain(["/v1/events"]) {
        for host in [
            "rebound.example".into(),
            format!("rebound.example:{port}"),
            "localhost".into(),
            "localhost:1".into(),
        ] {
            refused(&page.request_as(&host, Method::GET, path, &[], ""), 421, "wrong_host");
        }
    }
    for head in [
        "GET /v1/status HTTP/1.0\r\n\r\n".to_owned(),
        format!(
            "GET http://rebound.example/v1/status HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n\r\n"
        ),
        format!(
            "GET /v1/status HTTP/1.1\r\nhost: localhost:{port}\r\nhost: rebound.example\r\nconnection: close\r\n\r\n"
        ),
    ] {
        let response = crate::support::web::read_to_end(&page.raw(head.as_bytes()));
        assert!(!response.contains("device_id") && response.contains(" 4"), "{head}: {response}");
    }
}

#[test]
fn requests_of_another_site_are_refused_whatever_it_knows() {
    let daemon = with_code(&Settings::default(), &[]);
    let page = Page::of(&daemon);
    let own = format!("http://{}", page.0);
    let code = format!("Bearer {CODE}");
    let known = [("authorization", code.as_str()), ("content-type", "application/json")];
    for (headers, lines) in [
        (&[("sec-fetch-site", "same-origin")][..], true),
        (&[("sec-fetch-site", "same-origin"), ("origin", own.as_str())], true),
        (&[("sec-fetch-site", "none")], true),
        (&[], true),
        (&[("sec-fetch-site", "cross-site")], false),
        (&[("sec-fetch-site", "same-site")], false),
        (&[("origin", "http://rebound.example")], false),
        (&[("origin", "null")], false),
        (&[("origin", "http://127.0.0.1")], false),
        (&[("sec-fetch-site", "same-origin"), ("origin", "https://rebound.example")], false),
    ] {
        for path in ["/v1/status", "/v1/review", "/nothing"] {
            let response = page.request(Method::GET, path, headers, "");
            assert_eq!(response.status != 403, lines, "{path} {headers:?}: {}", response.text());
        }
        let all: Vec<_> = known.iter().chain(headers).copied().collect();
        let response = page.request(Method::POST, "/v1/quarantine/retry", &all, r#"{"all": true}"#);
        assert_eq!(response.status == 200, lines, "{headers:?}: {}", response.text());
        if !lines {
            refused(&response, 403, "other_site");
        }
    }
    let link =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    assert_eq!(page.request(Method::GET, "/", &link, "").status, 200, "a link leads here");
    refused(&page.request(Method::GET, "/v1/status", &link, ""), 403, "other_site");
    let frame = [link[0], link[1], ("sec-fetch-dest", "iframe")];
    refused(&page.request(Method::GET, "/", &frame, ""), 403, "other_site");
}

#[test]
fn every_response_tells_the_browser_to_trust_nothing_else() {
    let daemon = with_code(&Settings::default(), &[]);
    let page = Page::of(&daemon);
    let responses = PATHS
        .into_iter()
        .map(|path| page.get(path))
        .chain([
            page.request(Method::POST, "/v1/status", &[], "{}"),
            page.request(Method::OPTIONS, "/v1/status", &[("origin", "http://rebound.example")], ""),
            page.request_as("rebound.example", Method::GET, "/", &[], ""),
            page.retry(CODE, &serde_json::json!({"all": true})),
            page.retry("guessed", &serde_json::json!({"all": true})),
        ])
        .collect::<Vec<_>>();
    for response in &responses {
        for (name, value) in [
            ("cache-control", "no-store"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(response.header(name), value, "{} {name}", response.status);
        }
        for name in response.headers.keys() {
            let name = name.as_str();
            assert!(!name.starts_with("access-control") && name != "set-cookie", "{name}");
        }
        let policy = response.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split("; ").any(|rule| rule == part), "{policy} lacks {part}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[test]
fn the_page_is_one_document_and_its_script_and_style_are_those_that_may_run() {
    let daemon = Daemon::start(&with_page(&Settings::default()));
    for language in ["en", "de", "es"] {
        let response = Page::of(&daemon).request(Method::GET, "/", &[("accept-language", language)], "");
        assert_eq!((response.status, response.header("content-type")), (200, "text/html; charset=utf-8"));
        let html = response.text();
        assert!(!html.contains("{{"), "everything is filled in");
        for outside in
            ["http:", "https:", "src=", "<link", "@import", "url(", "innerHTML", "onclick", "style="]
        {
            assert!(!html.contains(outside), "the page holds {outside}");
        }
        let policy = response.header("content-security-policy");
        for (tag, rule) in [("script", "script-src"), ("style", "style-src")] {
            let parts: Vec<&str> = html.split(&format!("<{tag}>")).collect();
            assert_eq!(parts.len(), 2, "one {tag}");
            let text = parts[1].split_once(&format!("</{tag}>")).unwrap().0;
            let known = BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
            let rule = format!("{rule} 'sha256-{known}'");
            assert!(policy.split("; ").any(|known| known == rule), "{policy} lacks {rule}");
        }
    }
}

#[test]
fn the_page_is_in_the_language_that_the_browser_asks_for() {
    let daemon = Daemon::start(&with_page(&Settings::default()));
    for (wanted, language, waiting) in [
        (None, "en", "Waiting"),
        (Some("fr"), "en", "Waiting"),
        (Some("de-AT,de;q=0.9,en;q=0.8"), "de", "Wartet"),
        (Some("ca,es;q=0.8"), "es", "En espera"),
    ] {
        let headers: Vec<_> = wanted.map(|wanted| ("accept-language", wanted)).into_iter().collect();
        let response = Page::of(&daemon).request(Method::GET, "/", &headers, "");
        assert_eq!(
            (response.header("content-language"), response.header("vary")),
            (language, "accept-language")
        );
        let html = response.text();
        assert!(html.contains(&format!("<html lang=\"{language}\">")), "{wanted:?}");
        assert!(html.contains(&format!("<h2 id=\"waiting-title\">{waiting} ")), "{wanted:?}");
    }
}

#[test]
fn there_is_nothing_else_under_the_address() {
    let daemon = with_code(&Settings::default(), &[]);
    let page = Page::of(&daemon);
    let id = daemon.enqueue_many(1).remove(0);
    for path in [
        "/v1/records".to_owned(),
        format!("/v1/records/{id}?payload=true"),
        "/v1/manifest".into(),
        "/v1/batches".into(),
        "/v1/telemetry".into(),
        "/metrics".into(),
        "/v1/openapi.json".into(),
        "/favicon.ico".into(),
        "//v1/status".into(),
        "/../v1/records".into(),
    ] {
        refused(&page.get(&path), 404, "not_found");
    }
    let code = format!("Bearer {CODE}");
    let known = [("authorization", code.as_str()), ("content-type", "application/json")];
    for path in ["/v1/pause", "/v1/quarantine/add", "/v1/quarantine/discard", "/v1/records"] {
        refused(
            &page.request(Method::POST, path, &known, r#"{"all": true, "confirm": true}"#),
            404,
            "not_found",
        );
    }
    for (method, path) in [
        (Method::POST, "/"),
        (Method::PUT, "/v1/status"),
        (Method::DELETE, "/v1/review"),
        (Method::POST, "/v1/events"),
        (Method::OPTIONS, "/v1/quarantine/retry"),
    ] {
        refused(&page.request(method, path, &known, "{}"), 405, "method_not_allowed");
    }
    for path in ["/v1/quarantine/retry", "/v1/sync", "/v1/resume"] {
        refused(&page.get(path), 405, "method_not_allowed");
    }
    assert_eq!(daemon.counts().pending, 1);
}
