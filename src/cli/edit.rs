//! `fieldsync quarantine edit`: opens a payload in the user's editor.
//!
//! The payload may be private. So it is in a directory that only its owner may read, together with all copies that the
//! editor makes, and is removed with it. If something fails after the edit, the text is kept, and the message names the
//! file. A record that another user changed while the editor was open is not overwritten.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::spawn_blocking;

use super::context::CommandContext;
use super::failure::{CommandFailure, is_outcome_unknown};
use super::follow::Interrupt;
use super::payload_draft::PayloadDraft;
use super::record_ids::IdPart;
use super::state_words::state_phrase;
use super::{id_completion, json_text, show};
use crate::client::{Client, ClientError, JSON, decode_json};
use crate::exit;
use crate::model::{RecordId, RecordState};

/// The exit status of a shell for a missing program.
const NOT_FOUND: i32 = 127;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The editor is started by the shell, and may have arguments, as in
EDITOR='code --wait'. Only you can read the text. If it is not a JSON object, it
can be edited again; if it cannot be written back, it is kept in a file.

Examples:
  fieldsync quarantine edit 0191b3a0-0000-7000-8000-000000000000")]
pub(crate) struct EditArgs {
    /// Id of the record, or any unique beginning or end of it
    #[arg(add = id_completion::records_to_review())]
    id: IdPart,
}

pub(crate) async fn run(args: &EditArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty())
        .and_then(|value| value.into_string().ok())
        .unwrap_or_else(|| "vi".to_owned());
    let asks = io::stdin().is_terminal() && io::stderr().is_terminal();
    let go_on = async |what: &str, interrupt: &mut Interrupt| {
        if asks { ask_to_edit_again(what, interrupt).await } else { EditAgain::No }
    };
    run_with(args, context, |file| run_editor(&editor, file), go_on).await
}

/// The answer of the user.
enum EditAgain {
    Yes,
    No,
    /// With Ctrl-C.
    Interrupted,
}

/// `go_on` asks whether to edit an invalid text again.
async fn run_with(
    args: &EditArgs,
    context: &mut CommandContext<'_>,
    edit: impl Fn(&Path) -> Result<(), CommandFailure>,
    go_on: impl AsyncFn(&str, &mut Interrupt) -> EditAgain,
) -> Result<u8, CommandFailure> {
    let id = args.id.resolve(&context.client).await?;
    let before = RecordVersion::fetch(&context.client, id).await?;
    if before.state != RecordState::Quarantined {
        let next = match before.state {
            RecordState::Synced => "List the records that do: fieldsync quarantine list".to_owned(),
            RecordState::Discarded => "A discarded record cannot be brought back".to_owned(),
            _ => format!("An admin can keep it for review: fieldsync quarantine add {id}"),
        };
        let message = format!(
            "record {id} {}: only records that need review can be edited. Nothing was changed. {next}",
            state_phrase(before.state)
        );
        return Err(CommandFailure::failed(message).with_code("not_quarantined"));
    }
    let Some(payload) = &before.payload else {
        return Err(CommandFailure::failed(format!(
            "the daemon sent no payload for record {id}. Nothing was changed. For the reason: fieldsync show {id}"
        )));
    };
    let draft = PayloadDraft::new(id, &json_text::indent_json(payload.get()))?;
    // From here on, Ctrl-C must not lose the text.
    let mut interrupt = Interrupt::new()?;
    let new_payload = loop {
        let edited = edit(&draft.file);
        interrupt.discard_pending();
        if let Err(failure) = edited {
            return Err(draft.keep_if_changed(failure));
        }
        let what = match draft.read_text().map(|text| (check_payload(&text), text)) {
            Ok((Ok(()), text)) => break json_text::compact_json(&text),
            Ok((Err(what), _)) => what,
            Err(error) => format!("the text cannot be read: {error}."),
        };
        match go_on(&what, &mut interrupt).await {
            EditAgain::Yes => {}
            EditAgain::No => return Err(draft.keep_text(CommandFailure::new(exit::REFUSED, what))),
            EditAgain::Interrupted => {
                return Err(draft.keep_text(CommandFailure::interrupted("interrupted.")));
            }
        }
    };
    if new_payload == json_text::compact_json(payload.get()) {
        return report_unchanged(context, id).await;
    }
    let now = tokio::select! {
        now = RecordVersion::fetch(&context.client, id) => now,
        () = interrupt.wait() => return Err(draft.keep_text(CommandFailure::interrupted("interrupted."))),
    };
    let now = match now {
        Ok(now) => now,
        Err(error) => return Err(draft.keep_text(error.into())),
    };
    if now != before {
        let what = format!(
            "another user changed record {id} while the editor was open. It {} now.",
            state_phrase(now.state)
        );
        return Err(draft.keep_text(CommandFailure::failed(what).with_code("changed_meanwhile")));
    }
    let path = format!("/v1/records/{id}/payload");
    let response = tokio::select! {
        response = context.client.put(&path, JSON, new_payload.into()) => response,
        () = interrupt.wait() => return Err(draft.keep_in_doubt(CommandFailure::interrupted("interrupted."), id)),
    };
    match response {
        Ok(response) if context.json => context.print_json(&response)?,
        Ok(_) => {
            context.print_line(format!("The payload of record {id} was replaced; it will be sent again."))?;
        }
        Err(error) if is_outcome_unknown(&error) => return Err(draft.keep_in_doubt(error.into(), id)),
        Err(error) => return Err(draft.keep_text(error.into())),
    }
    Ok(exit::DONE)
}

