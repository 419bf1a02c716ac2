//! SIGHUP: what is read again, and what a mistake changes.

use super::configuration::Setup;
use crate::support::device::Batch;
use crate::support::gateway::Gateway;
use crate::support::http::{HttpResponse, borrow_headers};
use crate::support::notify::NotifySocket;
use crate::support::wait::wait_for;

const READ_AGAIN: &str = "the configuration was read again";

fn post_with(gateway: &Gateway, token: &str) -> HttpResponse {
    let batch = Batch::of(&["{}"]);
    let mut headers = batch.headers();
    headers.push(("authorization".into(), format!("Bearer {token}")));
    gateway.send(
        hyper::Method::POST,
        fieldsync::protocol::wire::BATCH_PATH,
        &borrow_headers(&headers),
        batch.body(),
    )
}

/// Reloads, and waits until the log has this text once more.
fn reload(setup: &Setup, gateway: &Gateway, expected: &str) {
    let before = setup.log().matches(expected).count();
    gateway.signal("HUP");
    wait_for(expected, || (setup.log().matches(expected).count() > before).then_some(()));
}

#[test]
fn a_reload_reads_tokens_from_the_file_that_is_named_now() {
    let setup = Setup::with("");
    let (old, new) = (setup.place("old", "old-token\n"), setup.place("new", "new-token\n"));
    setup.write(&format!("token_file = '{old}'\n"));
    let gateway = setup.start(&[]);
    assert_eq!(post_with(&gateway, "old-token").status, 200);
    setup.write(&format!("token_file = '{new}'\n"));
    reload(&setup, &gateway, READ_AGAIN);
    assert_eq!(
        (post_with(&gateway, "old-token").status, post_with(&gateway, "new-token").status),
        (401, 200)
    );
    // A file with a mistake changes nothing, and the log names it.
    setup.place("new", "");
    reload(&setup, &gateway, "the tokens stay as they were");
    assert_eq!(post_with(&gateway, "new-token").status, 200);
}

#[test]
fn a_broken_file_changes_nothing_and_the_log_names_the_mistake() {
    let setup = Setup::with("");
    let tokens = setup.place("tokens", "first\n");
    setup.write(&format!("token_file = '{tokens}'\n"));
    let gateway = setup.start(&[]);
    setup.place("tokens", "second\n");
    setup.write(&format!("token_file = '{tokens}'\nmax_bytes = 1\n"));
    reload(&setup, &gateway, "the former one stays in effect");
    let log = setup.log();
    assert!(log.contains("unknown key max_bytes in [gateway]") && log.contains("ERROR"), "{log}");
    assert_eq!(post_with(&gateway, "first").status, 200);
    setup.write(&format!("token_file = '{tokens}'\n"));
    reload(&setup, &gateway, READ_AGAIN);
    assert_eq!((post_with(&gateway, "first").status, post_with(&gateway, "second").status), (401, 200));
}

#[test]
fn keys_that_need_a_restart_are_named() {
    let setup = Setup::with("max_body_bytes = \"100kB\"\n");
    let gateway = setup.start(&[]);
    setup.write("max_body_bytes = \"200kB\"\nkeep_answers = \"9d\"\nkeep_records = \"90d\"\n[forward]\nmax_records = 9\n[destination]\ntime_budget = \"9s\"\n");
    for _ in 0..2 {
        reload(&setup, &gateway, READ_AGAIN);
    }
    let log = setup.log();
    for key in [
        "gateway.max_body_bytes",
        "gateway.keep_answers",
        "gateway.keep_records",
        "[forward]",
        "destination.time_budget",
    ] {
        // The second reload names it again: it is still not in effect.
        let warning = format!("{key} changed and takes effect at the next start");
        assert_eq!(log.matches(&warning).count(), 2, "{key}: {log}");
    }
    assert!(!log.contains("gateway.listen changed"), "{log}");
}

#[test]
fn a_reload_replaces_the_destination_unless_it_cannot_be_used() {
    let setup = Setup::with_zoho();
    let gateway = setup.start(&[]);
    wait_for("the line of the start", || setup.log().contains("destination=zoho").then_some(()));
    setup.write(&setup.zoho("https://accounts.zoho.com"));
    reload(&setup, &gateway, "the destination was read again");
    setup.place("secret", "");
    reload(&setup, &gateway, "the former one stays in use");
    assert!(setup.log().contains("destination.zoho.client_secret_file"), "{}", setup.log());
    // Without a destination, the rest of the gateway works differently.
    setup.write("");
    reload(&setup, &gateway, "destination.kind changed and takes effect at the next start");
    assert_eq!(gateway.get("/healthz").status, 200);
}

#[test]
fn systemd_learns_of_the_start_of_reloads_and_of_the_end() {
    let setup = Setup::with("");
    let mut socket = NotifySocket::new(setup.directory.path());
    let mut command = setup.command(&[]);
    command.env("NOTIFY_SOCKET", &socket.path);
    let gateway = Gateway::start_by(command);
    socket.wait_for("READY=1");
    socket.wait_for(&format!("STATUS=Listening on {}, destination: none", gateway.url()));
    gateway.signal("HUP");
    socket.wait_for("RELOADING=1");
    let is_ready_again = |socket: &mut NotifySocket| {
        socket.received_lines().iter().filter(|line| *line == "READY=1").count() == 2
    };
    wait_for("the end of the reload", || is_ready_again(&mut socket).then_some(()));
    assert!(socket.received_lines().iter().any(|line| line.starts_with("MONOTONIC_USEC=")));
    setup.write("[gatway]\n");
    gateway.signal("HUP");
    wait_for("the mistake in the status", || {
        let lines = socket.received_lines();
        lines.iter().any(|line| line.starts_with("STATUS=") && line.contains("cannot be used")).then_some(())
    });
    gateway.signal("TERM");
    socket.wait_for("STOPPING=1");
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
}
