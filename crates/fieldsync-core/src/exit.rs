//! Exit codes. Promises: scripts and units rely on them.

/// Done.
pub const DONE: u8 = 0;
/// Failed.
pub const FAILED: u8 = 1;
/// Wrong usage of the command line.
pub const USAGE: u8 = 2;
/// No daemon at the socket.
pub const NO_DAEMON: u8 = 3;
/// No such record.
pub const NO_SUCH_RECORD: u8 = 4;
/// Not permitted.
pub const NOT_PERMITTED: u8 = 5;
/// Records need review.
pub const NEEDS_REVIEW: u8 = 6;
/// Queue or disk full.
pub const FULL: u8 = 7;
/// Input refused, nothing stored.
pub const REFUSED: u8 = 8;

/// A bug ended the process (`EX_SOFTWARE`).
pub const BUG: u8 = 70;
/// The disk failed (`EX_IOERR`).
pub const DISK: u8 = 74;
/// Another daemon has the state directory or the socket (`EX_TEMPFAIL`).
pub const ALREADY_RUNNING: u8 = 75;
/// The configuration is wrong, or the store is of a newer version (`EX_CONFIG`): a restart does not help.
pub const CONFIG: u8 = 78;
