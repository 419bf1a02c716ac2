//! `fieldsync quarantine edit`: a payload in the user's editor.
//!
//! The payload may be private, so that it lives in a directory of the owner's alone, together with
//! whatever copies the editor makes, and goes away with it. What a person typed is never thrown away
//! because something failed afterwards: then it stays where it is, and the message says where. A record
//! that somebody else changed while the editor was open is left to them.

use std::fs::{self, File, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::context::Context;
use super::failure::{Failure, leaves_doubt};
use super::follow::Interrupt;
use super::{json_text, show};
use crate::client::{Client, ClientError, JSON, decode_json};
use crate::exit;
use crate::model::{RecordId, RecordState};

/// What a shell says of a program that is not there.
const NOT_FOUND: i32 = 127;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The editor is started by the shell, and may have arguments, as in
EDITOR='code --wait'. The text is readable by you alone. What is no JSON object
can be edited again; what cannot be written back is kept in a file.

Examples:
  fieldsync quarantine edit 0191b3a0-0000-7000-8000-000000000000")]
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
    let asks = io::stdin().is_terminal() && io::stderr().is_terminal();
    let go_on = async |what: &str, interrupt: &mut Interrupt| {
        if asks { wants_to_go_on(what, interrupt).await } else { GoOn::No }
    };
    run_with(args, context, |file| edit(&editor, file), go_on).await
}

/// What a person answers.
enum GoOn {
    Yes,
    No,
    /// With Ctrl-C.
    Interrupted,
}

/// `go_on` asks whether to edit again what is wrong in this way.
async fn run_with(
    args: &Args,
    context: &mut Context<'_>,
    edit: impl Fn(&Path) -> Result<(), Failure>,
    go_on: impl AsyncFn(&str, &mut Interrupt) -> GoOn,
) -> Result<u8, Failure> {
    let id = args.id;
    let before = Version::of(&context.client, id).await?;
    if before.state != RecordState::Quarantined {
        let next = match before.state {
            RecordState::Synced => "See what is: fieldsync quarantine list".to_owned(),
            _ => format!("An admin can put it under review: fieldsync quarantine add {id}"),
        };
        let message = format!(
            "record {id} is {} and not under review: only quarantined records can be edited. Nothing was changed. {next}",
            before.state.name()
        );
        return Err(Failure::failed(message).coded("not_quarantined"));
    }
    let Some(payload) = &before.payload else {
        return Err(Failure::failed(format!(
            "the daemon sent no payload for record {id}. Nothing was changed. See why: fieldsync show {id}"
        )));
    };
    let draft = Draft::new(id, &json_text::pretty(payload.get()))?;
    // From here on, Ctrl-C must not take the text away.
    let mut interrupt = Interrupt::new()?;
    let mended = loop {
        let edited = edit(&draft.file);
        interrupt.forget();
        if let Err(failure) = edited {
            return Err(draft.keep_if_changed(failure));
        }
        let what = match draft.read().map(|text| (check(&text), text)) {
            Ok((Ok(()), text)) => break json_text::compact(&text),
            Ok((Err(what), _)) => what,
            Err(error) => format!("the text cannot be read: {error}."),
        };
        match go_on(&what, &mut interrupt).await {
            GoOn::Yes => {}
            GoOn::No => return Err(draft.keep(Failure::new(exit::REFUSED, what))),
            GoOn::Interrupted => return Err(draft.keep(Failure::interrupted("interrupted."))),
        }
    };
    if mended == json_text::compact(payload.get()) {
        return unchanged(context, id).await;
    }
    let now = tokio::select! {
        now = Version::of(&context.client, id) => now,
        () = interrupt.wait() => return Err(draft.keep(Failure::interrupted("interrupted."))),
    };
    let now = match now {
        Ok(now) => now,
        Err(error) => return Err(draft.keep(error.into())),
    };
    if now != before {
        let what = format!(
            "record {id} was changed by somebody else while the editor was open, and is {} now.",
            now.state.name()
        );
        return Err(draft.keep(Failure::failed(what).coded("changed_meanwhile")));
    }
    let path = format!("/v1/records/{id}/payload");
    let answer = tokio::select! {
        answer = context.client.put(&path, JSON, mended.into()) => answer,
        () = interrupt.wait() => return Err(draft.keep_in_doubt(Failure::interrupted("interrupted."), id)),
    };
    match answer {
        Ok(answer) if context.json => context.answer_line(&answer)?,
        Ok(_) => context.line(format!("Record {id} is mended and will be sent again."))?,
        Err(error) if leaves_doubt(&error) => return Err(draft.keep_in_doubt(error.into(), id)),
        Err(error) => return Err(draft.keep(error.into())),
    }
    Ok(exit::DONE)
}

