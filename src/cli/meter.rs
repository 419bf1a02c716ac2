//! Shows the daemon's summary sentence and a progress bar: in place on a terminal, else line by line.

use console::truncate_str;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::context::{CommandContext, NoteWriter};
use super::failure::CommandFailure;
use super::format::{duration, strip_controls};
use crate::api::Status;

pub(crate) struct StatusMeter {
    bar: Option<ProgressBar>,
    notes: NoteWriter,
    last_sentence: String,
    last_remedy: Option<String>,
}

impl StatusMeter {
    pub(crate) fn new(context: &CommandContext<'_>) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stdout());
        // Some terminals cannot move the cursor.
        let in_place = context.is_terminal && !context.json && !bar.is_hidden();
        Self {
            bar: in_place.then_some(bar),
            notes: context.note_writer(),
            last_sentence: String::new(),
            last_remedy: None,
        }
    }

    pub(crate) fn show_status(
        &mut self,
        context: &mut CommandContext<'_>,
        status: &Status,
    ) -> Result<(), CommandFailure> {
        let sync = &status.sync;
        if let Some(bar) = &self.bar {
            bar.set_style(bar_style(&bar_template(status, context.width)));
            bar.set_length(sync.total);
            bar.set_position(sync.done);
            bar.set_prefix(describe_time_left(sync.eta_s));
            bar.set_message(strip_controls(&sync.text).into_owned());
            // Drawing is rate limited, which must not suppress the last change.
            bar.force_draw();
        } else if self.last_sentence != sync.text || self.last_remedy != sync.remedy {
            context.print_line_now(strip_controls(&sync.text))?;
            if let Some(remedy) = sync.remedy.as_ref().filter(|_| self.last_remedy != sync.remedy) {
                context.print_line_now(format!("To do: {}", strip_controls(remedy)))?;
            }
        }
        self.last_sentence.clone_from(&sync.text);
        self.last_remedy.clone_from(&sync.remedy);
        Ok(())
    }

    /// Prints a note without disturbing the bar.
    pub(crate) fn print_note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.notes.print_note(text)),
            None => self.notes.print_note(text),
        }
    }

    /// Removes the bar and prints the last sentence and remedy.
    pub(crate) fn finish(&self, context: &mut CommandContext<'_>) -> Result<(), CommandFailure> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            if !self.last_sentence.is_empty() {
                context.print_line(strip_controls(&self.last_sentence))?;
            }
            if let Some(remedy) = &self.last_remedy {
                context.print_line(format!("To do: {}", strip_controls(remedy)))?;
            }
        }
        Ok(())
    }
}

/// The sentence, what a person can do, and the bar while records wait.
fn bar_template(status: &Status, width: Option<usize>) -> String {
    let remedy = status.sync.remedy.as_deref().map_or(String::new(), |remedy| {
        let line = format!("To do: {}", strip_controls(remedy));
        let line = width.map_or(line.as_str().into(), |width| truncate_str(&line, width, "…"));
        format!("\n{}", line.replace('{', "{{").replace('}', "}}"))
    });
    let bar = if status.sync.total == 0
        || status.records.pending + status.records.syncing + status.records.failed == 0
    {
        ""
    } else {
        "\n{wide_bar} {pos}/{len}{prefix}"
    };
    format!("{{wide_msg}}{remedy}{bar}")
}

fn bar_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The daemon's own estimate, which includes waits and batch sizes.
fn describe_time_left(eta_s: Option<u64>) -> String {
    eta_s.map_or_else(String::new, |seconds| {
        format!(", about {} left", duration(seconds.saturating_mul(1000)))
    })
}
