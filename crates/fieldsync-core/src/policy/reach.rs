//! Whether the server can be reached: from what requests met and what the system says of the ways out.
//!
//! Traffic is believed before the system: an answer is an answer, whatever the interfaces look like.
//! Where the system sees no way at all, nothing is tried, and nothing wakes the device until one comes.
//! Where it sees one, and requests fail all the same, probes tell when that ends, further and further apart;
//! now and then a batch is tried instead: it may be probes alone that somebody on the way does not like.
//!
//! A link that returns is tried at once, after a random moment that keeps a fleet from coming in step. One
//! that returns again and again, and leads nowhere, is tried less and less often, up to the longest probe interval.

use std::time::Duration;

use super::backoff;
use crate::model::{LinkState, Uplink};

/// The first wait of a link that returned and led nowhere before.
const FIRST_REST: Duration = Duration::from_millis(100);

/// Of so many probes one is a batch.
const PROBES_A_BATCH: u32 = 8;

/// What a request says about the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The server answered.
    Reached,
    /// Nothing could be sent.
    Unreachable,
    /// Somebody else answered.
    Portal,
}

/// What is to be done, until it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Planned {
    #[default]
    Nothing,
    Probe,
    /// A batch in the place of a probe.
    Batch,
    /// A link came back, and is tried.
    Return,
}

/// What to do about it. It takes the place of what was to be done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// What was planned stays.
    Stay,
    /// Nothing: traffic or the system will tell.
    Rest,
    /// A probe, after so long.
    Probe(Duration),
    /// [`Reach::returned`], after so long.
    Return(Duration),
}

/// The waits.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The first wait between two probes.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
    /// The longest random wait after a link returned.
    pub jitter: Duration,
}

/// What is believed.
#[derive(Debug, Default)]
pub struct Reach {
    state: LinkState,
    way: Uplink,
    returns: u64,
    paths: u64,
    moves: u64,
    /// Probes, and returns of the link, in a row that led nowhere.
    probes: u32,
    fruitless: u32,
    planned: Planned,
    /// Answers came where the system sees no way: until it sees one it is not asked.
    blind: bool,
}

impl Reach {
    /// Whether the server can be reached, as far as is known.
    pub fn state(&self) -> LinkState {
        self.state
    }

    /// How often a way opened again: what waited because of the link may go on.
    pub fn returns(&self) -> u64 {
        self.returns
    }

    /// How often the ways changed so that connections that were made before are of no use.
    pub fn paths(&self) -> u64 {
        self.paths
    }

    /// How often addresses of ours went: connections from them are of no use.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// Whether nothing is to be sent.
    pub fn is_closed(&self) -> bool {
        self.state.is_closed()
    }

    /// A request met something. `waiting`: whether there is anything to send.
    pub fn met(&mut self, evidence: Evidence, waiting: bool, pace: &Pace, rng: &mut fastrand::Rng) -> Next {
        self.state = match evidence {
            Evidence::Reached => {
                self.returns += u64::from(self.is_closed());
                if self.way == Uplink::Down {
                    (self.way, self.blind) = (Uplink::Unknown, true);
                }
                (self.probes, self.fruitless) = (0, 0);
                self.state = LinkState::Online;
                return self.rest();
            }
            Evidence::Unreachable => LinkState::Offline,
            Evidence::Portal => LinkState::CaptivePortal,
        };
        self.blind = false;
        if self.planned != Planned::Nothing && self.way != Uplink::Down {
            Next::Stay
        } else {
            self.next_probe(waiting, pace, rng)
        }
    }

    /// Something waits that did not before.
    pub fn wanted(&mut self, pace: &Pace, rng: &mut fastrand::Rng) -> Next {
        if self.is_closed() && self.planned == Planned::Nothing {
            self.next_probe(true, pace, rng)
        } else {
            Next::Stay
        }
    }

