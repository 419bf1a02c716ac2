//! Entries in the journal: fields of our own beside the usual ones, and an id where the message has one.
//!
//! The crate's layer puts its prefix before every field of an event, and adds what else it is given to all of
//! its entries alike. `MESSAGE_ID=` must not have the prefix: so each id has a layer, which costs a socket.
//! A journald that does not read would hold up whoever logs, the store among them. So none waits for it: what
//! finds no room is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixDatagram;

use nix::poll::{PollFd, PollFlags, poll};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_journald::{Layer as Entries, Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::journal::MESSAGES;

/// Event fields become `FIELDSYNC_BATCH_ID=…` in the journal.
const FIELD_PREFIX: &str = "FIELDSYNC";
const IDENTIFIER: &str = "fieldsyncd";
const SOCKET: &str = "/run/systemd/journal/socket";
/// Milliseconds that a journald may take, at the start, to read what is before it. Else it is stuck.
const PATIENCE: u16 = 1000;

/// The journal.
pub(super) struct Journald {
    with_id: BTreeMap<&'static str, Entries>,
    others: Entries,
}

impl Journald {
    /// To be called while the process has one thread. An error where there is none, or one that does not read.
    pub(super) fn find() -> io::Result<Self> {
        let gauge = UnixDatagram::unbound()?;
        gauge.connect(SOCKET)?;
        let before = open_files()?;
        let with_id = MESSAGES
            .iter()
            .map(|(_, id)| Ok((*id, entries(&gauge)?.with_custom_fields([("MESSAGE_ID", id)]))))
            .collect::<io::Result<_>>()?;
        let journald = Self { with_id, others: entries(&gauge)? };
        for fd in open_files()?.difference(&before) {
            do_not_block(*fd)?;
        }
        Ok(journald)
    }
}

impl<S> Layer<S> for Journald
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        self.with_id.get(event.metadata().name()).unwrap_or(&self.others).on_event(event, ctx);
    }

    // What is noted of a span is kept with the span, for all layers.
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        self.others.on_new_span(attributes, id, ctx);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        self.others.on_record(id, values, ctx);
    }
}

/// The crate tries its socket by sending nothing over it: whether there is room even for that is seen before.
fn entries(gauge: &UnixDatagram) -> io::Result<Entries> {
    let mut asked = [PollFd::new(gauge.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut asked, PATIENCE)? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let priorities = PriorityMappings { info: Priority::Informational, ..PriorityMappings::new() };
    Ok(tracing_journald::layer()?
        .with_field_prefix(Some(FIELD_PREFIX.to_owned()))
        .with_syslog_identifier(IDENTIFIER.to_owned())
        .with_priority_mappings(priorities))
}

fn open_files() -> io::Result<BTreeSet<RawFd>> {
    let names = std::fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
}

#[expect(unsafe_code, reason = "the crate gives no access to its socket; it lives as long as the process")]
fn do_not_block(fd: RawFd) -> io::Result<()> {
    use std::os::fd::BorrowedFd;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    // The listing's own descriptor is among them and closed already: that it is not there is no error.
    // SAFETY: called with one thread, so that nothing closes or reuses `fd` in between.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    let Ok(flags) = fcntl(file, FcntlArg::F_GETFL) else {
        return Ok(());
    };
    let flags = OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK;
    fcntl(file, FcntlArg::F_SETFL(flags)).map(drop).map_err(io::Error::from)
}
