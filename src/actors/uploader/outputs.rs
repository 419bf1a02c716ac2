//! What the uploader publishes besides the results of requests: changes of the credentials, their expiry, and the last
//! response of the server with its clock.

use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{SteadyClock, millis};
use crate::policy::alerts::facts::{ClockReading, CredentialExpiry, ServerContact};
use crate::protocol::exchange::{RequestResult, ResponseBody};

/// The channels of the uploader.
pub struct UploaderOutputs {
    /// Counts the changes of the credentials.
    pub credential_changes: watch::Sender<u64>,
    /// When the credentials expire.
    pub expiry: watch::Sender<CredentialExpiry>,
    /// The last response.
    pub contact: ContactReporter,
}

/// Publishes each contact with the server.
#[derive(Clone)]
pub struct ContactReporter {
    sender: watch::Sender<ServerContact>,
    steady: SteadyClock,
}

impl ContactReporter {
    /// Publishes on this channel.
    pub fn new(sender: watch::Sender<ServerContact>, steady: SteadyClock) -> Self {
        Self { sender, steady }
    }

    /// Notes the result of a request. `date` is the time of the server. Only a response in the protocol's format is
    /// certainly the server's: a proxy or a login page in between has a clock of its own.
    pub(super) fn record(&self, result: &RequestResult, date: Option<Duration>) {
        let RequestResult::Response(response) = result else { return };
        if !matches!(
            response.body,
            ResponseBody::Batch(_) | ResponseBody::Processing(_) | ResponseBody::Error(_)
        ) {
            return;
        }
        let at = self.steady.now().steady;
        self.sender.send_modify(|contact| {
            contact.at = Some(at);
            if let Some(date) = date {
                contact.clock = Some(ClockReading { at, server: millis(date) });
            }
        });
    }
}
