//! `fieldsync setup`: one command connects a device to a server.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::support::daemon::{Counts, Home, cli_command};
use crate::support::process::{ProgramOutput, run};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

/// PEM with something else in it.
const NO_CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----\nZ2FyYmFnZQ==\n-----END CERTIFICATE-----\n";

fn setup(home: &Home, arguments: &[&str], input: &[u8]) -> ProgramOutput {
    let mut command = cli_command(home.socket(), &["setup"]);
    run(command.args(arguments).arg("--config").arg(home.path("config.toml")), input)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_device_is_set_up_by_one_command_and_a_reload() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Home::new(&Settings::default()).start();
    daemon.enqueue_many(2);
    let ran = setup(&daemon.home, &["--url", &server.url(), "--token-file", "-"], b"sesame-open\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.stderr.contains("conf.d/10-setup.toml") && !ran.stderr.contains("sesame"), "{}", ran.stderr);
    let (token, drop_in) = (daemon.home.path("token"), daemon.home.path("conf.d/10-setup.toml"));
    assert_eq!((mode(&token), mode(&drop_in)), (0o600, 0o644));
    let owner = fs::metadata(daemon.home.path("state")).unwrap().uid();
    assert_eq!(fs::metadata(&token).unwrap().uid(), owner);
    daemon.signal("HUP");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
    assert_eq!(server.batches()[0].header("authorization"), "Bearer sesame-open");

    // What is not named stays.
    let ran = setup(&daemon.home, &["--url", &server.url(), "--proxy", "none"], b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let text = fs::read_to_string(&drop_in).unwrap();
    assert!(text.contains("token_file = ") && text.contains("proxy = \"none\""), "{text}");
}

#[test]
fn what_would_be_refused_is_not_written() {
    let home = Home::new(&Settings::default());
    for (arguments, input, words) in [
        (&["--url", "ftp://crm"][..], &b""[..], "server.url: must be http://"),
        (&["--url", "http://crm", "--proxy", "socks5://x"], b"", "server.proxy: "),
        (&["--url", "http://crm", "--token-file", "-"], b"two words", "the token must be one word"),
        (&["--url", "http://crm", "--token-file", "/nowhere"], b"", "cannot read /nowhere"),
        (&["--url", "http://crm", "--ca", "/nowhere"], b"", "cannot read /nowhere"),
        (&["--url", "crm.example.com"], b"", "the URL must begin with https:// or http://"),
        (&["--url", " "], b"", "--url must name a server"),
        (&["--url", "http://crm", "--ca", "-"], b"garbage\n", "it holds no certificate"),
        (&["--url", "http://crm", "--ca", "-"], b"", "it holds no certificate"),
        (&["--url", "http://crm", "--ca", "-"], NO_CERTIFICATE, "its certificate number 1 cannot be used"),
        (&["--url", "http://crm", "--token-file", "-"], &vec![b'A'; (64 << 10) + 1], "is larger than 64 KiB"),
    ] {
        let ran = setup(&home, arguments, input);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(words) && ran.stderr.contains("Nothing was changed"), "{}", ran.stderr);
        assert!(!home.path("conf.d").exists() && !home.path("token").exists(), "{arguments:?}");
    }
}

#[test]
fn what_a_later_file_or_a_variable_overrides_is_refused_with_its_name() {
    let home = Home::new(&Settings::for_server("http://127.0.0.1:1"));
    fs::create_dir(home.path("conf.d")).unwrap();
    let fleet = home.path("conf.d/20-fleet.toml");
    fs::write(&fleet, "[server]\nurl = \"http://127.0.0.1:2\"\n").unwrap();
    let ran = setup(&home, &["--url", "http://127.0.0.1:3"], b"");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for part in ["server.url is set in ", "/conf.d/20-fleet.toml:2, ", "Nothing was changed"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert!(!home.path("conf.d/10-setup.toml").exists());
    // The same value, in the form that the daemon gives it, is in effect.
    assert_eq!(setup(&home, &["--url", "http://127.0.0.1:2/"], b"").code, Some(0));

    fs::remove_file(fleet).unwrap();
    let mut command = home.command();
    command.env("FIELDSYNC_SERVER__PROXY", "http://127.0.0.1:4");
    let daemon = home.start_by(command);
    let ran = setup(&daemon.home, &["--url", "http://127.0.0.1:2", "--proxy", "none"], b"");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr.contains("FIELDSYNC_SERVER__PROXY of the service sets server.proxy"),
        "{}",
        ran.stderr
    );
    assert_eq!(setup(&daemon.home, &["--url", "http://127.0.0.1:2"], b"").code, Some(0));
}

#[test]
fn the_token_of_one_server_is_not_sent_to_another() {
    let home = Home::new(&Settings::default());
    let drop_in = home.path("conf.d/10-setup.toml");
    let first = ["--url", "https://one.example", "--token-file", "-"];
    assert_eq!(setup(&home, &first, b"first\n").code, Some(0));
    let ran = setup(&home, &["--url", "https://two.example"], b"");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for part in ["/token belongs to https://one.example", "--token-file FILE", "--keep-token"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert!(fs::read_to_string(&drop_in).unwrap().contains("https://one.example"));

    // The same server under another path keeps it.
    assert_eq!(setup(&home, &["--url", "https://one.example/crm"], b"").code, Some(0));
    assert_eq!(setup(&home, &["--url", "https://two.example", "--keep-token"], b"").code, Some(0));
    // A new token for the same server replaces the file, which scripts may name.
    assert_eq!(
        setup(&home, &["--url", "https://two.example", "--token-file", "-"], b"second\n").code,
        Some(0)
    );
    assert_eq!(fs::read_to_string(home.path("token")).unwrap(), "second\n");
    // One for another server never lies beside the old URL.
    let ran = setup(&home, &["--url", "https://three.example", "--token-file", "-"], b"third\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(fs::read_to_string(home.path("token")).unwrap(), "second\n");
    assert_eq!(
        (fs::read_to_string(home.path("token-2")).unwrap().as_str(), mode(&home.path("token-2"))),
        ("third\n", 0o600)
    );
    assert!(fs::read_to_string(&drop_in).unwrap().contains("/token-2\""));
}

#[test]
fn a_failure_in_the_middle_changes_nothing_that_the_daemon_uses() {
    let home = Home::new(&Settings::default());
    let token = ["--url", "https://one.example", "--token-file", "-"];
    assert_eq!(setup(&home, &token, b"first\n").code, Some(0));
    let (drop_in, aside) = (home.path("conf.d/10-setup.toml"), home.path("aside"));
    fs::rename(&drop_in, &aside).unwrap();
    fs::write(home.path("conf.d/09.toml"), fs::read_to_string(&aside).unwrap()).unwrap();
    fs::create_dir(home.path("token-2")).unwrap();
    let ran = setup(&home, &["--url", "https://two.example", "--token-file", "-"], b"second\n");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("token-2") && ran.stderr.contains("was not changed"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(home.path("token")).unwrap(), "first\n");
    assert!(!drop_in.exists());
}
