//! One run of `telemetry.alert_command`: without a shell, with a time limit, in a process group of its own.
//!
//! The program gets no secrets of the daemon: only named variables of the environment, and no open files but its
//! standard ones. Only the begin of its output is kept, and a flood of it ends the program.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::api::{AlertChange, AlertName, OpenEnum};
use crate::config::CommandLine;

/// Variables that the program gets, if the daemon has them.
const PASSED_VARIABLES: [&str; 8] = ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER"];
/// The first after the standard ones.
const FIRST_INHERITED_FILE: libc::c_uint = 3;
const CLOSE_ON_EXEC: libc::c_int = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
/// How long the program, and what it started, have to end after SIGTERM, until they get SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// The same while the daemon is stopping: it waits for this.
const STOP_GRACE: Duration = Duration::from_millis(200);
/// No event tells that a process group is gone: during the grace, it is looked for this often.
const GROUP_CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// How much of its output is logged.
const OUTPUT_LOGGED_BYTES_MAX: usize = 1024;
/// A program that writes more finds its output closed.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// What the program may still have written is read for this long after its end.
const LAST_OUTPUT_WAIT: Duration = Duration::from_millis(100);

/// A run of the program that is due.
pub(super) struct CommandJob {
    pub(super) change: AlertChange,
    pub(super) command: CommandLine,
    pub(super) time_limit: Duration,
    /// The alert as JSON.
    pub(super) input: Vec<u8>,
}

impl CommandJob {
    pub(super) fn alert(&self) -> &OpenEnum<AlertName> {
        &self.change.alert.alert
    }
}

/// How a run ended, and what the program wrote.
pub(super) struct FinishedRun {
    pub(super) result: RunEnd,
    pub(super) output: String,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RunEnd {
    Succeeded,
    /// The daemon is stopping.
    Stopped,
    /// In words that follow the name of the program.
    Failed(String),
}

/// Runs the program and waits for its end.
pub(super) fn run_command(job: &CommandJob, stop: watch::Receiver<bool>) -> FinishedRun {
    let mut output = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime
        .and_then(|runtime| runtime.block_on(run_until_end(job, stop, &mut output)))
        .unwrap_or_else(|error| RunEnd::Failed(format!("could not be run: {error}")));
    FinishedRun { result, output: printable(&output) }
}

async fn run_until_end(
    job: &CommandJob,
    mut stop: watch::Receiver<bool>,
    output: &mut Vec<u8>,
) -> io::Result<RunEnd> {
    let (mut child, reader) = match start(job) {
        Ok(started) => started,
        Err(error) => return Ok(RunEnd::Failed(format!("cannot be started: {error}"))),
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let stdin = child.stdin.take();
    let talk = async {
        let write = async {
            if let Some(mut stdin) = stdin
                && let Err(error) = stdin.write_all(&job.input).await
            {
                // A program need not read the alert.
                tracing::debug!(%error, "telemetry.alert_command did not read the whole alert");
            }
        };
        tokio::join!(write, read_output(reader, output));
    };
    let run = async {
        let wait = child.wait();
        tokio::pin!(talk, wait);
        tokio::select! {
            status = &mut wait => {
                // What it left in the background may hold its output open.
                if timeout(LAST_OUTPUT_WAIT, talk).await.is_err() {
                    tracing::debug!("telemetry.alert_command left a process in the background");
                }
                status
            }
            () = &mut talk => wait.await,
        }
    };
    let ended = tokio::select! {
        status = timeout(job.time_limit, run) => match status {
            Ok(status) => describe_status(status?),
            Err(_) => RunEnd::Failed(format!(
                "ran for longer than {} and was stopped",
                humantime::format_duration(job.time_limit)
            )),
        },
        _ = stop.wait_for(|is_stopping| *is_stopping) => RunEnd::Stopped,
    };
    stop_group(&mut child, group, stop).await;
    Ok(ended)
}

fn start(job: &CommandJob) -> io::Result<(Child, pipe::Receiver)> {
    let (reader, writer) = io::pipe()?;
    let variables = PASSED_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    // The command holds the other end of the pipe: it must be gone before the output is read.
    let mut command = Command::new(job.command.program());
    close_inherited_files(&mut command);
    let child = command
        .args(job.command.arguments())
        .env_clear()
        .envs(variables)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()?;
    Ok((child, pipe::Receiver::from_owned_fd(reader.into())?))
}

/// Files of the daemon itself are closed anyway; this also closes what it inherited from the program that started it.
#[expect(unsafe_code, reason = "between fork and exec, this makes one system call and nothing else")]
fn close_inherited_files(command: &mut Command) {
    let mark_all = || {
        // Closed by exec: until then, the standard library needs one of them. A kernel without the call changes nothing.
        unsafe { libc::close_range(FIRST_INHERITED_FILE, libc::c_uint::MAX, CLOSE_ON_EXEC) };
        Ok(())
    };
    unsafe { command.pre_exec(mark_all) };
}

/// Reads until the end, or until it is too much: then the program finds its output closed.
async fn read_output(mut reader: pipe::Receiver, output: &mut Vec<u8>) {
    let mut total = 0;
    let mut buffer = [0; 4096];
    while total < OUTPUT_BYTES_MAX {
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                total += count;
                let kept = count.min(OUTPUT_LOGGED_BYTES_MAX.saturating_sub(output.len()));
                output.extend_from_slice(&buffer[..kept]);
            }
        }
    }
}

/// Ends what is left of the program, also what it started in the background.
async fn stop_group(child: &mut Child, group: Option<Pid>, mut stop: watch::Receiver<bool>) {
    let Some(group) = group else { return };
    let is_gone = |signal| killpg(group, signal) == Err(Errno::ESRCH);
    if is_gone(Some(Signal::SIGTERM)) {
        return;
    }
    let end = async {
        let status = child.wait().await;
        while !is_gone(None) {
            sleep(GROUP_CHECK_INTERVAL).await;
        }
        status
    };
    let grace = async {
        let is_stopping = timeout(TERM_GRACE, stop.wait_for(|is_stopping| *is_stopping)).await.is_ok();
        if is_stopping {
            sleep(STOP_GRACE).await;
        }
    };
    let ended = tokio::select! {
        status = end => Some(status),
        () = grace => None,
    };
    let status = if let Some(status) = ended {
        status
    } else {
        is_gone(Some(Signal::SIGKILL));
        child.wait().await
    };
    if let Err(error) = status {
        tracing::debug!(%error, "the end of telemetry.alert_command is not known");
    }
}

fn describe_status(status: ExitStatus) -> RunEnd {
    if status.success() { RunEnd::Succeeded } else { RunEnd::Failed(format!("failed ({status})")) }
}

/// On one line, without control characters.
fn printable(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
