//! What every verb is given: the daemon to ask, where to write, and how.

use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use super::json_text;
use crate::ipc::client::{Client, JSON, decode};

pub(crate) struct Context<'a> {
    pub(crate) client: Client,
    /// Where an option or a variable says that the daemon is.
    pub(crate) named_socket: Option<PathBuf>,
    /// JSON instead of text.
    pub(crate) json: bool,
    /// Somebody watches standard output.
    pub(crate) terminal: bool,
    pub(crate) colour: bool,
    pub(crate) out: &'a mut dyn Write,
}

impl Context<'_> {
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        writeln!(self.out, "{}", text.as_ref())?;
        Ok(())
    }

    /// One line that somebody may be waiting for at the other end of a pipe.
    pub(crate) fn line_now(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.line(text)?;
        self.out.flush()?;
        Ok(())
    }

    /// The daemon's own JSON on one line, with whatever a newer daemon says more than is known here.
    pub(crate) fn answer_line(&mut self, answer: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(answer);
        let text = json_text::compact(&text);
        self.line(if text.is_empty() { "{}" } else { &text })
    }

    /// An answer with one shape in both forms: JSON as it came, or what `view` makes of it.
    pub(crate) fn present<T: DeserializeOwned>(
        &mut self,
        answer: &[u8],
        view: impl FnOnce(&mut Self, T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.json {
            return self.answer_line(answer);
        }
        let answer = decode(answer)?;
        view(self, answer)
    }

    pub(crate) async fn post_json(&self, path: &str, body: &impl Serialize) -> Result<Bytes, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::failed(format!("the request cannot be written: {error}.")))?;
        Ok(self.client.post(path, JSON, body.into()).await?)
    }
}

/// Tells people, on standard error. Nobody may be there to read it, which is no reason to stop.
pub(crate) fn say(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}