async fn unchanged(context: &mut Context<'_>, id: RecordId) -> Result<u8, Failure> {
    if context.json {
        let answer = show::fetch(&context.client, id, &[]).await?;
        context.answer_line(&answer)?;
    } else {
        context.text(format!("Nothing was changed: record {id} is still under review."))?;
    }
    Ok(exit::DONE)
}

/// What an edit is made to: it must still be so when it is written back.
#[derive(Deserialize)]
struct Version {
    state: RecordState,
    updated_at: String,
    payload: Option<Box<RawValue>>,
}

impl Version {
    async fn of(client: &Client, id: RecordId) -> Result<Self, ClientError> {
        decode_json(&show::fetch(client, id, &["payload"]).await?)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        let payload = |version: &Self| version.payload.as_ref().map(|payload| payload.get().to_owned());
        (self.state, &self.updated_at, payload(self)) == (other.state, &other.updated_at, payload(other))
    }
}

/// Says what is wrong, and takes everything but a no for a yes.
async fn wants_to_go_on(what: &str, interrupt: &mut Interrupt) -> GoOn {
    let mut out = io::stderr();
    write!(out, "fieldsync: {what} Edit again? [Y/n] ").and_then(|()| out.flush()).ok();
    let answer = spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|read| (read > 0).then_some(answer))
    });
    tokio::select! {
        answer = answer => match answer {
            Ok(Ok(Some(answer))) if !answer.trim().to_lowercase().starts_with('n') => GoOn::Yes,
            // A no, or nobody is there any more.
            _ => GoOn::No,
        },
        () = interrupt.wait() => {
            writeln!(out).ok();
            GoOn::Interrupted
        }
    }
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
    original: String,
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
            Ok(Self { dir, file, original: text.to_owned() })
        };
        make().map_err(|error| {
            Failure::failed(format!(
                "no temporary file for the editor: {error}. Nothing was changed. Make room there, or name another \
                 directory in TMPDIR."
            ))
        })
    }

    fn read(&self) -> io::Result<String> {
        fs::read_to_string(&self.file)
    }

    fn keep_if_changed(self, failure: Failure) -> Failure {
        if self.read().is_ok_and(|text| text == self.original) { failure } else { self.keep(failure) }
    }

    fn keep(self, failure: Failure) -> Failure {
        self.keep_and_say(failure, "Nothing of yours is in the record; your text is kept in")
    }

    /// The text was sent, and nobody said what became of it.
    fn keep_in_doubt(self, failure: Failure, id: RecordId) -> Failure {
        let say = format!(
            "It is not known whether your text is in the record: fieldsync show --payload {id}. It is kept, too, in"
        );
        self.keep_and_say(failure, &say)
    }

    fn keep_and_say(self, failure: Failure, say: &str) -> Failure {
        // The path says all; the directory stays because nobody deletes it any more.
        drop(self.dir.keep());
        let message = format!("{} {say} {}", failure.message, self.file.display());
        Failure { message, ..failure }
    }
}

