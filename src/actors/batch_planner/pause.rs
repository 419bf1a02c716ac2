//! The end of a pause for a time. It is measured on the steady clock: a wall clock that is set back while sending is
//! paused must not make the pause longer, and one that is set ahead must not end it.

use std::time::Duration;

use crate::clock::Now;
use crate::model::Pause;

/// A pause for a time, and when it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct PauseTimer {
    pause: Pause,
    /// On the steady clock, in milliseconds.
    ends_at: u64,
}

impl PauseTimer {
    /// The timer of the present pause; none if it has no end. `known`: the timer until now.
    pub(super) fn follow(known: Option<Self>, pause: Option<Pause>, now: Now) -> Option<Self> {
        let pause = pause?;
        let until = pause.until?;
        if known.is_some_and(|known| known.pause == pause) {
            return known;
        }
        // After a restart, the wall clock may be behind the beginning of the pause.
        let length = until.saturating_sub(pause.since);
        let rest = until.saturating_sub(now.wall).min(length);
        Some(Self { pause, ends_at: now.steady.saturating_add(rest) })
    }

    /// How long the pause still lasts.
    pub(super) fn rest(self, now: Now) -> Duration {
        Duration::from_millis(self.ends_at.saturating_sub(now.steady))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;

    #[test]
    fn the_length_of_a_pause_does_not_depend_on_the_wall_clock() {
        let pause = Pause { by: 0, since: 100 * DAY, until: Some(100 * DAY + 2 * HOUR) };
        let at = |wall, steady| Now { wall, steady };
        let ends_at = |timer: Option<PauseTimer>| timer.map(|timer| timer.ends_at);
        let begun = PauseTimer::follow(None, Some(pause), at(100 * DAY, 7 * DAY));
        assert_eq!(ends_at(begun), Some(7 * DAY + 2 * HOUR));
        for wall in [0, 90 * DAY, 110 * DAY] {
            let later = PauseTimer::follow(begun, Some(pause), at(wall, 7 * DAY + HOUR));
            assert_eq!(ends_at(later), ends_at(begun), "the clock was set to {wall}");
        }
        // After a restart.
        for (wall, rest) in [(100 * DAY + HOUR, HOUR), (90 * DAY, 2 * HOUR), (0, 2 * HOUR), (110 * DAY, 0)] {
            let timer = PauseTimer::follow(None, Some(pause), at(wall, 9 * DAY));
            assert_eq!(ends_at(timer), Some(9 * DAY + rest), "{wall}");
        }
        let another = Pause { since: 100 * DAY + HOUR, until: Some(100 * DAY + 2 * HOUR), ..pause };
        let extended = PauseTimer::follow(begun, Some(another), at(100 * DAY + HOUR, 7 * DAY + HOUR));
        assert_eq!(ends_at(extended), Some(7 * DAY + 2 * HOUR));
        assert!(PauseTimer::follow(begun, Some(Pause { until: None, ..pause }), at(0, 0)).is_none());
        assert!(PauseTimer::follow(begun, None, at(0, 0)).is_none());
    }
}
