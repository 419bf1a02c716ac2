//! The conformance suite of the clients in `clients/`: each scene drives the client of each language through its
//! adapter, against the built daemon or against a socket that misbehaves.
//!
//! It needs Python, Node.js and a C compiler, so its tests are ignored unless requested:
//!
//! ```sh
//! cargo test --test programs clients:: -- --ignored             # all scenes in all languages
//! cargo test --test programs ::python:: -- --ignored            # all scenes in one language
//! ```
//!
//! `clients/conformance.md` describes the adapters, and how to add a language.

/// Makes each scene a test for each language.
macro_rules! for_each_client {
    ($($scene:ident),* $(,)?) => {
        for_each_client!(@ python Python $($scene)*);
        for_each_client!(@ javascript JavaScript $($scene)*);
        for_each_client!(@ c C $($scene)*);
    };
    (@ $module:ident $language:ident $($scene:ident)*) => {
        mod $module {
            $(
                #[test]
                #[ignore = "needs Python, Node.js and a C compiler: cargo test --test programs clients:: -- --ignored"]
                fn $scene() {
                    super::$scene(crate::clients::adapter::Language::$language);
                }
            )*
        }
    };
}

mod adapter;
mod applications;
mod calls;
mod cancelling;
mod crashes;
mod event_streams;
mod events;
mod full;
mod hostile;
mod limits;
mod refusals;
mod relay;
mod retries;
mod scripted_socket;
mod sockets;
mod versions;
mod waiting;
