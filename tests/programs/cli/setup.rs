//! `fieldsync setup`: one command connects a device to a server.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::support::daemon::{Counts, Home, cli_command};
use crate::support::process::{ProgramOutput, run};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

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
    ] {
        let ran = setup(&home, arguments, input);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(words) && ran.stderr.contains("Nothing was changed"), "{}", ran.stderr);
        assert!(!home.path("conf.d").exists() && !home.path("token").exists(), "{arguments:?}");
    }
}
