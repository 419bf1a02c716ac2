//! Links that are slow, and links that break: no record is lost or duplicated, and the batch size adapts.

mod cuts;
mod sizes;
