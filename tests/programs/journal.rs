//! What is written down, for whom: entries with fields in the journal, their explanations, lines on standard error.

mod catalog;
mod entries;
mod lines;
