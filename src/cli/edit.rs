//! `fieldsync quarantine edit`: a payload in the user's editor.
//!
//! The payload may be private, so that it lives in a directory of the owner's alone, together with
//! whatever copies the editor makes, and goes away with it. What a person typed is never thrown away
//! because something failed afterwards: then it stays where it is, and the message says where.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGINT;
use tempfile::TempDir;

use super::context::Context;
use super::failure::Failure;
use super::{json_text, quarantine, show};
use crate::exit;
use crate::ipc::client::JSON;
use crate::model::{RecordId, RecordState};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the record
    id: RecordId,
}

pub(crate) async fn run(args: &Args, context: &mut Context<'_>) -> Result<u8, Failure> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty())
        .and_then(|value| value.into_string().ok())
        .unwrap_or_else(|| "vi".to_owned());
    run_with(args, context, |file| edit(&editor, file)).await
}

async fn run_with(
    args: &Args,
    context: &mut Context<'_>,
    edit: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let id = args.id;
    let detail = show::fetch(&context.client, id, &["payload"]).await?;
    let state = quarantine::state_of(&detail)?;
    if state != RecordState::Quarantined {
        return Err(Failure::failed(format!(
            "record {id} is {} and not under review: only quarantined records can be edited. Nothing was changed.",
            state.name()
        )));
    }
    let Some(payload) = show::payload(&detail)? else {
        return Err(Failure::failed(format!(
            "the daemon sent no payload for record {id}. Nothing was changed."
        )));
    };
    let draft = Draft::new(id, &json_text::pretty(&payload))?;
    edit(&draft.file)?;
    let edited = match draft.read() {
        Ok(edited) => edited,
        Err(error) => {
            return Err(draft.keep(exit::REFUSED, &format!("the text cannot be read ({error}).")));
        }
    };
    if let Err(what) = check(&edited) {
        return Err(draft.keep(exit::REFUSED, &what));
    }
    let mended = json_text::compact(&edited);
    if mended == json_text::compact(&payload) {
        return unchanged(context, id);
    }
    let path = format!("/v1/records/{id}/payload");
    match context.client.put(&path, JSON, mended.into()).await {
        Ok(answer) if context.json => context.answer_line(&answer)?,
        Ok(_) => context.line(format!("Record {id} is mended and will be sent again."))?,
        Err(error) => {
            let failure = Failure::from(error);
            return Err(draft.keep(failure.exit, &failure.message));
        }
    }
    Ok(exit::DONE)
}

fn unchanged(context: &mut Context<'_>, id: RecordId) -> Result<u8, Failure> {
    if context.json {
        context.line("{\"changed\":0}")?;
    } else {
        context.line(format!("Nothing was changed: record {id} is still under review."))?;
    }
    Ok(exit::DONE)
}

/// A payload is a JSON object; the daemon would say so too, but without line and column.
fn check(text: &str) -> Result<(), String> {
    match serde_json::from_str::<&serde_json::value::RawValue>(text) {
        Ok(value) if value.get().starts_with('{') => Ok(()),
        Ok(_) => Err("a payload is a JSON object, in braces.".to_owned()),
        Err(error) => Err(format!("this is no JSON: {error}.")),
    }
}

/// The text under the editor.
struct Draft {
    dir: TempDir,
    file: PathBuf,
}

impl Draft {
    fn new(id: RecordId, text: &str) -> Result<Self, Failure> {
        let make = || -> io::Result<Self> {
            let dir = tempfile::Builder::new()
                .prefix("fieldsync-")
                .permissions(Permissions::from_mode(0o700))
                .tempdir()?;
            let file = dir.path().join(format!("{id}.json"));
            File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&file)?
                .write_all(text.as_bytes())?;
            Ok(Self { dir, file })
        };
        make().map_err(|error| {
            Failure::failed(format!("no temporary file for the editor: {error}. Nothing was changed."))
        })
    }

    fn read(&self) -> io::Result<String> {
        fs::read_to_string(&self.file)
    }

    fn keep(self, exit: u8, what: &str) -> Failure {
        // The path says all; the directory stays because nobody deletes it any more.
        drop(self.dir.keep());
        let file = self.file.display();
        Failure::new(exit, format!("{what} The record is as it was; your text is kept in {file}"))
    }
}

/// Runs the editor as git does: through the shell, so that it may have arguments.
fn edit(editor: &str, file: &Path) -> Result<(), Failure> {
    // Ctrl-C goes to the editor and to this process; an editor survives it, and its text must.
    let guard = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)));
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$@\"")).arg(editor).arg(file).status();
    if let Ok(id) = guard {
        signal_hook::low_level::unregister(id);
    }
    let problem = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(Failure::failed(format!(
        "the editor `{editor}` failed ({problem}). Nothing was changed. Name another with $EDITOR."
    )))
}

#[cfg(test)]
mod tests {
    use super::super::testing::run;
    use super::*;
    use crate::ipc::client::scripted::{Scripted, Step, answer};

    fn detail(state: &str) -> Step {
        let payload = r#"{"z": 1.50, "day": "30 Feb"}"#;
        answer(200, &format!("{{\"state\":\"{state}\",\"payload\":{payload}}}"))
    }

    async fn edited(script: Vec<Step>, editor: &str) -> (Result<u8, Failure>, String, Vec<String>) {
        let daemon = Scripted::new(script);
        let args = Args { id: RecordId::new() };
        let (code, text) =
            run(&daemon, false, async |context| run_with(&args, context, |file| edit(editor, file)).await)
                .await;
        let bodies = daemon.calls().into_iter();
        let bodies = bodies.map(|call| String::from_utf8(call.body).unwrap());
        (code, text, bodies.collect())
    }

    #[tokio::test]
    async fn what_was_mended_is_sent_and_the_rest_is_untouched() {
        let script = vec![detail("QUARANTINED"), answer(200, "{}")];
        let (code, text, bodies) = edited(script, "sed -i 's/30 Feb/28 Feb/'").await;
        assert_eq!(code, Ok(0));
        assert!(text.ends_with("will be sent again.\n"), "{text}");
        assert_eq!(bodies[1], r#"{"z":1.50,"day":"28 Feb"}"#);
    }

    #[tokio::test]
    async fn nothing_is_sent_when_nothing_was_changed() {
        let (code, text, _) = edited(vec![detail("QUARANTINED")], "true").await;
        assert_eq!(code, Ok(0));
        assert!(text.starts_with("Nothing was changed"), "{text}");
        let (code, _, _) = edited(vec![detail("QUARANTINED")], "false").await;
        assert_eq!(code.unwrap_err().exit, exit::FAILED);
        let (code, _, _) = edited(vec![detail("PENDING")], "false").await;
        assert!(code.unwrap_err().message.contains("is PENDING and not under review"));
    }

    #[tokio::test]
    async fn a_mistake_keeps_the_text() {
        let (code, _, _) = edited(vec![detail("QUARANTINED")], "sed -i 's/30 Feb\"//'").await;
        let failure = code.unwrap_err();
        assert_eq!(failure.exit, exit::REFUSED);
        let file = PathBuf::from(failure.message.rsplit(' ').next().unwrap());
        assert!(fs::read_to_string(&file).unwrap().contains("1.50"));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0);
        fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }
}