async fn report_unchanged(context: &mut CommandContext<'_>, id: RecordId) -> Result<u8, CommandFailure> {
    if context.json {
        let response = show::fetch(&context.client, id, &[]).await?;
        context.print_json(&response)?;
    } else {
        context.print_wrapped(format!("Nothing was changed: record {id} still needs review."))?;
    }
    Ok(exit::DONE)
}

/// The record before the edit: it must not have changed when the payload is written back.
#[derive(Deserialize)]
struct RecordVersion {
    state: RecordState,
    updated_at: String,
    payload: Option<Box<RawValue>>,
}

impl RecordVersion {
    async fn fetch(client: &Client, id: RecordId) -> Result<Self, ClientError> {
        decode_json(&show::fetch(client, id, &["payload"]).await?)
    }
}

impl PartialEq for RecordVersion {
    fn eq(&self, other: &Self) -> bool {
        let payload = |version: &Self| version.payload.as_ref().map(|payload| payload.get().to_owned());
        (self.state, &self.updated_at, payload(self)) == (other.state, &other.updated_at, payload(other))
    }
}

/// Shows what is wrong and asks. Every answer except "no" means yes.
async fn ask_to_edit_again(what: &str, interrupt: &mut Interrupt) -> EditAgain {
    let mut out = io::stderr();
    write!(out, "fieldsync: {what} Edit again? [Y/n] ").and_then(|()| out.flush()).ok();
    let answer = spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|read| (read > 0).then_some(answer))
    });
    tokio::select! {
        answer = answer => match answer {
            Ok(Ok(Some(answer))) if !answer.trim().to_lowercase().starts_with('n') => EditAgain::Yes,
            // "No", or standard input was closed.
            _ => EditAgain::No,
        },
        () = interrupt.wait() => {
            writeln!(out).ok();
            EditAgain::Interrupted
        }
    }
}

/// A payload must be a JSON object. The daemon checks this, too, but without line and column.
fn check_payload(text: &str) -> Result<(), String> {
    match serde_json::from_str::<&serde_json::value::RawValue>(text) {
        Ok(value) if value.get().starts_with('{') => Ok(()),
        Ok(_) => Err("a payload must be a JSON object, in braces.".to_owned()),
        Err(error) => Err(format!("this is not JSON: {error}.")),
    }
}

