//! Records that wait although the server may be reached. Run by name where the system lends what they need:
//! `cargo test --test programs deferral:: -- --ignored`.

mod battery;
mod metered;
