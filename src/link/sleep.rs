//! Hears that the device slept, without a timer that ticks.
//!
//! The kernel ends a timer of the wall clock when that clock jumps, and a device that wakes up makes it
//! jump. Whether it slept, or somebody only set the clock, shows the time since the boot: it goes on
//! in sleep, which the monotonic clock does not. See `timerfd_create(2)`, `TFD_TIMER_CANCEL_ON_SET`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use tokio::io::unix::AsyncFd;

use crate::async_fd::readable;

/// A shorter sleep breaks no connection; and the two clocks are not read at one instant.
const LEAST: Duration = Duration::from_secs(1);
/// As far away as a timer may be set: it is never to expire.
const NEVER: Duration = Duration::from_secs(libc::time_t::MAX.unsigned_abs());

/// Tells when the device wakes up.
#[derive(Debug)]
pub struct Sleep {
    timer: TimerFd,
    ended: AsyncFd<OwnedFd>,
    slept: Duration,
}

impl Sleep {
    /// Listens from now on.
    pub fn new() -> io::Result<Self> {
        let timer =
            TimerFd::new(TimerClock::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        arm(&timer)?;
        let ended = readable(timer.as_fd().try_clone_to_owned()?)?;
        Ok(Self { timer, ended, slept: slept()? })
    }

    /// Waits until the device has slept; for how long.
    pub async fn woke(&mut self) -> io::Result<Duration> {
        loop {
            self.ended.readable().await?.clear_ready();
            let mut expirations = [0; 8];
            match nix::unistd::read(self.timer.as_fd(), &mut expirations) {
                Ok(_) | Err(Errno::ECANCELED | Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            arm(&self.timer)?;
            let so_far = slept()?;
            let now = so_far.saturating_sub(self.slept);
            self.slept = so_far;
            if now >= LEAST {
                return Ok(now);
            }
        }
    }
}

fn arm(timer: &TimerFd) -> nix::Result<()> {
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    timer.set(Expiration::OneShot(TimeSpec::from_duration(NEVER)), flags)
}

/// How long the device slept since it booted.
fn slept() -> nix::Result<Duration> {
    let awake: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC)?.into();
    let all: Duration = clock_gettime(ClockId::CLOCK_BOOTTIME)?.into();
    Ok(all.saturating_sub(awake))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_device_that_does_not_sleep_is_not_disturbed() {
        let mut sleep = Sleep::new().unwrap();
        let disturbed = tokio::time::timeout(Duration::from_millis(50), sleep.woke()).await;
        assert!(disturbed.is_err(), "{disturbed:?}");
    }
}