    /// The system was looked at.
    pub fn saw(&mut self, way: Uplink, pace: &Pace, rng: &mut fastrand::Rng) -> Next {
        self.blind &= way == Uplink::Down;
        let way = if self.blind { Uplink::Unknown } else { way };
        let before = std::mem::replace(&mut self.way, way);
        match (&before, &self.way) {
            (Uplink::Down, Uplink::Down) => Next::Stay,
            (_, Uplink::Down) => {
                self.state = LinkState::Offline;
                self.rest()
            }
            // Who no longer looks does not know that there is none.
            (Uplink::Down, Uplink::Up(_) | Uplink::Unknown) => self.comes_back(pace, rng),
            (Uplink::Up(old), Uplink::Up(new)) if !old.is_subset(new) => {
                self.moves += 1;
                if self.is_closed() { self.comes_back(pace, rng) } else { Next::Stay }
            }
            (Uplink::Up(_) | Uplink::Unknown, Uplink::Up(_) | Uplink::Unknown) => Next::Stay,
        }
    }

    /// An address or a route came or went, which may be what was missing.
    pub fn stirred(&mut self, pace: &Pace, rng: &mut fastrand::Rng) -> Next {
        let hopeful = self.is_closed() && matches!(self.way, Uplink::Up(_));
        if hopeful { self.comes_back(pace, rng) } else { Next::Stay }
    }

    /// The way has been closed for longer than connections outlive.
    pub fn given_up(&mut self) {
        self.paths += u64::from(self.way == Uplink::Down);
    }

    /// The device slept: who knows where it woke up.
    pub fn woke(&mut self, pace: &Pace, rng: &mut fastrand::Rng) -> Next {
        self.paths += 1;
        if self.is_closed() {
            return self.stirred(pace, rng);
        }
        self.returns += 1;
        Next::Stay
    }

    /// The wait after a return is over: traffic may try.
    pub fn returned(&mut self) {
        let planned = std::mem::take(&mut self.planned);
        if self.is_closed() {
            self.state = LinkState::Unknown;
            self.returns += 1;
            self.fruitless = self.fruitless.saturating_add(u32::from(planned == Planned::Return));
        }
    }

    /// A person does not want to wait.
    pub fn hurried(&mut self) -> Next {
        (self.probes, self.fruitless) = (0, 0);
        if !self.is_closed() {
            return Next::Stay;
        }
        self.planned = Planned::Probe;
        Next::Probe(Duration::ZERO)
    }

    /// A probe came to its end, which is told apart where it tells anything.
    pub fn probed(&mut self) {
        self.planned = Planned::Nothing;
    }

    fn comes_back(&mut self, pace: &Pace, rng: &mut fastrand::Rng) -> Next {
        if self.planned == Planned::Return {
            // However much else stirs: what is planned comes.
            return Next::Stay;
        }
        self.probes = 0;
        let rest = match self.fruitless {
            0 => Duration::ZERO,
            times => backoff::delay(FIRST_REST.min(pace.longest), pace.longest, times, rng),
        };
        self.planned = Planned::Return;
        Next::Return(rest + backoff::between(Duration::ZERO, pace.jitter, rng))
    }

    fn next_probe(&mut self, waiting: bool, pace: &Pace, rng: &mut fastrand::Rng) -> Next {
        if !waiting || self.way == Uplink::Down {
            return self.rest();
        }
        self.probes = self.probes.saturating_add(1);
        let wait = backoff::delay(pace.first.min(pace.longest), pace.longest, self.probes, rng);
        let is_batch = self.probes.is_multiple_of(PROBES_A_BATCH);
        self.planned = if is_batch { Planned::Batch } else { Planned::Probe };
        if is_batch { Next::Return(wait) } else { Next::Probe(wait) }
    }

    fn rest(&mut self) -> Next {
        self.planned = Planned::Nothing;
        Next::Rest
    }
}

#[cfg(test)]
mod tests;
