//! The files of the configuration: drop-ins beside the main file, and a directory of files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;
use toml::Table;

use crate::support::daemon::{Daemon, daemon_command};
use crate::support::process::{ProgramOutput, run};
use crate::support::settings::Settings;
use crate::support::wait::directory;

/// Files with their texts in a new directory.
fn files(texts: &[(&str, &str)]) -> TempDir {
    let directory = directory();
    for (name, text) in texts {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn check(path: &Path) -> ProgramOutput {
    run(daemon_command().arg("--check-config").arg("--config").arg(path), b"")
}

#[track_caller]
fn effective(path: &Path) -> Table {
    let ran = check(path);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    ran.stdout.parse().unwrap()
}

#[test]
fn drop_ins_are_read_after_the_file_in_the_order_of_their_names() {
    let directory = files(&[
        ("config.toml", "[server]\nurl = \"http://main\"\nproxy = \"none\"\n[batch]\nmicro_batch = 1\n"),
        ("conf.d/20-fleet.toml", "[server]\nurl = \"http://fleet\"\n"),
        ("conf.d/10-setup.toml", "[server]\nurl = \"http://setup\"\n[batch]\nmicro_batch = 2\n"),
        ("conf.d/.hidden.toml", "[batch]\nmicro_batch = 3\n"),
        ("conf.d/30-other.toml.dpkg-old", "[batch]\nmicro_batch = 4\n"),
    ]);
    let found = effective(&directory.path().join("config.toml"));
    assert_eq!(found["server"]["url"].as_str(), Some("http://fleet"));
    assert_eq!(found["server"]["proxy"].as_str(), Some("none"));
    assert_eq!(found["batch"]["micro_batch"].as_integer(), Some(2));
}

#[test]
fn a_directory_stands_for_all_files_in_it() {
    let directory = files(&[
        ("b.toml", "[batch]\nmicro_batch = 2\n"),
        ("a.toml", "[batch]\nmicro_batch = 1\n[server]\nurl = \"http://a\"\n"),
        ("conf.d/c.toml", "[batch]\nmicro_batch = 3\n"),
    ]);
    let found = effective(directory.path());
    assert_eq!(found["server"]["url"].as_str(), Some("http://a"));
    assert_eq!(found["batch"]["micro_batch"].as_integer(), Some(2));
}

#[test]
fn each_mistake_names_its_own_file_line_and_key() {
    let directory = files(&[
        ("config.toml", "[batch]\nstandard_batch = 20\n"),
        ("conf.d/10.toml", "# the fleet\n[batch]\nmicro_batch = 30\n"),
    ]);
    let ran = check(&directory.path().join("config.toml"));
    assert_eq!(ran.code, Some(78));
    let place = "conf.d/10.toml: line 3: batch.micro_batch: must not be larger than batch.standard_batch";
    assert!(ran.stderr.contains(place), "{}", ran.stderr);
    fs::write(directory.path().join("conf.d/10.toml"), "[queue]\nmax_records = \"many\"\n").unwrap();
    fs::write(directory.path().join("conf.d/20.toml"), "[batch]\nlearn = 1\n").unwrap();
    let ran = check(&directory.path().join("config.toml"));
    assert_eq!(ran.code, Some(78));
    for place in [
        "conf.d/10.toml: line 2, column 15: queue.max_records: must be a whole number, for example 5000000",
        "conf.d/20.toml: line 2, column 9: batch.learn: must be true or false, for example true",
    ] {
        assert!(ran.stderr.contains(place), "{}", ran.stderr);
    }
}

/// What is in `conf.d` instead of a file with text.
fn unusable_drop_ins(conf_d: &Path) {
    fs::create_dir(conf_d.join("10-directory.toml")).unwrap();
    symlink("/nowhere/fleet.toml", conf_d.join("11-link.toml")).unwrap();
    fs::write(conf_d.join("12-latin.toml"), b"[device]\nname = \"caf\xe9\"\n").unwrap();
    mkfifo(&conf_d.join("13-pipe.toml"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    symlink("/dev/zero", conf_d.join("14-zero.toml")).unwrap();
    fs::write(conf_d.join("15-large.toml"), vec![b'#'; (1 << 20) + 1]).unwrap();
}

#[test]
fn what_is_no_text_file_is_named_for_what_it_is_and_so_are_later_mistakes() {
    let directory = files(&[
        ("config.toml", "[server]\nurl = \"http://main\"\n"),
        ("conf.d/20.toml", "[queue]\nmax_records = \"many\"\n"),
    ]);
    unusable_drop_ins(&directory.path().join("conf.d"));
    let ran = check(&directory.path().join("config.toml"));
    assert_eq!(ran.code, Some(78), "{}", ran.stderr);
    for part in [
        "10-directory.toml: cannot be read: it is a directory, not a file",
        "11-link.toml: cannot be read: it is a link to /nowhere/fleet.toml, which does not exist",
        "12-latin.toml: cannot be read: its line 2 is not UTF-8 text: save the file as UTF-8",
        "13-pipe.toml: cannot be read: it is a FIFO (named pipe), not a file",
        "14-zero.toml: cannot be read: it is a device, not a file",
        "15-large.toml: cannot be read: it is larger than 1 MiB",
        "conf.d/20.toml: line 2, column 15: queue.max_records: must be a whole number",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
}

#[test]
fn a_pipe_in_conf_d_stops_neither_a_reload_nor_a_start() {
    let daemon = Daemon::start(&Settings::default());
    fs::create_dir(daemon.home.path("conf.d")).unwrap();
    unusable_drop_ins(&daemon.home.path("conf.d"));
    daemon.signal("HUP");
    daemon.wait_for_log("13-pipe.toml: cannot be read: it is a FIFO");
    daemon.enqueue_many(2);
    let (ended, home) = daemon.terminate();
    assert!(ended.success());
    let daemon = home.start();
    daemon.wait_for_log("the last good one is used instead");
    assert_eq!(daemon.counts().pending, 2);
}
