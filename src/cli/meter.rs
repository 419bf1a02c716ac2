//! Shows the daemon's summary sentence and a progress bar: in place on a terminal, else line by line.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::context::{CommandContext, NoteWriter};
use super::failure::CommandFailure;
use super::format::{duration, strip_controls};
use crate::api::Status;

pub(crate) struct StatusMeter {
    bar: Option<ProgressBar>,
    notes: NoteWriter,
    last_sentence: String,
}

impl StatusMeter {
    pub(crate) fn new(context: &CommandContext<'_>) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stdout());
        // Some terminals cannot move the cursor.
        let in_place = context.is_terminal && !context.json && !bar.is_hidden();
        Self { bar: in_place.then_some(bar), notes: context.note_writer(), last_sentence: String::new() }
    }

    pub(crate) fn show_status(
        &mut self,
        context: &mut CommandContext<'_>,
        status: &Status,
    ) -> Result<(), CommandFailure> {
        let sync = &status.sync;
        if let Some(bar) = &self.bar {
            bar.set_style(bar_style(bar_template(status)));
            bar.set_length(sync.total);
            bar.set_position(sync.done);
            bar.set_prefix(describe_time_left(sync.eta_s));
            bar.set_message(strip_controls(&sync.text).into_owned());
            // Drawing is rate limited, which must not suppress the last change.
            bar.force_draw();
        } else if self.last_sentence != sync.text {
            context.print_line_now(strip_controls(&sync.text))?;
        }
        self.last_sentence.clone_from(&sync.text);
        Ok(())
    }

    /// Prints a note without disturbing the bar.
    pub(crate) fn print_note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.notes.print_note(text)),
            None => self.notes.print_note(text),
        }
    }

    /// Removes the bar and prints the last sentence.
    pub(crate) fn finish(&self, context: &mut CommandContext<'_>) -> Result<(), CommandFailure> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            if !self.last_sentence.is_empty() {
                context.print_line(strip_controls(&self.last_sentence))?;
            }
        }
        Ok(())
    }
}

fn bar_template(status: &Status) -> &'static str {
    if status.sync.total == 0 || status.records.pending + status.records.syncing + status.records.failed == 0
    {
        "{wide_msg}"
    } else {
        "{wide_msg}\n{wide_bar} {pos}/{len}{prefix}"
    }
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
