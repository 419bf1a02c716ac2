//! Pure decisions: no I/O, no clock, no source of randomness, no async, no actors.
//!
//! `now` is a [`std::time::Duration`] since the daemon started, on a monotonic clock; randomness
//! is an argument; decisions are enums. The actors carry them out.
//!
//! | to change | look in |
//! |---|---|
//! | what a response of the server means | [`verdict`] |
//! | how large a batch is | [`sizing`], [`service_time`], [`time_limit`], [`byte_limits`] |
//! | what is saved over a restart | [`learned`] |
//! | what happens after a failure | [`isolation`] |
//! | which failure is evidence against a record | [`evidence`] |
//! | what the planner does next | [`scheduler`] |
//! | how many batches are under way at once | [`in_flight`] |
//! | when a failing server gets a pause | [`breaker`], [`backoff`] |
//! | whether the server can be reached, and when to try it | [`reach`] |
//! | what people read first | [`advice`] |
//! | how far a run has come | [`progress`] |
//! | which conditions need attention, and for how long | [`alerts`] |
//! | whether a device needs attention | [`health`] |
//! | why a record is not sent yet | [`waiting`] |

pub mod advice;
pub mod alerts;
pub mod backoff;
pub mod breaker;
pub mod byte_limits;
pub mod evidence;
pub mod health;
pub mod in_flight;
pub mod isolation;
pub mod learned;
pub mod outcome_reply;
pub mod progress;
pub mod reach;
pub mod scheduler;
pub mod service_time;
pub mod sizing;
pub mod status_schedule;
pub mod time_limit;
pub mod verdict;
pub mod waiting;
