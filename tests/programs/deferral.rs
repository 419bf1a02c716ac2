//! Records that wait although the server can be reached. Run by name where the system has what they need:
//! `cargo test --test programs deferral:: -- --ignored`.

mod battery;
mod metered;
