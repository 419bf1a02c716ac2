//! Logs: journal entries with fields, their explanations in the catalog, lines on standard error.

mod catalog;
mod entries;
mod lines;