/// Runs the editor as git does: in a shell, so that it may have arguments.
fn run_editor(editor: &str, file: &Path) -> Result<(), CommandFailure> {
    // Ctrl-C reaches the editor and this process, which ignores it as the editor does.
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$@\"")).arg(editor).arg(file).status();
    let problem = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) if status.code() == Some(NOT_FOUND) => "was not found".to_owned(),
        Ok(status) => format!("failed ({status})"),
        Err(error) => format!("could not be started ({error})"),
    };
    let message = format!(
        "the editor `{editor}` {problem}. The record was not changed. Name another editor in $VISUAL or $EDITOR."
    );
    Err(CommandFailure::failed(message).with_code("editor_failed"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::super::testing::run_verb;
    use super::*;
    use crate::client::scripted::{ScriptStep, ScriptedDaemon, response_step};

    fn detail_response_at(state: &str, time: u64) -> ScriptStep {
        let payload = r#"{"z": 1.50, "day": "30 Feb"}"#;
        response_step(
            200,
            &format!("{{\"state\":\"{state}\",\"updated_at\":\"{time}\",\"payload\":{payload}}}"),
        )
    }

    fn detail_response(state: &str) -> ScriptStep {
        detail_response_at(state, 1)
    }

    async fn run_edit(
        script: Vec<ScriptStep>,
        editor: &str,
        again: u32,
    ) -> (Result<u8, CommandFailure>, String, Vec<String>) {
        let daemon = ScriptedDaemon::new(script);
        let args = EditArgs { id: RecordId::new().into() };
        let left = Cell::new(again);
        let go_on = async |_: &str, _: &mut Interrupt| {
            if left.get() > 0 && left.replace(left.get() - 1) > 0 { EditAgain::Yes } else { EditAgain::No }
        };
        let (code, text) = run_verb(&daemon, false, async |context| {
            run_with(&args, context, |file| run_editor(editor, file), go_on).await
        })
        .await;
        let bodies = daemon.into_calls().into_iter();
        let bodies = bodies.map(|call| String::from_utf8(call.body).unwrap());
        (code, text, bodies.collect())
    }

    /// The text that was kept, which only its owner may read.
    fn read_kept_text(failure: &CommandFailure) -> String {
        let file = PathBuf::from(failure.message.rsplit(' ').next().unwrap());
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(file.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir_all(file.parent().unwrap()).unwrap();
        text
    }

    const CORRECTION: &str = "sed -i 's/30 Feb/28 Feb/'";

    #[tokio::test]
    async fn the_edited_payload_is_sent_and_the_rest_is_unchanged() {
        let script =
            vec![detail_response("QUARANTINED"), detail_response("QUARANTINED"), response_step(200, "{}")];
        let (code, text, bodies) = run_edit(script, CORRECTION, 0).await;
        assert_eq!(code, Ok(0));
        assert!(text.ends_with("will be sent again.\n"), "{text}");
        assert_eq!(bodies[2], r#"{"z":1.50,"day":"28 Feb"}"#);
    }

    #[tokio::test]
    async fn nothing_is_sent_when_nothing_was_changed() {
        let (code, text, _) = run_edit(vec![detail_response("QUARANTINED")], "true", 0).await;
        assert_eq!(code, Ok(0));
        assert!(text.starts_with("Nothing was changed"), "{text}");
        let (code, _, _) = run_edit(vec![detail_response("PENDING")], "false", 0).await;
        assert!(
            code.unwrap_err().message.contains("is waiting: only records that need review can be edited")
        );
    }

    #[tokio::test]
    async fn an_editor_that_fails_changes_nothing_and_loses_nothing() {
        for (editor, part) in [("false", "failed (exit status: 1)"), ("no-such-editor", "was not found")] {
            let (code, _, _) = run_edit(vec![detail_response("QUARANTINED")], editor, 0).await;
            let failure = code.unwrap_err();
            assert_eq!(failure.exit, exit::FAILED);
            assert!(failure.message.contains(part) && !failure.message.contains("kept in"), "{failure:?}");
        }
        let crashes = format!("sh -c '{} \"$1\"; exit 3' -", CORRECTION.replace('\'', "\""));
        let (code, _, _) = run_edit(vec![detail_response("QUARANTINED")], &crashes, 0).await;
        assert!(read_kept_text(&code.unwrap_err()).contains("28 Feb"));
    }

    #[tokio::test]
    async fn a_mistake_is_edited_again_or_keeps_the_text() {
        let (code, _, _) = run_edit(vec![detail_response("QUARANTINED")], "sed -i 's/30 Feb\"//'", 0).await;
        let failure = code.unwrap_err();
        assert_eq!(failure.exit, exit::REFUSED);
        assert!(read_kept_text(&failure).contains("1.50"));
        // Breaks the text the first time, and repairs it the second time.
        let twice = r#"sh -c 'grep -q Feb\" "$1" && sed -i "s/30 Feb\"/30 Feb/" "$1" || sed -i "s/30 Feb/28 Feb\"/" "$1"' -"#;
        let script =
            vec![detail_response("QUARANTINED"), detail_response("QUARANTINED"), response_step(200, "{}")];
        let (code, _, bodies) = run_edit(script, twice, 1).await;
        assert_eq!(code, Ok(0));
        assert_eq!(bodies[2], r#"{"z":1.50,"day":"28 Feb"}"#);
    }

    #[tokio::test]
    async fn an_edit_whose_response_was_lost_is_reported_as_unknown() {
        for (lost, in_doubt) in
            [(ScriptStep::HangUp, true), (response_step(500, ""), true), (response_step(409, ""), false)]
        {
            let script = vec![detail_response("QUARANTINED"), detail_response("QUARANTINED"), lost];
            let failure = run_edit(script, CORRECTION, 0).await.0.unwrap_err();
            let texts = ["It is not known whether your text is in the record", "The record was not changed"];
            assert_eq!(
                texts.map(|text| failure.message.contains(text)),
                [in_doubt, !in_doubt],
                "{failure:?}"
            );
            assert!(read_kept_text(&failure).contains("28 Feb"));
        }
    }

    #[tokio::test]
    async fn a_record_changed_meanwhile_is_not_overwritten() {
        for now in [detail_response("PENDING"), detail_response_at("QUARANTINED", 2)] {
            let (code, _, _) = run_edit(vec![detail_response("QUARANTINED"), now], CORRECTION, 0).await;
            let failure = code.unwrap_err();
            assert!(failure.message.contains("another user changed record"), "{failure:?}");
            assert!(read_kept_text(&failure).contains("28 Feb"));
        }
    }
}
