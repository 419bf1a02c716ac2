//! The server side of the protocol.
