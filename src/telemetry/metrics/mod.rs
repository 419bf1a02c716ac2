//! Metrics of the daemon: one list of families, built from the status and from counters, for every exposition.
//!
//! | file | content |
//! |---|---|
//! | `counters.rs` | what is counted since the start, from events |
//! | `record_ages.rs`, `start_time.rs` | times that stay right when the wall clock is set |
//! | `sources.rs`, `families.rs`, `*_families.rs` | the list, and what it is built from |
//! | `openmetrics.rs`, `prometheus_text.rs` | the list as text, for scrapers |
//! | `otlp.rs` | the list and alerts as OTLP in JSON, for collectors |

mod counter_families;
pub mod counters;
mod device_families;
pub mod families;
pub mod family;
pub mod histogram;
mod named_counts;
pub mod openmetrics;
pub mod otlp;
pub mod process;
pub mod prometheus_text;
mod record_ages;
pub mod sources;
pub mod start_time;
mod status_families;
#[cfg(test)]
mod tests;
