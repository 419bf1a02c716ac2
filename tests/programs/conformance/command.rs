//! The command itself: options, output, exit codes.

use std::fs;

use super::kit::{judge, run_kit};
use crate::support::faulty_server::{FaultyServer, ServerFault};
use crate::support::gateway::Gateway;
use crate::support::ports::free_address;
use crate::support::wait::{directory, wait_for};

#[test]
fn wrong_usage_is_told_apart_from_a_point_that_fails() {
    let directory = directory();
    let empty = directory.path().join("empty");
    fs::write(&empty, "# no token\n").unwrap();
    let empty = empty.to_str().unwrap();
    let digests = directory.path().join("digests");
    let lines = format!("sha256:{}\nf5b3a60e-9d0c-4b5c-8c5e-0a4a3e2d7c11 token\n", "a".repeat(64));
    fs::write(&digests, lines).unwrap();
    let digests = digests.to_str().unwrap();
    for arguments in [
        &[][..],
        &["ftp://127.0.0.1"],
        &["http://user:password@127.0.0.1"],
        &["http://127.0.0.1/crm/v2/mobile/sync/batch"],
        &["http://127.0.0.1:99999"],
        &["http://127.0.0.1", "--path", "batch"],
        &["http://127.0.0.1", "--path", "/"],
        &["http://127.0.0.1", "--token-file", digests],
        &["http://127.0.0.1", "--token-file", "/does/not/exist"],
        &["http://127.0.0.1", "--token-file", empty],
        &["http://127.0.0.1", "--ca", empty],
        &["http://127.0.0.1", "--time-limit", "soon"],
        &["http://127.0.0.1", "--unknown"],
    ] {
        let ran = run_kit(arguments);
        assert_eq!(ran.code, Some(64), "{arguments:?}: {ran:?}");
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
    assert_eq!(run_kit(&["--help"]).code, Some(0));
}

#[test]
fn without_a_server_no_point_is_judged() {
    let ran = run_kit(&[&format!("http://{}", free_address())]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("no point was judged at http://127."), "{}", ran.stderr);
    assert!(ran.stderr.contains("no server responds: "), "{}", ran.stderr);
    let ran = run_kit(&[&format!("http://{}", free_address()), "--json"]);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, report["points"].as_array().unwrap().len()), (Some(1), 0));
    assert!(report["error"].as_str().unwrap().contains("no server responds: "), "{report}");
}

#[test]
fn a_wrong_token_or_path_is_named_once_instead_of_by_every_point() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("token"), "s3cret-token\n").unwrap();
    fs::write(path("other"), "another-token\n").unwrap();
    let (token, other) = (path("token"), path("other"));
    let gateway = Gateway::start(directory.path(), &["--token-file", &token]);
    for (arguments, expected) in [
        (&[][..], "requires a token (--token-file): HTTP 401 "),
        (&["--token-file", &other], "refuses the token of --token-file"),
        (&["--token-file", &token, "--path", "/other"], "takes no batches at this path (--path): HTTP 404 "),
    ] {
        let ran = run_kit(&[&[gateway.url().as_str()], arguments].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}

#[test]
fn a_server_that_asks_for_endless_waits_is_judged_within_the_time_limit() {
    let server = FaultyServer::start(&[ServerFault::AsksForEndlessWaits]);
    // Without a response to its first request, the kit judges no point. A busy machine may take too long for it.
    let (report, all_hold) = wait_for("a report with points", || {
        Some(judge(&server.url(), &["--time-limit", "50ms"])).filter(|(report, _)| !report.points.is_empty())
    });
    assert!(!all_hold && report.ids("failed").contains(&"sending.applied"), "{report:#?}");
}

#[test]
fn people_read_what_was_expected_and_found_and_where_it_is_written() {
    let server = FaultyServer::start(&[ServerFault::PlainNotFound]);
    let ran = run_kit(&[&server.url()]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let (_, failed) = ran.stdout.split_once("FAILED   lookup.unknown ").unwrap();
    for line in [
        "\n           expected: HTTP 404 with the code UNKNOWN_BATCH\n",
        "\n           found: HTTP 404 Not Found",
        "\n           see: docs/wire-protocol.md, Looking up an outcome\n",
    ] {
        assert!(failed.contains(line), "{}", ran.stdout);
    }
    assert!(ran.stdout.contains("\n           because: there is no --restart-command\n"), "{}", ran.stdout);
    let last = ran.stdout.lines().last().unwrap();
    assert!(last.contains(" points: ") && last.contains(" 1 failed, "), "{last}");
}

#[test]
fn a_server_with_tls_a_token_and_another_path_is_judged() {
    let directory = directory();
    let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("cert.pem"), issued.cert.pem()).unwrap();
    fs::write(path("key.pem"), issued.signing_key.serialize_pem()).unwrap();
    fs::write(path("token"), "s3cret-token\n").unwrap();
    let options = ["--tls-cert", &path("cert.pem"), "--tls-key", &path("key.pem"), "--path", "/sync"];
    let token = ["--token-file", &path("token")];
    let gateway = Gateway::start(directory.path(), &[&options[..], &token].concat());
    let (report, all_hold) =
        judge(&gateway.url(), &[&token[..], &["--ca", &path("cert.pem"), "--path", "/sync"]].concat());
    assert!(all_hold, "{report:#?}");
    assert!(report.ids("ok").contains(&"token.batch"), "{report:#?}");
    let ran = run_kit(&[&gateway.url(), "--path", "/sync"]);
    assert_eq!(ran.code, Some(1), "the certificate is not trusted without --ca");
    assert!(ran.stderr.contains("no server responds"), "{}", ran.stderr);
}