/// Runs the editor as git does: through the shell, so that it may have arguments.
fn edit(editor: &str, file: &Path) -> Result<(), Failure> {
    // Ctrl-C goes to the editor and to this process; the caller survives it, as an editor does.
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
    Err(Failure::failed(message).coded("editor_failed"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::testing::run;
    use super::*;
    use crate::client::scripted::{Scripted, Step, answer_step};

    fn detail_at(state: &str, time: u64) -> Step {
        let payload = r#"{"z": 1.50, "day": "30 Feb"}"#;
        answer_step(
            200,
            &format!("{{\"state\":\"{state}\",\"updated_at\":\"{time}\",\"payload\":{payload}}}"),
        )
    }

    fn detail(state: &str) -> Step {
        detail_at(state, 1)
    }

    async fn edited(
        script: Vec<Step>,
        editor: &str,
        again: u32,
    ) -> (Result<u8, Failure>, String, Vec<String>) {
        let daemon = Scripted::new(script);
        let args = Args { id: RecordId::new() };
        let left = Cell::new(again);
        let go_on = async |_: &str, _: &mut Interrupt| {
            if left.get() > 0 && left.replace(left.get() - 1) > 0 { GoOn::Yes } else { GoOn::No }
        };
        let (code, text) = run(&daemon, false, async |context| {
            run_with(&args, context, |file| edit(editor, file), go_on).await
        })
        .await;
        let bodies = daemon.into_calls().into_iter();
        let bodies = bodies.map(|call| String::from_utf8(call.body).unwrap());
        (code, text, bodies.collect())
    }

    /// What is kept, and that nobody else may read it.
    fn kept(failure: &Failure) -> String {
        let file = PathBuf::from(failure.message.rsplit(' ').next().unwrap());
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(file.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir_all(file.parent().unwrap()).unwrap();
        text
    }

    const MENDED: &str = "sed -i 's/30 Feb/28 Feb/'";

    #[tokio::test]
    async fn what_was_mended_is_sent_and_the_rest_is_untouched() {
        let script = vec![detail("QUARANTINED"), detail("QUARANTINED"), answer_step(200, "{}")];
        let (code, text, bodies) = edited(script, MENDED, 0).await;
        assert_eq!(code, Ok(0));
        assert!(text.ends_with("will be sent again.\n"), "{text}");
        assert_eq!(bodies[2], r#"{"z":1.50,"day":"28 Feb"}"#);
    }

    #[tokio::test]
    async fn nothing_is_sent_when_nothing_was_changed() {
        let (code, text, _) = edited(vec![detail("QUARANTINED")], "true", 0).await;
        assert_eq!(code, Ok(0));
        assert!(text.starts_with("Nothing was changed"), "{text}");
        let (code, _, _) = edited(vec![detail("PENDING")], "false", 0).await;
        assert!(code.unwrap_err().message.contains("is PENDING and not under review"));
    }

    #[tokio::test]
    async fn an_editor_that_fails_changes_nothing_and_loses_nothing() {
        for (editor, part) in [("false", "failed (exit status: 1)"), ("no-such-editor", "was not found")] {
            let (code, _, _) = edited(vec![detail("QUARANTINED")], editor, 0).await;
            let failure = code.unwrap_err();
            assert_eq!(failure.exit, exit::FAILED);
            assert!(failure.message.contains(part) && !failure.message.contains("kept in"), "{failure:?}");
        }
        let crashes = format!("sh -c '{} \"$1\"; exit 3' -", MENDED.replace('\'', "\""));
        let (code, _, _) = edited(vec![detail("QUARANTINED")], &crashes, 0).await;
        assert!(kept(&code.unwrap_err()).contains("28 Feb"));
    }

    #[tokio::test]
    async fn a_mistake_is_edited_again_or_keeps_the_text() {
        let (code, _, _) = edited(vec![detail("QUARANTINED")], "sed -i 's/30 Feb\"//'", 0).await;
        let failure = code.unwrap_err();
        assert_eq!(failure.exit, exit::REFUSED);
        assert!(kept(&failure).contains("1.50"));
        // The first time it breaks the text, the second time it mends it.
        let twice = r#"sh -c 'grep -q Feb\" "$1" && sed -i "s/30 Feb\"/30 Feb/" "$1" || sed -i "s/30 Feb/28 Feb\"/" "$1"' -"#;
        let script = vec![detail("QUARANTINED"), detail("QUARANTINED"), answer_step(200, "{}")];
        let (code, _, bodies) = edited(script, twice, 1).await;
        assert_eq!(code, Ok(0));
        assert_eq!(bodies[2], r#"{"z":1.50,"day":"28 Feb"}"#);
    }

    #[tokio::test]
    async fn what_became_of_a_text_whose_answer_was_lost_is_not_claimed_to_be_known() {
        for (lost, in_doubt) in
            [(Step::HangUp, true), (answer_step(500, ""), true), (answer_step(409, ""), false)]
        {
            let script = vec![detail("QUARANTINED"), detail("QUARANTINED"), lost];
            let failure = edited(script, MENDED, 0).await.0.unwrap_err();
            let said =
                ["It is not known whether your text is in the record", "Nothing of yours is in the record"];
            assert_eq!(said.map(|said| failure.message.contains(said)), [in_doubt, !in_doubt], "{failure:?}");
            assert!(kept(&failure).contains("28 Feb"));
        }
    }

    #[tokio::test]
    async fn a_record_that_was_changed_meanwhile_is_left_alone() {
        for now in [detail("PENDING"), detail_at("QUARANTINED", 2)] {
            let (code, _, _) = edited(vec![detail("QUARANTINED"), now], MENDED, 0).await;
            let failure = code.unwrap_err();
            assert!(failure.message.contains("was changed by somebody else"), "{failure:?}");
            assert!(kept(&failure).contains("28 Feb"));
        }
    }
}
