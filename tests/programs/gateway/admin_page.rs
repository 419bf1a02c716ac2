//! The operator's page: what its document may do, and how it behaves in a browser.
//!
//! Tests in a browser are in `web::browser::operators_page`.

use hyper::Method;

use super::devices::FleetGateway;

const SECURITY_HEADERS: [(&str, &str); 6] = [
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

#[test]
fn the_page_needs_no_token_holds_no_data_and_can_load_nothing() {
    let fleet = FleetGateway::with("");
    let gateway = fleet.start();
    let page = gateway.get("/admin/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    for directive in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(directive), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let html = page.text();
    assert!(!html.contains("{{") && !html.contains("src=") && !html.contains("href="), "{html}");
    assert!(!html.contains("innerHTML") && !html.contains("localStorage") && !html.contains("cookie"));
    assert!(page.header("set-cookie").is_empty());
    // Paths in the page are relative to one with a slash at its end.
    let redirect = gateway.get("/admin");
    assert_eq!((redirect.status, redirect.header("location")), (308, "admin/"));
    assert_eq!(gateway.send(Method::POST, "/admin/", &[], Vec::new()).status, 401);
    for path in ["/admin/", "/admin", "/admin/devices", "/admin/refused", "/admin/no-such-path"] {
        let response = gateway.get(path);
        for (name, value) in SECURITY_HEADERS {
            assert_eq!(response.header(name), value, "{path} {name}");
        }
        assert!(response.header("access-control-allow-origin").is_empty(), "{path}");
    }
}
