//! Credentials: which are refused, which changes are noticed, and what is never shown.

mod cores;
mod refused;
mod renewed;
mod secret;
