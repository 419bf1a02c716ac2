//! Addresses of the server and its proxy: the checked address is the one that is used.

use std::fs;

use crate::support::daemon::{Counts, Daemon, daemon_command};
use crate::support::process::{ProgramOutput, run};
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

const UNENCRYPTED: &str = "the token and all records are sent unencrypted";

fn checked(text: &str, variables: &[(&str, &str)]) -> ProgramOutput {
    let directory = directory();
    let file = directory.path().join("config.toml");
    fs::write(&file, text).unwrap();
    let mut command = daemon_command();
    command.arg("--config").arg(&file).arg("--check-config").envs(variables.iter().copied());
    run(&mut command, b"")
}

/// The effective address.
#[track_caller]
fn effective(key: &str, address: &str) -> String {
    let ran = checked(&format!("[server]\n{key} = {address:?}\n"), &[]);
    assert_eq!(ran.code, Some(0), "{address:?}: {}", ran.stderr);
    let config: toml::Table = ran.stdout.parse().unwrap();
    config["server"][key].as_str().unwrap().to_owned()
}

#[test]
fn an_address_is_printed_as_it_is_used() {
    for (written, used) in [
        ("https://crm.example", "https://crm.example"),
        ("https://crm.example/", "https://crm.example"),
        ("HTTPS://CRM.Example:8443/base/", "https://crm.example:8443/base"),
        ("https://müller.example", "https://xn--mller-kva.example"),
        ("https://crm.example/büro", "https://crm.example/b%C3%BCro"),
        (" https://crm.example\r", "https://crm.example"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("", ""),
    ] {
        assert_eq!(effective("url", written), used, "{written:?}");
    }
    for (written, used) in [
        ("auto", "auto"),
        ("none\r", "none"),
        ("http://proxy.example:3128/", "http://proxy.example:3128"),
        ("http://Müller.example:3128", "http://xn--mller-kva.example:3128"),
    ] {
        assert_eq!(effective("proxy", written), used, "{written:?}");
    }
}

#[test]
fn an_address_that_cannot_be_used_is_refused() {
    for (key, address) in [
        ("url", "https://crm.exa mple"),
        ("url", "https://crm.exa\rmple"),
        ("url", "https://crm.example\n/base"),
        ("url", "https://"),
        ("url", "crm.example"),
        ("url", "https://crm.example:99999"),
        ("url", "https://[::1"),
        ("proxy", ""),
        ("proxy", "http://pro\txy"),
        ("proxy", "AUTO"),
        ("path", "/sync batch"),
        ("path", "/sync?x=1"),
        ("path", "/sync#part"),
        ("path", "/sync\u{e9}"),
    ] {
        let ran = checked(&format!("[server]\n{key} = {address:?}\n"), &[]);
        assert_eq!(ran.code, Some(78), "{address:?}");
        assert!(ran.stderr.contains(&format!("server.{key}: ")), "{address:?}: {}", ran.stderr);
    }
}

#[test]
fn records_are_sent_to_an_address_with_white_space_around_it() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server("http://127.0.0.1:1"));
    daemon.home.configure(&Settings::for_server(&format!("{}/ \r", server.url())));
    daemon.signal("HUP");
    daemon.wait_for_log("the configuration was read again");
    daemon.enqueue_many(2);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
}

#[test]
fn a_token_that_would_be_sent_unencrypted_is_reported_by_every_interface() {
    let directory = directory();
    let token = directory.path().join("token");
    place(&token, "sesame-open", 0o600);
    let token = token.to_str().unwrap();
    let with = |url: &str| format!("[server]\nurl = \"{url}\"\ntoken_file = \"{token}\"\n");
    for (url, is_told) in [
        ("http://crm.example", true),
        ("http://10.0.0.1:8080", true),
        ("http://[2001:db8::1]", true),
        ("https://crm.example", false),
        ("http://127.0.0.1:8080", false),
        ("http://localhost", false),
        ("http://[::1]:80", false),
    ] {
        let ran = checked(&with(url), &[]);
        assert_eq!((ran.code, ran.stderr.contains(UNENCRYPTED)), (Some(0), is_told), "{url}: {}", ran.stderr);
        assert!(is_told || ran.stderr.is_empty(), "{url}: {}", ran.stderr);
    }
    let ran = checked("[server]\nurl = \"http://crm.example\"\n", &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "without a token nothing of it is sent");
    let credentials = [("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap())];
    fs::rename(token, directory.path().join("fieldsync-token")).unwrap();
    let ran = checked("[server]\nurl = \"http://crm.example\"\n", &credentials);
    assert!(ran.stderr.contains(UNENCRYPTED), "a credential of systemd: {}", ran.stderr);

    place(&directory.path().join("token"), "sesame-open", 0o600);
    let settings = Settings::for_server("https://127.0.0.1:1").with("server.token_file", token);
    let daemon = Daemon::start(&settings);
    assert!(!daemon.log().contains(UNENCRYPTED), "{}", daemon.log());
    daemon.home.configure(&settings.with("server.url", "http://127.0.0.1.example.invalid:1"));
    daemon.signal("HUP");
    daemon.wait_for_log(UNENCRYPTED);
    let daemon = daemon.restart();
    wait_for("it at the start, too", || (daemon.log().matches(UNENCRYPTED).count() == 2).then_some(()));
}
