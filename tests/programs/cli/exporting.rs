//! Where exports are written: never through a symbolic link, and never into a file or pipe of another user.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use serde_json::json;

use super::rejecting;
use crate::support::daemon::{Daemon, cli_command};
use crate::support::process::{Guard, ProgramOutput, run};
use crate::support::server::ScriptedServer;
use crate::support::settings::Settings;

/// A user id that exists on no machine.
const ATTACKER: u32 = 54_331;

struct Exports {
    daemon: Daemon,
    _server: ScriptedServer,
}

impl Exports {
    /// A daemon with a record under review, so that both exports have a line.
    fn prepare() -> Self {
        let server = rejecting();
        let daemon = Daemon::start(&Settings::for_server(&server.url()));
        daemon.enqueue(&[json!({"type": "T", "payload": {"text": "confidential"}})]);
        daemon.wait_until_done();
        Self { daemon, _server: server }
    }

    fn export(&self, verb: &str, file: &Path) -> ProgramOutput {
        self.daemon.cli(&[verb, "export", file.to_str().unwrap()])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.daemon.home.path(name)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn make_fifo(path: &Path, owner: Option<u32>) {
    mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
    chown(path, owner, owner).unwrap();
}

fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        println!("skipped: only root can lay files of other users");
    }
    is_root
}

#[test]
fn a_symbolic_link_is_refused_with_its_target_and_nothing_is_replaced() {
    let exports = Exports::prepare();
    let target = exports.path("precious");
    fs::write(&target, "precious").unwrap();
    for (name, to) in [("link", target.clone()), ("dangling", exports.path("new"))] {
        let link = exports.path(name);
        symlink(&to, &link).unwrap();
        for verb in ["manifest", "quarantine"] {
            let ran = exports.export(verb, &link);
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
            for part in ["is a symbolic link", to.to_str().unwrap(), "was not written", "Name"] {
                assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
            }
            assert_eq!(fs::read_link(&link).unwrap(), to);
        }
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    assert!(!exports.path("new").exists());
}

#[test]
fn a_pipe_of_another_user_is_refused_without_opening_it() {
    if !is_root() {
        return;
    }
    let exports = Exports::prepare();
    let pipe = exports.path("pipe");
    make_fifo(&pipe, Some(ATTACKER));
    for verb in ["manifest", "quarantine"] {
        // Its reader would be the attacker's.
        let ran = exports.export(verb, &pipe);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        for part in ["belongs to another user", "54331", "was not written"] {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
    }
}

#[test]
fn an_own_pipe_gets_an_export_and_an_unread_pipe_is_given_up() {
    let exports = Exports::prepare();
    let pipe = exports.path("pipe");
    make_fifo(&pipe, None);
    let path = pipe.clone();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    let ran = exports.export("quarantine", &pipe);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(reader.join().unwrap().contains("confidential"));
    let ran = exports.export("quarantine", &pipe);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("no program reads from it"), "{}", ran.stderr);
}

#[test]
fn a_file_of_another_user_in_a_shared_directory_is_replaced() {
    if !is_root() {
        return;
    }
    let exports = Exports::prepare();
    let shared = exports.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    chown(&shared, Some(ATTACKER), Some(ATTACKER)).unwrap();
    let file = shared.join("review.ndjson");
    fs::write(&file, "bait").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    chown(&file, Some(ATTACKER), Some(ATTACKER)).unwrap();
    // As an attacker would hold it, waiting for content.
    let mut bait = File::open(&file).unwrap();
    assert_eq!(exports.export("quarantine", &file).code, Some(0));
    assert_eq!((mode(&file), fs::metadata(&file).unwrap().uid()), (0o600, 0));
    assert!(fs::read_to_string(&file).unwrap().contains("confidential"));
    let mut text = String::new();
    bait.read_to_string(&mut text).unwrap();
    assert_eq!(text, "bait");
    assert_eq!(fs::read_dir(&shared).unwrap().count(), 1);
}

#[test]
fn the_path_of_standard_output_shell_pipes_and_devices_can_be_written() {
    let exports = Exports::prepare();
    let printed = exports.daemon.cli(&["quarantine", "export"]).stdout;
    let device = exports.export("quarantine", Path::new("/dev/stdout"));
    assert_eq!((device.code, device.stdout), (Some(0), printed.clone()));
    assert_eq!(exports.export("quarantine", Path::new("/dev/null")).code, Some(0));
    let command = cli_command(exports.daemon.home.socket(), &[]);
    let kept = exports.path("kept");
    let mut shell = Command::new("bash");
    shell.args(["-c", "\"$0\" \"$@\" quarantine export >(cat > \"$KEPT\") && wait $!"]).env("KEPT", &kept);
    let ran = run(shell.arg(command.get_program()).args(command.get_args()), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(fs::read_to_string(&kept).unwrap(), printed);
    let ran = exports.export("quarantine", &exports.path("state"));
    assert!(ran.code == Some(1) && ran.stderr.contains("is a directory"), "{ran:?}");
}

#[test]
fn salvaged_records_are_spooled_to_an_unnamed_file() {
    let daemon = Daemon::start(&Settings::default());
    // More than a pipe holds, so that the program still runs when its directory is listed.
    let records: Vec<_> =
        (0..40).map(|_| json!({"type": "T", "payload": {"text": "x".repeat(10_000)}})).collect();
    daemon.enqueue(&records);
    let (_, home) = daemon.terminate();
    let scratch = home.path("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut command = cli_command(home.socket(), &["store", "salvage"]);
    command.arg(home.path("state/queue.redb")).env("TMPDIR", &scratch).stdout(Stdio::piped());
    let mut child = Guard(command.spawn().unwrap());
    let mut out = child.0.stdout.take().unwrap();
    out.read_exact(&mut [0]).unwrap();
    assert!(child.is_running());
    let named: Vec<_> = fs::read_dir(&scratch).unwrap().collect();
    assert!(named.is_empty(), "others may open it: {named:?}");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.lines().count(), records.len());
    assert_eq!(child.wait().code(), Some(0));
}
