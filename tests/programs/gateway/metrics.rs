//! What `GET /metrics` of the gateway counts, and by which conventions.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use fieldsync::protocol::wire::BATCH_PATH;
use hyper::Method;
use uuid::Uuid;

use super::configuration::Setup;
use crate::support::device::Batch;
use crate::support::gateway::Gateway;
use crate::support::http::borrow_headers;
use crate::support::metrics::MetricsText;
use crate::support::postgres::LEDGERS_VARIABLE;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::wait::wait_for;

const PREFIX: &str = "fieldsync_gateway_";
const FAMILIES_MIN: usize = 25;

/// As Prometheus asks for them, and as other programs do.
const ACCEPTED: [&str; 2] = ["application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1", "*/*"];

fn read_metrics(gateway: &Gateway, accept: &str) -> MetricsText {
    let response = gateway.send(Method::GET, "/metrics", &[("accept", accept)], Vec::new());
    let is_open_metrics = response.header("content-type").starts_with("application/openmetrics-text");
    assert_eq!(is_open_metrics, accept.contains("openmetrics"));
    assert_eq!(is_open_metrics, response.text().ends_with("# EOF\n"));
    MetricsText::parse(&response.text())
}

fn metric(gateway: &Gateway, name: &str) -> u64 {
    gateway.metric(&format!("{PREFIX}{name}"))
}

#[test]
fn the_families_follow_the_conventions_before_and_after_traffic() {
    let setup = Setup::with("");
    let gateway = setup.start(&[]);
    let at_start = ACCEPTED.map(|accept| read_metrics(&gateway, accept));
    for metrics in &at_start {
        assert_eq!(metrics.lint(PREFIX), Vec::<String>::new());
        assert!(metrics.families.len() >= FAMILIES_MIN, "{:?}", metrics.families.keys());
    }
    assert_eq!(metric(&gateway, "http_requests_total{route=\"batch\",status_class=\"5xx\"}"), 0);
    gateway.post(&Batch::of(&["{}", "{}"]));
    gateway.get("/no/such/path");
    for made_up in 0..20 {
        gateway.get(&format!("/made/up/{made_up}"));
        gateway.get(&format!("{BATCH_PATH}/{}", Uuid::new_v4()));
    }
    for (accept, at_start) in ACCEPTED.into_iter().zip(at_start) {
        let after = read_metrics(&gateway, accept);
        assert_eq!(after.lint(PREFIX), Vec::<String>::new());
        assert!(at_start.families.keys().all(|name| after.families.contains_key(name)));
        let names = after.query_names();
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
            assert!(names.contains(name), "{name}");
        }
    }
}

#[test]
fn batches_requests_and_ledger_operations_are_counted_and_measured() {
    let setup = Setup::with("");
    let gateway = setup.start(&[]);
    let batch = Batch::of(&["{}", "{}", "{}"]);
    assert_eq!((gateway.post(&batch).status, gateway.post(&batch).status), (200, 200));
    assert_eq!(gateway.query_outcome(&batch).status, 200);
    assert_eq!(gateway.get("/no/such/path").status, 404);
    for (name, value) in [
        ("batches_total{outcome=\"settled\"}", 1),
        ("batches_total{outcome=\"replayed\"}", 1),
        ("batch_records_count", 2),
        ("batch_records_bucket{le=\"2.0\"}", 0),
        ("batch_records_bucket{le=\"5.0\"}", 2),
        ("batch_body_bytes_count", 2),
        ("http_requests_total{route=\"batch\",status_class=\"2xx\"}", 2),
        ("http_requests_total{route=\"outcome\",status_class=\"2xx\"}", 1),
        ("http_requests_total{route=\"other\",status_class=\"4xx\"}", 1),
        ("http_request_duration_seconds_count{route=\"batch\"}", 2),
        ("http_requests_in_flight", 1),
        ("ledger_operations_total{kind=\"write\",result=\"error\"}", 0),
        ("batch_processing_duration_seconds_count", 2),
        (concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1),
    ] {
        assert_eq!(metric(&gateway, name), value, "{name}");
    }
    assert!(metric(&gateway, "ledger_operations_total{kind=\"write\",result=\"ok\"}") > 0);
    assert!(metric(&gateway, "ledger_operation_duration_seconds_count{kind=\"write\"}") > 0);
    let has_file = std::env::var_os(LEDGERS_VARIABLE).is_none();
    assert!(metric(&gateway, "ledger_size_bytes") > 0 || !has_file);
    assert!(metric(&gateway, "ledger_records") > 0 || !has_file);
    let idle = TcpStream::connect(gateway.address).unwrap();
    wait_for("the open connection", || (metric(&gateway, "connections_open") >= 2).then_some(()));
    drop(idle);
    wait_for("its end", || (metric(&gateway, "connections_open") == 1).then_some(()));
}

