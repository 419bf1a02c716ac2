//! A slot: room for one request at a time, with the connection that was opened for it last.

use std::cell::RefCell;
use std::net::UdpSocket;
use std::rc::Rc;

use tokio::sync::Notify;

use super::connection::ConnectionStats;

/// A slot. It has one connection at a time, so the one that was opened last is the one in use.
#[derive(Default)]
pub(super) struct Slot {
    connection: RefCell<Option<Rc<ConnectionStats>>>,
    activity: Rc<Notify>,
}

impl Slot {
    /// What is known of the connection that was opened last; none while the first or another one is being opened.
    pub(super) fn connection(&self) -> Option<Rc<ConnectionStats>> {
        self.connection.borrow().clone()
    }

    /// Another connection is being opened.
    pub(super) fn begin_connection(&self) {
        self.connection.take();
    }

    /// A connection was opened.
    pub(super) fn set_connection(&self, connection: Rc<ConnectionStats>) {
        self.connection.replace(Some(connection));
    }

    /// Notified when the connection makes progress.
    pub(super) fn activity(&self) -> &Rc<Notify> {
        &self.activity
    }

    /// Whether the local address of the connection is gone.
    pub(super) fn has_lost_address(&self) -> bool {
        let local = self.connection().and_then(|stats| stats.local_address());
        local.is_some_and(|address| UdpSocket::bind((address, 0)).is_err())
    }
}
