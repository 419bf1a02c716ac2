//! The adapter of a client: a program that turns lines of JSON into calls of its client. `clients/conformance.md`
//! describes the protocol.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use std::{env, fs, thread};

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::support::daemon::leave_surroundings;
use crate::support::process::{Guard, run, signal};

/// The time limit of calls for which it does not matter.
pub(super) const TIME_LIMIT_MS: u64 = 40_000;
/// No call takes longer than its time limit and some time for the machine.
const RESULT_DEADLINE: Duration = Duration::from_mins(1);
/// What `-std=c99` and the strictest usual warnings accept.
const C_FLAGS: [&str; 6] = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Python,
    JavaScript,
    C,
}

impl Language {
    /// Its interpreter or compiler, as the environment chooses it.
    pub(super) fn interpreter(self) -> Command {
        let (variable, default) = match self {
            Self::Python => ("FIELDSYNC_PYTHON", "python3"),
            Self::JavaScript => ("FIELDSYNC_NODE", "node"),
            Self::C => ("FIELDSYNC_CC", "cc"),
        };
        Command::new(env::var_os(variable).unwrap_or_else(|| default.into()))
    }

    /// The command that runs its adapter.
    fn command(self) -> Command {
        let script = |path: &str| {
            let mut command = self.interpreter();
            command.arg(clients().join(path));
            command
        };
        match self {
            Self::Python => script("python/conformance/adapter.py"),
            Self::JavaScript => script("javascript/conformance/adapter.mjs"),
            Self::C => Command::new(c_adapter()),
        }
    }
}

pub(super) fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Compiled once for all tests.
fn c_adapter() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
        fs::create_dir_all(&directory).unwrap();
        let (program, client) = (directory.join("c-adapter"), clients().join("c"));
        let sources = [client.join("conformance/adapter.c"), client.join("fieldsync.c")];
        let mut command = Language::C.interpreter();
        command.args(C_FLAGS).args(c_flags()).arg("-I").arg(&client);
        let compiled = run(command.args(sources).arg("-o").arg(&program), b"");
        assert_eq!(compiled.code, Some(0), "{}", compiled.stderr);
        program
    })
}

/// Further flags for the C compiler, for example those of a sanitizer.
pub(super) fn c_flags() -> Vec<String> {
    let flags = env::var("FIELDSYNC_CFLAGS").unwrap_or_default();
    flags.split_whitespace().map(str::to_owned).collect()
}

/// A running adapter; killed when dropped.
pub(super) struct Adapter {
    child: Guard,
    input: ChildStdin,
    lines: Receiver<Value>,
}

impl Adapter {
    /// Starts it for a socket, which may not exist yet.
    pub(super) fn start(language: Language, socket: &Path) -> Self {
        Self::start_by(language, language.command(), socket)
    }

    /// Starts it with a socket that it hands to its client, beside that of the environment.
    pub(super) fn start_with_argument(language: Language, argument: &str, socket: &Path) -> Self {
        let mut command = language.command();
        command.arg(argument);
        Self::start_by(language, command, socket)
    }

    /// Starts it as a user to whom the modes of files apply: of root, they need not be asked.
    pub(super) fn start_without_privileges(language: Language, socket: &Path) -> Self {
        let adapter = language.command();
        if !geteuid().is_root() {
            return Self::start_by(language, adapter, socket);
        }
        let mut command = Command::new("setpriv");
        command.args(["--inh-caps=-all", "--bounding-set=-all"]);
        command.arg(adapter.get_program()).args(adapter.get_args());
        Self::start_by(language, command, socket)
    }

