//! A replaced credential resumes sending by itself: any other trigger would come minutes later.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::secrets::place;
use crate::support::server::{Gate, Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// A server that accepts one token.
pub(super) fn asking_for(token: &str) -> impl Fn(&Request) -> Reply + Send + 'static {
    let expected = format!("Bearer {token}");
    move |request| {
        if request.header("authorization") == expected {
            Reply::correct(request)
        } else {
            Reply::error(401, "UNAUTHORIZED")
        }
    }
}

/// The file `token` has a token that the server refuses; afterwards only `renew` is called.
#[track_caller]
fn ends_the_stop(home: Home, token: &Path, renew: impl FnOnce(&Daemon)) {
    let server = ScriptedServer::start(asking_for("new"));
    home.configure(
        &Settings::for_server(&server.url())
            .with("server.token_file", token.to_str().unwrap())
            .with("retry.max_backoff", "10m"),
    );
    let daemon = home.start();
    daemon.enqueue_many(3);
    daemon.wait_for_phase("auth_required");
    assert_eq!(server.batches().len(), 1, "no request is repeated with the same token");
    renew(&daemon);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    let batches = server.batches();
    assert_eq!((batches.len(), batches[1].header("authorization")), (2, "Bearer new"));
    assert_eq!((batches[0].batch_id(), &batches[0].body), (batches[1].batch_id(), &batches[1].body));
}

fn with_old_token(renew: impl FnOnce(&Path)) {
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, "old\n", 0o600);
    ends_the_stop(home, &token, |_| renew(&token));
}

#[test]
fn a_token_that_is_renamed_into_place_is_used_at_once() {
    with_old_token(|token| place(token, "new\n", 0o600));
}

#[test]
fn a_token_that_is_written_in_place_is_used_at_once() {
    with_old_token(|token| fs::write(token, "new\n").unwrap());
}

#[test]
fn a_token_that_is_deleted_and_recreated_is_used_at_once() {
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, "old\n", 0o600);
    ends_the_stop(home, &token, |daemon| {
        fs::remove_file(&token).unwrap();
        daemon.wait_until("the loss to be seen", |status| {
            let error = status["sync"]["last_error"]["message"].as_str().unwrap();
            error.contains("cannot be read")
        });
        place(&token, "new\n", 0o600);
    });
}

#[test]
fn a_token_behind_a_replaced_symbolic_link_is_used_at_once() {
    let home = Home::new(&Settings::default());
    for version in ["old", "new"] {
        fs::create_dir(home.path(version)).unwrap();
        place(&home.path(version).join("token"), version, 0o600);
    }
    fs::create_dir(home.path("etc")).unwrap();
    let (token, current) = (home.path("etc/token"), home.path("current"));
    symlink("../current/token", &token).unwrap();
    symlink("old", &current).unwrap();
    ends_the_stop(home, &token, |daemon| {
        let swap = daemon.home.path("swap");
        symlink("new", &swap).unwrap();
        fs::rename(swap, &current).unwrap();
    });
}

#[test]
fn a_token_whose_directory_is_replaced_is_used_at_once() {
    let home = Home::new(&Settings::default());
    let (secrets, token) = (home.path("secrets"), home.path("secrets/token"));
    fs::create_dir(&secrets).unwrap();
    place(&token, "old", 0o600);
    ends_the_stop(home, &token, |daemon| {
        let next = daemon.home.path("next");
        fs::create_dir(&next).unwrap();
        place(&next.join("token"), "new", 0o600);
        fs::rename(&secrets, daemon.home.path("past")).unwrap();
        fs::rename(&next, &secrets).unwrap();
    });
}

#[test]
fn the_same_token_again_changes_nothing() {
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, "old\n", 0o600);
    ends_the_stop(home, &token, |daemon| {
        let looks = || daemon.log().matches("the token and the certificates are the same as before").count();
        let before = looks();
        place(&token, "old", 0o600);
        wait_for("the look", || (looks() > before).then_some(()));
        assert_eq!(daemon.status()["sync"]["phase"], "auth_required");
        place(&token, "new", 0o600);
    });
}

#[test]
fn a_token_that_is_replaced_while_the_old_one_is_being_refused_is_tried_at_once() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = ScriptedServer::start(move |request| asking_for("new")(request).held_by(&held));
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, "old", 0o600);
    home.configure(
        &Settings::for_server(&server.url())
            .with("server.token_file", token.to_str().unwrap())
            .with("server.request_timeout", "1m")
            .with("retry.max_backoff", "10m"),
    );
    let daemon = home.start();
    daemon.enqueue_many(2);
    server.wait_for_batches(1);
    place(&token, "new", 0o600);
    daemon.wait_for_log("has changed; the new one is used");
    gate.open();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
}

#[test]
fn a_credential_of_systemd_is_used_and_watched() {
    let server = ScriptedServer::start(asking_for("new"));
    let home = Home::new(&Settings::for_server(&server.url()).with("retry.max_backoff", "10m"));
    let credentials = home.path("credentials");
    fs::create_dir(&credentials).unwrap();
    let mut command = home.command();
    command.env("CREDENTIALS_DIRECTORY", &credentials);
    let daemon = home.start_by(command);
    daemon.enqueue_many(1);
    daemon.wait_for_phase("auth_required");
    assert_eq!(server.batches()[0].header("authorization"), "", "it may be missing");
    // As systemd creates it: the access list appears as group permissions.
    place(&credentials.join("fieldsync-token"), "new\n", 0o440);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
}

#[test]
fn a_reload_to_another_token_file_is_followed() {
    let server = ScriptedServer::start(asking_for("new"));
    let home = Home::new(&Settings::default());
    let (old, new) = (home.path("old"), home.path("new"));
    place(&old, "old", 0o600);
    place(&new, "older", 0o600);
    let settings = Settings::for_server(&server.url()).with("retry.max_backoff", "10m");
    let with = |token: &Path| settings.clone().with("server.token_file", token.to_str().unwrap());
    home.configure(&with(&old));
    let daemon = home.start();
    daemon.enqueue_many(2);
    daemon.wait_for_phase("auth_required");
    daemon.home.configure(&with(&new));
    daemon.signal("HUP");
    server.wait_for_batches(2);
    daemon.wait_for_phase("auth_required");
    place(&new, "new", 0o600);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
    let sent: Vec<String> =
        server.batches().iter().map(|batch| batch.header("authorization").to_owned()).collect();
    assert_eq!(sent, ["Bearer old", "Bearer older", "Bearer new"]);
}
