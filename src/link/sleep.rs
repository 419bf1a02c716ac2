//! Reports that the device slept, without a periodic timer.
//!
//! The kernel cancels a timer of the wall clock when that clock jumps, which it does when the device wakes up. The time
//! since the boot shows whether the device slept or the clock was only set: it continues during sleep, and the
//! monotonic clock does not. See `timerfd_create(2)`, `TFD_TIMER_CANCEL_ON_SET`.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use tokio::io::unix::AsyncFd;

use crate::async_fd::{Registered, watch_readable};

/// A shorter sleep breaks no connection, and the two clocks are not read at the same instant.
const SLEEP_MIN: Duration = Duration::from_secs(1);
/// The latest time of a timer: it should never expire.
const TIMER_MAX: TimeSpec = TimeSpec::new(libc::time_t::MAX, 0);

/// Reports when the device wakes up.
#[derive(Debug)]
pub struct SleepDetector {
    timer: AsyncFd<Registered<TimerFd>>,
    total_sleep: Duration,
}

impl SleepDetector {
    /// Listens from now on.
    pub fn new() -> io::Result<Self> {
        let timer =
            TimerFd::new(TimerClock::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        arm_timer(&timer)?;
        Ok(Self { timer: watch_readable(timer)?, total_sleep: total_sleep()? })
    }

    /// Waits until the device has slept, and returns for how long.
    pub async fn wait_for_wake_up(&mut self) -> io::Result<Duration> {
        loop {
            let slept = self.wait_for_clock_jump().await?;
            if slept >= SLEEP_MIN {
                return Ok(slept);
            }
        }
    }

    /// Waits until the wall clock has jumped because it was set or because the device slept, and returns for how long
    /// it slept.
    pub async fn wait_for_clock_jump(&mut self) -> io::Result<Duration> {
        loop {
            self.timer.readable().await?.clear_ready();
            let mut expirations = [0; 8];
            match nix::unistd::read(self.timer.get_ref().owner().as_fd(), &mut expirations) {
                Err(Errno::ECANCELED) => {}
                // It expired: a device with 32-bit time is in the year 2038. Armed again, it would expire at once.
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            arm_timer(self.timer.get_ref().owner())?;
            let total = total_sleep()?;
            let slept = total.saturating_sub(self.total_sleep);
            self.total_sleep = total;
            return Ok(slept);
        }
    }
}

fn arm_timer(timer: &TimerFd) -> nix::Result<()> {
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    timer.set(Expiration::OneShot(TIMER_MAX), flags)
}

/// How long the device slept since it booted.
fn total_sleep() -> nix::Result<Duration> {
    let awake: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC)?.into();
    let all: Duration = clock_gettime(ClockId::CLOCK_BOOTTIME)?.into();
    Ok(all.saturating_sub(awake))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_device_that_does_not_sleep_causes_no_report() {
        let mut sleep = SleepDetector::new().unwrap();
        let report = tokio::time::timeout(Duration::from_millis(50), sleep.wait_for_wake_up()).await;
        assert!(report.is_err(), "{report:?}");
    }
}
