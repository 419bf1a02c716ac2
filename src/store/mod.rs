//! The durable queue, on redb.
//!
//! # Constraints
//!
//! - A record that was acknowledged survives a power cut at any moment.
//! - What is in flight is on disk before its first byte is sent, under its id and sequence.
//! - Memory does not follow the backlog; a status never scans.
//! - Flash wears: a lone commit costs about 50 KB of writes, so work is gathered into one commit.
//!
//! # Layout
//!
//! | table | key → value | holds |
//! |---|---|---|
//! | `payload` | place → sealed header and body | records that are not settled, and quarantined ones; written once |
//! | `chunks` | (place, index) → part of a body | what a body has beyond its page: redb rounds larger values up to powers of two |
//! | `manifest` | record id → state, attempts, last error, digest | every record until its receipt is pruned; finds doubles, too |
//! | `batches` | batch id → members, sequence, attempt, parent | open batches: the durable claim on their members |
//! | `retry` | (due, place) | FAILED records that wait for a time, outside of batches |
//! | `quarantine` | place → record id | records under review |
//! | `receipts` | place → record id, when | SYNCED records, for `keep_synced`, or until the disk has little room |
//! | `owned_lanes` | (owner, key, seq) → place | unsettled records with a key, in the order in which they go |
//! | `meta` | name → value | schema version, device id, counters, notes of other rooms |
//!
//! A *place* orders the queue: priority, then arrival ([`crate::model::QueuePosition`]). Fresh records are
//! found by walking `payload` from a cursor in memory, so that no index over all waiting
//! records is kept: each tree that a lone append touches costs 12 KB of flash. For the same reason
//! SYNCING is not stored, a claim rides on the commit that settles the batch before, and only records
//! with a key pay for the order of keys.
//!
//! # Guarantees, and how they are kept
//!
//! - *Acknowledged means kept*: the reply to an append follows the commit (redb, one phase, one
//!   fdatasync) that covers it. Whatever arrives while a commit runs goes into the next one together.
//! - *One batch at most*: a record is claimed by the row of the batch that names it, in the same
//!   transaction that closes the batch before. A record is SYNCING while a row in flight names it.
//! - *A crash keeps batch id, sequence and members*: they are the row.
//! - *Counts are true*: they change in the transaction that changes what they count.
//! - *Order in a key*: a record goes with those before it in its lane, or after them (`lanes.rs`). A user's
//!   records wait for no other user's, unless `queue.shared_keys` says so (`key_space.rs`).
//! - *Waits end in time*: due times are of a clock that never goes back ([`crate::clock::Steady`]).
//! - *A cut while the file is made leaves none*: it is made under another name, synced and renamed.
//! - *A start after a crash in idle is quick*: an idle queue ends with a commit that stores redb's
//!   allocator state. It costs too much to do it in every commit; after a crash in the middle of
//!   work redb walks all live pages.
//!
//! # When the disk fails
//!
//! After an error the database object is dead and the commit's outcome unknown: the file is opened
//! anew, without what the system had cached of it, and the commit's number tells whether it took
//! place. A commit is acknowledged only if the file is still under its name afterwards; a running daemon never
//! recreates a file that was deleted or moved. `space.rs` keeps a full disk from stopping what is on its way. A value that does not read
//! is never believed: each carries a checksum, for redb's reads verify nothing. A record whose body is
//! damaged is set aside for review. Whatever is worse is for the next start (`salvage/`): it keeps
//! the damaged file under another name, goes on with what reads of it in a new one, and keeps a note
//! of it until somebody acknowledges it.
//!
//! # Files
//!
//! A file imports only from floors below its own:
//!
//! | floor | files |
//! |---|---|
//! | 11 | `queue` |
//! | 10 | `batches`, `recovery` |
//! | 9 | `claim`, `replace_payload`, `review`, `salvage` |
//! | 8 | `append`, `batch_rows` |
//! | 7 | `lanes`, `notes`, `receipts` |
//! | 6 | `backlog`, `op`, `read` |
//! | 5 | `integrity_check`, `lane_view`, `limits`, `migration`, `shared`, `space`, `state` |
//! | 4 | `body`, `counters`, `medium`, `open_batches`, `urgent` |
//! | 3 | `schema` |
//! | 2 | `disk_use`, `error`, `options` |
//! | 1 | `codec`, `key_space`, `panic_guard` |

mod append;
mod backlog;
mod batch_rows;
mod batches;
mod body;
mod claim;
mod codec;
mod counters;
mod disk_use;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod integrity_check;
mod key_space;
mod lane_view;
mod lanes;
mod limits;
mod medium;
mod migration;
mod notes;
mod op;
mod open_batches;
mod options;
mod panic_guard;
mod queue;
mod read;
mod receipts;
mod recovery;
mod replace_payload;
mod review;
mod salvage;
mod schema;
mod shared;
mod space;
mod state;
#[cfg(test)]
mod tests;
mod urgent;

pub use append::{Append, AppendRefused, AppendSummary};
pub use batch_rows::QuarantinedRecord;
pub use batches::{Dispatch, Settle, SettleSummary};
pub use claim::Claim;
pub use error::{OpenError, StoreError};
pub use key_space::KeySpace;
pub use limits::{LimitReached, QueueLimits};
pub use medium::is_state_dir_in_use;
pub use notes::{AcknowledgeDamage, SaveNote, SetPaused};
pub use op::{Group, Op, SingleOp, Transaction};
pub use options::ProgressCallback;
pub use panic_guard::is_panic_expected;
pub use queue::Queue;
pub use read::{Filter, ManifestPage, StoreReader, StoreView};
pub use replace_payload::{MendRefused, ReplacePayload};
pub use review::{
    AddRefused, AddToReview, AddToReviewSummary, Expedite, REVIEW_STEP_RECORDS, Review, ReviewAction,
    ReviewSelection, ReviewSummary,
};
pub use salvage::{Salvage, SalvageError};
