//! Messages to systemd, if it asked for them: readiness, reloads, and a line for `systemctl status`.

use std::time::Duration;

use sd_notify::NotifyState;

/// The gateway takes requests.
pub(super) fn report_ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload began; [`report_ready`] ends it.
pub(super) fn report_reloading() {
    // systemd compares the time with that of its request.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the reload cannot be reported to systemd"),
    }
}

/// The start takes longer: systemd waits so much longer from now on.
pub(super) fn report_long_start(status: &str, time: Duration) {
    let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::Status(status), NotifyState::ExtendTimeoutUsec(micros)]);
}

pub(super) fn report_stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("Waiting for requests in flight")]);
}

fn send(messages: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(messages) {
        tracing::debug!(%error, "a message could not be sent to systemd");
    }
}
