//! The credential: what is refused, what is noticed, and what is never shown.

mod cores;
mod refused;
mod renewed;
mod secret;
