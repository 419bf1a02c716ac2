//! Links that are slow, and links that break: nothing is lost, nothing is doubled, and batches come to fit.

mod cuts;
mod sizes;
