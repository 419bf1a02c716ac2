//! When refused devices return: one after the other, as fast as the gateway completes batches.
//!
//! A refused device gets a number, and is asked to return when those before it will have been served. Until then the
//! number stays its own: a device that comes early, or finds no room at its time, does not go to the end of the line, and
//! its wait is estimated again. So a wrong estimate of the speed corrects itself, and a fleet does not return at once.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::DeviceId;

/// Devices that wait for their turn. Beyond it, devices are asked to return behind them, but get no number.
const TURNS_MAX: usize = 65_536;
/// How long after its time a device keeps its number.
const TURN_LIFETIME: Duration = Duration::from_secs(30);
/// How often the line is searched for devices that did not return.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// A device may be early by this: waits are rounded.
const EARLY_MAX: Duration = Duration::from_secs(1);
/// The line is planned for this share of the speed, so that devices that had no room can be served, too.
const RATE_SHARE: f64 = 0.95;
/// A wait is longer by up to this share, differently for each device.
const JITTER_SHARE: f64 = 0.05;
/// No device is asked to wait longer.
const WAIT_MAX: Duration = Duration::from_mins(5);

#[derive(Clone, Copy, Debug)]
struct Turn {
    number: u64,
    /// When the device was asked to return.
    due: Duration,
}

/// The line.
#[derive(Debug, Default)]
pub(super) struct RetryTurns {
    turns: HashMap<DeviceId, Turn>,
    next_number: u64,
    swept_at: Duration,
}

impl RetryTurns {
    /// How long the device waits, with `rate` batches completed in a second.
    pub(super) fn give_turn(
        &mut self,
        now: Duration,
        device: DeviceId,
        rate: f64,
        rng: &mut fastrand::Rng,
    ) -> Duration {
        self.sweep(now);
        let number = self.turns.get(&device).map_or(self.next_number, |turn| turn.number);
        let behind = self.next_number.saturating_sub(number);
        let before = to_float((self.turns.len() as u64 + 1).saturating_sub(behind));
        let seconds = before / (rate * RATE_SHARE) * (1.0 + JITTER_SHARE * rng.f64());
        let wait = if seconds < WAIT_MAX.as_secs_f64() {
            Duration::from_secs_f64(seconds)
        } else {
            // The line is too long to plan it: these devices are spread only.
            WAIT_MAX.mul_f64(f64::midpoint(1.0, rng.f64()))
        };
        if number < self.next_number || self.turns.len() < TURNS_MAX {
            self.next_number = self.next_number.max(number + 1);
            self.turns.insert(device, Turn { number, due: now + wait });
        }
        wait
    }

    /// Whether the device may return now.
    pub(super) fn is_due(&self, now: Duration, device: DeviceId) -> bool {
        self.turns.get(&device).is_some_and(|turn| turn.due <= now + EARLY_MAX)
    }

    /// Whether no device waits for its turn.
    pub(super) fn is_empty(&mut self, now: Duration) -> bool {
        self.sweep(now);
        self.turns.is_empty()
    }

    /// The device has had its turn, or needs none.
    pub(super) fn forget(&mut self, device: DeviceId) {
        self.turns.remove(&device);
    }

    fn sweep(&mut self, now: Duration) {
        if now.saturating_sub(self.swept_at) >= SWEEP_INTERVAL {
            self.swept_at = now;
            self.turns.retain(|_, turn| turn.due + TURN_LIFETIME > now);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn to_float(count: u64) -> f64 {
    count as f64
}
