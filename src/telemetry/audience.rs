//! Who sees what on the socket; nothing else decides it. `docs/access.md` is the whole table, and a test makes every
//! call of it.
//!
//! The key of a record, and what the server says of it (the message and field of its error, its receipt), may quote the
//! record. They are for the user who handed it over (its submitter) and for admins; every other user sees the rest of
//! it: class, code and status of its error.
//! What the server says of a whole request may quote any record in it, so it is for admins alone.

use crate::api::{RecordChange, Status};
use crate::model::{LastError, ManifestEntry};
use crate::store::{Filter, ManifestPage, StoreError, StoreView};

/// One who reads what the daemon knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audience {
    /// None for a reader who has handed nothing over.
    uid: Option<u32>,
    is_admin: bool,
}

impl Audience {
    /// One who is neither an admin nor the submitter of anything.
    pub const OTHERS: Self = Self { uid: None, is_admin: false };
    /// One who sees everything.
    #[cfg(test)]
    pub const ADMINS: Self = Self { uid: None, is_admin: true };

    pub(crate) fn new(uid: u32, is_admin: bool) -> Self {
        Self { uid: Some(uid), is_admin }
    }

    /// The user and whether it is an admin, where there is one.
    pub(crate) fn caller(self) -> Option<(u32, bool)> {
        self.uid.map(|uid| (uid, self.is_admin))
    }

    /// Whether it sees all of what this user has handed over. Without a submitter, only admins do.
    pub(crate) fn sees_all_of(self, submitter: Option<u32>) -> bool {
        self.is_admin || (self.uid.is_some() && self.uid == submitter)
    }

    /// The user whose records are listed; none for those of all users, as admins have it unless they say otherwise.
    pub(crate) fn listed_submitter(self, all: Option<bool>) -> Option<u32> {
        self.uid.filter(|_| !all.unwrap_or(self.is_admin))
    }

    /// A page of the manifest, as this reader sees it.
    pub(crate) fn read_page(self, view: &StoreView, filter: &Filter) -> Result<ManifestPage, StoreError> {
        let mut page = view.list_page(filter)?;
        for entry in &mut page.entries {
            self.redact_entry(entry);
        }
        Ok(page)
    }

    /// Leaves out of an entry of the manifest what this reader does not see; true when that is something.
    pub(crate) fn redact_entry(self, entry: &mut ManifestEntry) -> bool {
        let is_redacted = !self.sees_all_of(Some(entry.submitter));
        if is_redacted {
            entry.key = None;
            hide_message(&mut entry.last_error);
        }
        is_redacted
    }

    /// Leaves out of a status what this reader does not see.
    pub fn redact_status(self, status: &mut Status) {
        for blocker in &mut status.queue.blockers {
            if !self.sees_all_of(Some(blocker.submitter)) {
                blocker.key = None;
            }
        }
        if !self.is_admin {
            hide_message(&mut status.sync.last_error);
            for set in &mut status.sync.denied {
                set.error.message.clear();
                set.error.field = None;
            }
        }
    }

    /// Leaves out of the news of a record what this reader does not see.
    pub(crate) fn redact_change(self, change: &mut RecordChange, submitter: u32) {
        if !self.sees_all_of(Some(submitter)) {
            hide_message(&mut change.last_error);
            change.receipt = None;
        }
    }
}

fn hide_message(error: &mut Option<LastError>) {
    if let Some(error) = error {
        error.message.clear();
        error.field = None;
    }
}
