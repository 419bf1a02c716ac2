//! Runs a program of the system, with limits of its time and its output.

use std::io::ErrorKind;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

/// A stuck systemd or journald must not stop the collection.
const TOOL_TIMEOUT: Duration = Duration::from_secs(15);
const STDERR_BYTES_MAX: u64 = 4 << 10;

/// What a program printed.
pub(super) struct ToolOutput {
    pub(super) text: String,
    /// Its output was longer.
    pub(super) is_cut: bool,
    pub(super) stderr: String,
    pub(super) is_success: bool,
}

/// Runs it to its end. The error says why there is no output.
pub(super) async fn run_tool(
    program: &str,
    arguments: &[&str],
    bytes_max: usize,
) -> Result<ToolOutput, String> {
    run_within(program, arguments, bytes_max, TOOL_TIMEOUT).await
}

async fn run_within(
    program: &str,
    arguments: &[&str],
    bytes_max: usize,
    limit: Duration,
) -> Result<ToolOutput, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Output for programs, in English, never in a pager.
    command.env("LC_ALL", "C").env("SYSTEMD_PAGER", "").env("SYSTEMD_COLORS", "0").kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("{program} is not on this system"),
        _ => format!("{program} cannot be started: {error}"),
    })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let limit_bytes = bytes_max as u64;
    let running = async {
        let (text, stderr) =
            tokio::join!(read_some(stdout, limit_bytes + 1), read_some(stderr, STDERR_BYTES_MAX));
        let is_cut = text.len() as u64 > limit_bytes;
        // A program that still writes ends with its pipe; what ended by itself has a status.
        let status = child.wait().await;
        (text, stderr, is_cut, status)
    };
    let (mut text, stderr, is_cut, status) = timeout(limit, running)
        .await
        .map_err(|_| format!("{program} did not end within {} s", limit.as_secs()))?;
    text.truncate(bytes_max);
    Ok(ToolOutput {
        text: String::from_utf8_lossy(&text).into_owned(),
        is_cut,
        stderr: String::from_utf8_lossy(&stderr).trim().to_owned(),
        is_success: status.is_ok_and(|status| status.success()),
    })
}

/// Reads up to a limit, and closes the pipe. An error ends the output.
async fn read_some(pipe: Option<impl AsyncRead + Unpin>, bytes_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(bytes_max).read_to_end(&mut bytes).await.ok();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run_shell(script: &str, limit: Duration) -> Result<ToolOutput, String> {
        run_within("sh", &["-c", script], 10, limit).await
    }

    #[tokio::test]
    async fn output_is_cut_and_a_program_that_writes_forever_ends() {
        let ran = run_shell("yes", TOOL_TIMEOUT).await.unwrap();
        assert_eq!((ran.text.as_str(), ran.is_cut), ("y\ny\ny\ny\ny\n", true));
        let ran = run_shell("echo short; echo why >&2; exit 3", TOOL_TIMEOUT).await.unwrap();
        assert_eq!((ran.text.as_str(), ran.stderr.as_str(), ran.is_success), ("short\n", "why", false));
    }

    #[tokio::test]
    async fn a_program_that_hangs_or_is_missing_is_reported() {
        let ran = run_shell("exec sleep 600", Duration::from_millis(1)).await;
        assert_eq!(ran.err().as_deref(), Some("sh did not end within 0 s"));
        let ran = run_tool("fieldsync-no-such-tool", &[], 1).await;
        assert_eq!(ran.err().as_deref(), Some("fieldsync-no-such-tool is not on this system"));
    }
}
