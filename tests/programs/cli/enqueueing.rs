//! Large inputs: all or nothing, within limited memory, and a correct report if they stop in the middle.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::support::daemon::{Daemon, cli_command};
use crate::support::enqueue_relay::{Disturbance, enqueue_relay};
use crate::support::process::{Guard, run};
use crate::support::settings::Settings;
use crate::support::terminal::{Terminal, was_interrupted};

const MIB: usize = 1 << 20;

fn line(bytes: usize) -> String {
    format!("{{\"type\":\"T\",\"payload\":{{\"text\":\"{}\"}}}}\n", "x".repeat(bytes))
}

/// The peak memory of a process in bytes; `None` when it has ended.
fn most_memory(pid: u32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    peak.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kib| kib << 10)
}

#[test]
fn a_large_pipe_is_stored_completely_with_little_memory() {
    const RECORDS: usize = 1024;
    let daemon = Daemon::start(&Settings::default());
    let mut command = cli_command(daemon.home.socket(), &["enqueue"]);
    let mut child = Guard(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let pid = child.0.id();
    let mut pipe = child.0.stdin.take().unwrap();
    let record = line(64 << 10);
    let mut most = 0;
    for _ in 0..RECORDS {
        pipe.write_all(record.as_bytes()).unwrap();
        most = most.max(most_memory(pid).unwrap_or_default());
    }
    drop(pipe);
    while let Some(memory) = most_memory(pid) {
        most = most.max(memory);
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    assert_eq!(child.wait().code(), Some(0));
    assert_eq!(daemon.counts().pending, RECORDS as u64);
    assert!((1..48 * MIB).contains(&most), "{} MiB for 64 MiB of input", most / MIB);
}

#[test]
fn a_mistake_at_the_end_of_a_large_pipe_stores_nothing() {
    let daemon = Daemon::start(&Settings::default());
    let good = line(64 << 10);
    let input = format!("{}{{\"type\":\"T\"}}\n", good.repeat(200));
    let ran = daemon.cli_with(&["enqueue"], input.as_bytes());
    assert_eq!(ran.code, Some(8), "{}", ran.stderr);
    let reported =
        "standard input:201: `payload` is missing (column 12). Nothing was stored. Correct the line";
    assert!(ran.stderr.contains(reported), "{}", ran.stderr);
    assert_eq!(daemon.counts().pending, 0);
}

#[test]
fn a_refusal_in_the_middle_reports_what_is_stored() {
    let daemon = Daemon::start(&Settings::default());
    let known = daemon.enqueue_many(1).remove(0);
    let conflict = format!("{{\"id\":\"{known}\",\"type\":\"T\",\"payload\":{{}}}}\n");
    let input = format!("{}{conflict}", line(10).repeat(1100));
    let ran = daemon.cli_with(&["enqueue", "--json"], input.as_bytes());
    // The exit code must not promise that nothing was stored.
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    let error = &error["error"];
    assert_eq!((&error["code"], &error["line"]), (&"id_conflict".into(), &1101.into()), "{error}");
    let message = error["message"].as_str().unwrap();
    let stored = "1000 records up to standard input line 1000 are safely stored; continue from line 1001.";
    assert!(message.contains(stored), "{message}");
    let accepted: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&accepted["accepted"], &accepted["duplicates"]), (&1000.into(), &0.into()));
    let ids: Vec<&str> = accepted["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!((ids.len(), daemon.counts().pending), (1000, 1001));
    daemon.record(ids[999]);
}

#[test]
fn ctrl_c_reports_what_is_stored_and_where_to_continue() {
    let daemon = Daemon::start(&Settings::default());
    let file = daemon.home.path("records.ndjson");
    fs::write(&file, line(16 << 10).repeat(2000)).unwrap();
    let (socket, held) = enqueue_relay(&daemon.home, Disturbance::Held);
    let enqueue = cli_command(socket, &["enqueue", file.to_str().unwrap()]);
    let terminal = Terminal::start(enqueue, 80);
    terminal.wait_for("Checking");
    held.recv().unwrap();
    terminal.signal("INT");
    let (status, text) = terminal.end();
    assert!(was_interrupted(status), "{status} {text}");
    let said = text.rsplit("fieldsync: ").next().unwrap();
    assert!(said.starts_with("interrupted. "), "{said}");
    let stored: u64 = said["interrupted. ".len()..].split(' ').next().unwrap().parse().unwrap();
    let reported = format!("line {stored} are safely stored; continue from line {}.", stored + 1);
    assert!(said.contains(&reported) && said.contains("It is not known whether"), "{said}");
    assert_eq!(daemon.counts().pending, stored, "{said}");
}

#[test]
fn a_daemon_with_a_small_request_limit_gets_small_requests() {
    let settings = Settings::default().with("ipc.max_request_bytes", "64KiB");
    let daemon = Daemon::start(&settings.with("queue.max_record_bytes", "32KiB"));
    let ran = daemon.cli_with(&["enqueue"], line(1 << 10).repeat(600).as_bytes());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.ends_with("\nand 590 more\nEnqueued 600 records (0 duplicates)\n"), "{ran:?}");
    assert_eq!(daemon.counts().pending, 600);
}

#[test]
fn for_a_partly_stored_array_the_stored_elements_are_reported() {
    let daemon = Daemon::start(&Settings::default().with("queue.max_records", "700"));
    let array = format!("[{}]", vec!["{\"type\":\"T\",\"payload\":{}}"; 1000].join(","));
    let ran = daemon.cli_with(&["enqueue"], array.as_bytes());
    assert_eq!(ran.code, Some(7), "{ran:?}");
    let reported = "500 records are safely stored: the first 500 of standard input; leave those out";
    assert!(ran.stderr.contains(reported) && !ran.stderr.contains("othing was stored"), "{}", ran.stderr);
    assert_eq!(daemon.counts().pending, 500);
}

#[test]
fn standard_input_may_be_named_only_once() {
    let daemon = Daemon::start(&Settings::default());
    let ran = daemon.cli_with(&["enqueue", "-", "-"], line(1).as_bytes());
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("more than once"), "{ran:?}");
    assert_eq!(daemon.counts().pending, 0);
}

#[test]
fn a_progress_bar_is_shown_on_terminals_for_large_inputs() {
    let daemon = Daemon::start(&Settings::default());
    let file = daemon.home.path("records.ndjson");
    for (records, bar) in [(10, false), (2000, true)] {
        fs::write(&file, line(10).repeat(records)).unwrap();
        let enqueue = || cli_command(daemon.home.socket(), &["enqueue", file.to_str().unwrap()]);
        let (code, text) = Terminal::run(enqueue(), 80);
        assert_eq!(code, Some(0));
        assert_eq!(text.contains(&format!(" of {records} records ")), bar, "{text:?}");
        assert!(text.ends_with(&format!("Enqueued {records} records (0 duplicates)\n")), "{text:?}");
        let ran = run(&mut enqueue(), b"");
        assert_eq!(ran.stderr, "", "no bar in a pipe");
    }
}
