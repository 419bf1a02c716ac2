//! The store against a plain model, under every schedule of operations; and its promises, one by one.

mod audit;
mod bodies;
mod clock;
mod files;
mod limits;
mod model;
mod order;
mod random;
mod support;
mod unreadable;
