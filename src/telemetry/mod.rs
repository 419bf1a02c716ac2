//! What the daemon records of its work: events, the feed of the local API, batch history, measurements.

pub mod audience;
pub mod event;
pub mod feed;
pub mod history;
pub mod measurements;
pub mod metrics;
pub mod outcomes;