#[test]
fn refusals_and_reloads_are_counted_by_their_reason() {
    let setup = Setup::with("");
    let owner = Uuid::new_v4();
    let tokens = setup.place("tokens", &format!("general-token\n{owner} device-token\n"));
    setup.write(&format!("token_file = '{tokens}'\n"));
    let gateway = setup.start(&[]);
    assert_eq!(metric(&gateway, "tokens{kind=\"device\"}"), 2);
    assert_eq!(gateway.post(&Batch::of(&["{}"])).status, 401);
    let batch = Batch::of(&["{}"]);
    let mut headers = batch.headers();
    headers.push(("authorization".into(), "Bearer device-token".into()));
    let refused = gateway.send(Method::POST, BATCH_PATH, &borrow_headers(&headers), batch.body());
    assert_eq!(refused.status, 403);
    for reason in ["token", "device"] {
        assert_eq!(metric(&gateway, &format!("auth_failures_total{{reason=\"{reason}\"}}")), 1, "{reason}");
    }
    assert_eq!(metric(&gateway, "config_last_reload_successful"), 1);
    setup.place("tokens", "");
    gateway.signal("HUP");
    wait_for("the failed reload", || {
        (metric(&gateway, "config_reloads_total{result=\"failure\"}") == 1).then_some(())
    });
    assert_eq!(metric(&gateway, "config_last_reload_successful"), 0);
    assert_eq!(metric(&gateway, "tokens{kind=\"device\"}"), 2, "the former ones stay valid");
    setup.place("tokens", "one\ntwo\nthree\n");
    gateway.signal("HUP");
    wait_for("the reload", || (metric(&gateway, "tokens{kind=\"device\"}") == 3).then_some(()));
    assert_eq!(metric(&gateway, "config_last_reload_successful"), 1);
    assert!(metric(&gateway, "config_last_reload_success_timestamp_seconds") > 1_700_000_000);
}

#[test]
fn forwarding_reports_requests_by_outcome_and_the_age_of_what_waits() {
    let receiver = ScriptedServer::start(|_| Reply::text(503, "text/plain", "later"));
    let setup = Setup::with(&format!("[forward]\nurl = \"{}\"\n", receiver.url()));
    let gateway = setup.start(&[]);
    gateway.post(&Batch::of(&["{}"])).batch();
    wait_for("records that have waited", || {
        (metric(&gateway, "forward_oldest_waiting_seconds") >= 1).then_some(())
    });
    assert!(metric(&gateway, "forward_requests_total{outcome=\"retry_later\"}") >= 1);
    assert!(metric(&gateway, "forward_request_duration_seconds_count") >= 1);
    receiver.set_script(|_| Reply::text(204, "text/plain", ""));
    wait_for("the end of the wait", || {
        (metric(&gateway, "forward_requests_total{outcome=\"accepted\"}") == 1
            && metric(&gateway, "forward_oldest_waiting_seconds") == 0)
            .then_some(())
    });
    assert_eq!(metric(&gateway, "forwarded_total"), 1);
}

#[test]
fn failed_handshakes_and_the_expiry_of_the_certificate_are_reported() {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let setup = Setup::with("");
    let certificate = setup.place("cert.pem", &issued.cert.pem());
    let key = setup.place("key.pem", &issued.signing_key.serialize_pem());
    setup.write(&format!("tls_cert_file = '{certificate}'\ntls_key_file = '{key}'\n"));
    let gateway = setup.start(&[]);
    // A health check of a load balancer is not a failed handshake.
    for _ in 0..3 {
        let mut check = TcpStream::connect(gateway.address).unwrap();
        check.shutdown(Shutdown::Write).unwrap();
        check.read_to_end(&mut Vec::new()).unwrap();
    }
    let mut plain = TcpStream::connect(gateway.address).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    // The gateway ends the connection with an alert.
    drop(plain.read_to_end(&mut Vec::new()));
    let mut text = String::new();
    wait_for("the failed handshake", || {
        text = super::tls::get_over_tls(&gateway, issued.cert.der(), "/metrics");
        text.contains(&format!("{PREFIX}tls_handshake_failures_total 1\n")).then_some(())
    });
    let expiry = format!("{PREFIX}tls_certificate_expiry_timestamp_seconds ");
    let expiry = text.lines().find_map(|line| line.strip_prefix(&expiry)).unwrap();
    // The year 4096, as the crate issues certificates.
    assert_eq!(expiry, "67090118400");
}
