//! The daemon's sentence and a bar of records, drawn in place on a terminal and line by line elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::context::{Context, Notes};
use super::failure::Failure;
use super::words::{plain, span};
use crate::api::Status;

pub(crate) struct Meter {
    bar: Option<ProgressBar>,
    notes: Notes,
    said: String,
}

impl Meter {
    pub(crate) fn new(context: &Context<'_>) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stdout());
        // Not every terminal can move its cursor.
        let in_place = context.terminal && !context.json && !bar.is_hidden();
        Self { bar: in_place.then_some(bar), notes: context.notes(), said: String::new() }
    }

    pub(crate) fn show(&mut self, context: &mut Context<'_>, status: &Status) -> Result<(), Failure> {
        let sync = &status.sync;
        if let Some(bar) = &self.bar {
            bar.set_style(style(bar_template(status)));
            bar.set_length(sync.total);
            bar.set_position(sync.done);
            bar.set_prefix(remaining(sync.eta_s));
            bar.set_message(plain(&sync.text).into_owned());
            // Drawing is rationed, and the last change before a quiet hour must not be the one that is left out.
            bar.force_draw();
        } else if self.said != sync.text {
            context.line_now(plain(&sync.text))?;
        }
        self.said.clone_from(&sync.text);
        Ok(())
    }

    /// Says something about the watching itself.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.notes.say(text)),
            None => self.notes.say(text),
        }
    }

    /// Takes the bar away and leaves the last sentence.
    pub(crate) fn end(&self, context: &mut Context<'_>) -> Result<(), Failure> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            if !self.said.is_empty() {
                context.line(plain(&self.said))?;
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

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The daemon's own estimate: it knows of waits and batch sizes, which a mere rate does not.
fn remaining(eta_s: Option<u64>) -> String {
    eta_s.map_or_else(String::new, |seconds| format!(", about {} left", span(seconds.saturating_mul(1000))))
}
