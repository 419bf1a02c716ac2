//! The durable queue, on redb.
//!
//! # Constraints
//!
//! - An acknowledged record survives a power cut at any moment.
//! - A batch is on disk, with its id and sequence, before its first byte is sent.
//! - Memory use does not depend on the size of the backlog, and a status request never scans the queue.
//! - Flash wears out: a commit of its own costs about 40 KB of writes, so operations share commits.
//!
//! # Layout
//!
//! | table | key → value | contents |
//! |---|---|---|
//! | `payload` | position → sealed header and body | unsettled and quarantined records; each row is written once |
//! | `chunks` | (position, index) → part of a body | the rest of a body that does not fit on a page: redb rounds larger values up to powers of two |
//! | `manifest` | record id → state, attempts, last error, digest | every listed record until its receipt is pruned; also detects duplicates |
//! | `batches` | batch id → members, sequence, attempt, parent | open batches: the durable claim on their members |
//! | `retry` | (due time, position) | FAILED records that wait for a time and are in no batch |
//! | `quarantine` | position → record id | quarantined records |
//! | `receipts` | position → record id, time | SYNCED and DISCARDED records, for `keep_synced` or until the disk is low on space |
//! | `discarded` | position → record id | those of `receipts` that are DISCARDED |
//! | `server_receipts` | position → JSON object | what the server said a SYNCED record became, where it said so; goes with its row in `receipts` |
//! | `changes` | (history, number) → record id | the last changes of records in their order, for readers that continue where they stopped |
//! | `owned_lanes` | (owner, key, seq) → position | unsettled records with a key, in sending order |
//! | `meta` | name → value | schema version, device id, counters, notes of other components |
//!
//! A *position* orders the queue by priority, then by arrival ([`crate::model::QueuePosition`]). Claims find fresh records by
//! walking `payload` from a cursor in memory. So there is no index of all waiting records: each tree that a
//! single append touches costs 12 KB of flash. For the same reason SYNCING is not stored, a claim shares the
//! commit that settles the previous batch, only records with a key have an entry in `owned_lanes`, and a lone append
//! leaves manifest and counters to a later commit: its record is *unlisted* until then (`unlisted.rs`).
//!
//! # Guarantees
//!
//! - *Durability*: the reply to an append follows the commit that covers it (one-phase, one fdatasync).
//!   Operations that arrive during a commit share the next one.
//! - *At most one batch*: the row of a batch claims its members. It is written in the transaction that closes
//!   the previous batch. A record is SYNCING while a row in flight names it.
//! - *Stable batches*: id, sequence and members survive a crash because they are in the row.
//! - *Correct counters*: they change in the transaction that changes what they count. Unlisted records are counted when
//!   the store is opened.
//! - *Order within a key*: a record is sent together with its predecessors in its lane, or after them
//!   (`lanes.rs`). Records of one user do not wait for another user's, unless `queue.shared_keys` is set
//!   (`key_space.rs`).
//! - *Waits end on time*: due times use a clock that never goes back ([`crate::clock::SteadyClock`]).
//! - *No partial file*: a new database is built under another name, synced and renamed.
//! - *Quick start after a crash while idle*: an idle queue makes a commit that stores redb's allocator state.
//!   This is too expensive for every commit. After a crash at work, redb walks all live pages.
//!
//! # When the disk fails
//!
//! After an error the database object is unusable and the outcome of the commit is unknown. The file is opened
//! again without the page cache, and the commit number tells whether the commit took place. A commit is
//! acknowledged only if the file still has its name afterwards. A running daemon never recreates a file that
//! was deleted or moved. `space.rs` makes sure that records can be settled on a full disk.
//!
//! redb's reads verify nothing, so each value carries a checksum. A record with a damaged body is quarantined.
//! Any other damage is repaired at the next start (`salvage/`): the damaged file is kept under another name, a
//! new file gets every record that can be read, and a note of the damage stays until it is acknowledged.
//!
//! # Files
//!
//! A file imports only from lower floors:
//!
//! | floor | files |
//! |---|---|
//! | 12 | `queue` |
//! | 11 | `batches`, `recovery` |
//! | 10 | `claim`, `replace_payload`, `review`, `salvage` |
//! | 9 | `append`, `batch_rows` |
//! | 8 | `id_parts`, `lanes`, `newest`, `notes`, `receipts`, `recently_synced` |
//! | 7 | `backlog`, `batch_draft`, `integrity_check`, `op`, `read`, `space` |
//! | 6 | `changes`, `unsent`, `lane_view`, `limits`, `migration`, `server_receipts`, `shared`, `state` |
//! | 5 | `unlisted` |
//! | 4 | `body`, `counters`, `medium`, `open_batches`, `urgent` |
//! | 3 | `schema` |
//! | 2 | `disk_use`, `error`, `options` |
//! | 1 | `codec`, `key_space`, `panic_guard` |

mod append;
mod backlog;
mod batch_draft;
mod batch_rows;
mod batches;
mod body;
mod changes;
mod claim;
mod codec;
mod counters;
mod disk_use;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod id_parts;
mod integrity_check;
mod key_space;
mod lane_view;
mod lanes;
mod limits;
mod medium;
mod migration;
mod newest;
mod notes;
mod op;
mod open_batches;
mod options;
mod panic_guard;
mod queue;
mod queue_fill;
mod read;
mod receipts;
mod recently_synced;
mod recovery;
mod replace_payload;
mod review;
mod salvage;
mod schema;
mod server_receipts;
mod shared;
mod space;
mod state;
#[cfg(test)]
mod tests;
mod unlisted;
mod unsent;
mod urgent;

pub use append::{Append, AppendRefused, AppendSummary};
pub use batch_rows::{QuarantinedRecord, SyncedRecord};
pub use batches::{Dispatch, Settle, SettleSummary};
pub use changes::ChangeCursor;
pub use claim::Claim;
pub use error::{OpenError, StoreError};
pub use id_parts::{EndingMatches, IdDigits};
pub use key_space::KeySpace;
pub use limits::{LimitReached, QueueLimits};
pub use medium::is_state_dir_in_use;
pub use newest::{NewestFilter, NewestPage};
pub use notes::{AcknowledgeDamage, NoteChange, SaveNote, SetPaused, WaitingNotes};
pub use op::{Group, Op, SingleOp, Transaction};
pub use options::ProgressCallback;
pub use panic_guard::is_panic_expected;
pub use queue::Queue;
pub(crate) use queue_fill::QueueFill;
pub use read::{Filter, ManifestPage, StoreReader, StoreView};
pub use recently_synced::RecentlySynced;
pub use replace_payload::{MendRefused, ReplacePayload};
pub use review::{
    AddRefused, AddToReview, AddToReviewSummary, Expedite, REVIEW_STEP_RECORDS, Review, ReviewAction,
    ReviewSelection, ReviewSummary,
};
pub use salvage::{Salvage, SalvageError};
pub use unsent::count_unsent;
