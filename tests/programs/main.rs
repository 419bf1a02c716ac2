//! The built programs, driven from outside.

mod gateway;