    fn start_by(language: Language, mut command: Command, socket: &Path) -> Self {
        leave_surroundings(&mut command);
        command.env("FIELDSYNC_SOCKET", socket).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{language:?}: {command:?}: {error}"));
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let line = line.unwrap();
                let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                // The test may have ended.
                drop(sender.send(value));
            }
        });
        Self { child: Guard(child), input, lines }
    }

    /// Sends a command, without waiting for its result.
    pub(super) fn send(&mut self, command: &Value) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// Cancels the call that runs, and all later ones.
    pub(super) fn cancel(&self) {
        signal(self.child.0.id(), "TERM");
    }

    /// The next line: an event, or the result of a command.
    #[track_caller]
    pub(super) fn receive(&self) -> Value {
        self.receive_within(RESULT_DEADLINE)
    }

    #[track_caller]
    pub(super) fn receive_within(&self, deadline: Duration) -> Value {
        self.lines.recv_timeout(deadline).expect("a line of the adapter within the deadline")
    }

    #[track_caller]
    pub(super) fn receive_ok(&self) -> Value {
        let line = self.receive();
        assert!(line.get("ok").is_some(), "{line}");
        line["ok"].clone()
    }

    #[track_caller]
    pub(super) fn receive_error(&self) -> ClientError {
        self.receive_error_within(RESULT_DEADLINE)
    }

    #[track_caller]
    pub(super) fn receive_error_within(&self, deadline: Duration) -> ClientError {
        let line = self.receive_within(deadline);
        ClientError(line.get("error").unwrap_or_else(|| panic!("no error: {line}")).clone())
    }

    /// Runs a command that must succeed, and returns its result.
    #[track_caller]
    pub(super) fn call(&mut self, command: &Value) -> Value {
        self.send(command);
        self.receive_ok()
    }

    /// Runs a command that must fail.
    #[track_caller]
    pub(super) fn fail(&mut self, command: &Value) -> ClientError {
        self.send(command);
        self.receive_error()
    }

    #[track_caller]
    pub(super) fn enqueue(&mut self, records: &[Value]) -> Value {
        self.call(&enqueue(records))
    }

    /// The entry of a record once it is in one of the states in which it stays.
    #[track_caller]
    pub(super) fn wait(&mut self, id: &str) -> Value {
        self.call(&wait(id))["entry"].clone()
    }
}

/// The error of a failed call.
#[derive(Debug)]
pub(super) struct ClientError(Value);

impl ClientError {
    pub(super) fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap()
    }

    /// The kind, status and code of an error response.
    #[track_caller]
    pub(super) fn assert_response(&self, kind: &str, status: u16, code: &str) {
        let found = (&self.0["kind"], &self.0["status"], &self.0["code"]);
        assert_eq!(found, (&json!(kind), &json!(status), &json!(code)), "{self:?}");
    }

    pub(super) fn has_no_code(&self) -> bool {
        self.0["code"].is_null()
    }

    /// The position of the faulty record in the call, from 1.
    pub(super) fn position(&self) -> Option<u64> {
        self.0["position"].as_u64()
    }

    /// The ids of all records of the call.
    pub(super) fn ids(&self) -> Vec<String> {
        strings(&self.0["ids"])
    }

    /// The ids of the records of the call that are known to be stored.
    pub(super) fn stored(&self) -> Vec<String> {
        strings(&self.0["stored"])
    }

    /// The last entry that a wait has seen.
    pub(super) fn entry(&self) -> &Value {
        &self.0["entry"]
    }
}

pub(super) fn enqueue(records: &[Value]) -> Value {
    enqueue_within(records, TIME_LIMIT_MS)
}

pub(super) fn enqueue_within(records: &[Value], time_limit_ms: u64) -> Value {
    json!({"do": "enqueue", "records": records, "time_limit_ms": time_limit_ms})
}

pub(super) fn wait(id: &str) -> Value {
    json!({"do": "wait", "id": id, "states": null, "time_limit_ms": TIME_LIMIT_MS})
}

/// Events until there were `count` of this name.
pub(super) fn events(last_event_id: Option<&str>, until: &str, count: usize) -> Value {
    json!({"do": "events", "last_event_id": last_event_id, "until": until, "count": count, "time_limit_ms": TIME_LIMIT_MS})
}

/// Simple records, numbered from 0.
pub(super) fn visits(count: usize) -> Vec<Value> {
    (0..count).map(|n| json!({"type": "Visits", "payload": {"n": n}})).collect()
}

/// The ids of a result.
pub(super) fn ids(result: &Value) -> Vec<String> {
    strings(&result["ids"])
}

/// Empty for null.
fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The number of accepted records and of duplicates.
pub(super) fn counts(result: &Value) -> (u64, u64) {
    (result["accepted"].as_u64().unwrap(), result["duplicates"].as_u64().unwrap())
}
