//! The file: one owner, one commit for several operations, and the state after every way to stop.

use std::fs;

use super::audit::audit;
use super::support::{QueueBench, id, ids, record, test_error};
use crate::model::{BatchPhase, Pause};
use crate::policy::scheduler::{Disposition, Outcome};
use crate::store::codec;
use crate::store::schema::{SCHEMA_VERSION, Tables, meta};
use crate::store::{
    Append, Claim, Group, KeySpace, Op, OpenError, ProgressCallback, Queue, SaveNote, SetPaused, StoreError,
    Transaction, WaitingNotes,
};

fn ignore_progress() -> ProgressCallback {
    std::sync::Arc::new(|_| ())
}

struct ClosureGroup<F>(F);
impl<F: FnMut(&mut Transaction<'_, '_>) -> Result<bool, StoreError>> Group for ClosureGroup<F> {
    fn apply(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<bool, StoreError> {
        (self.0)(transaction)
    }

    fn added_bytes(&self) -> u64 {
        0
    }
}

const PAUSE: Pause = Pause { by: 1000, since: 7, until: Some(9) };

#[test]
fn several_operations_share_a_commit_and_see_each_other() {
    let mut bench = QueueBench::new();
    let (limits, now) = (bench.limits, bench.now());
    let mut claimed = None;
    let append = |numbers: [u128; 2]| Append::new(numbers.map(|number| record(number, None)).into(), 0);
    let mut group = ClosureGroup(|transaction: &mut Transaction<'_, '_>| {
        append([1, 2]).apply(transaction)?.unwrap();
        append([2, 3]).apply(transaction)?.unwrap();
        claimed = Claim::new(super::support::claim_order(2, u64::MAX)).apply(transaction)?;
        SetPaused(Some(PAUSE)).apply(transaction)?;
        Ok(true)
    });
    bench.queue_mut().commit(limits, now, &mut group).unwrap();
    assert_eq!(ids(&claimed.unwrap()), [1, 2]);
    bench.crash_process();
    let backlog = bench.queue_mut().read_backlog().unwrap();
    assert_eq!((backlog.pending, backlog.syncing, backlog.paused), (1, 2, true));
    audit(bench.queue_mut());
}

#[test]
fn a_second_daemon_cannot_open_the_queue() {
    let bench = QueueBench::new();
    assert!(matches!(
        Queue::open(bench.dir.path(), KeySpace::default(), ignore_progress()),
        Err(OpenError::InUse(_))
    ));
}

#[test]
fn a_newer_schema_is_rejected_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    Queue::open(dir.path(), KeySpace::default(), ignore_progress()).unwrap().close().unwrap();
    let database = redb::Database::open(dir.path().join("queue.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let newer = codec::encode_row(&(SCHEMA_VERSION + 1)).unwrap();
    Tables::open_all(&transaction).unwrap().meta.insert(meta::SCHEMA_KEY, newer.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    for _ in 0..2 {
        let found = Queue::open(dir.path(), KeySpace::default(), ignore_progress()).err().unwrap();
        assert!(matches!(found, OpenError::NewerSchema { found, .. } if found == SCHEMA_VERSION + 1));
    }
}

#[test]
fn a_partial_file_after_a_power_cut_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("queue.redb.new"), vec![0; 5000]).unwrap();
    let mut queue = Queue::open(dir.path(), KeySpace::default(), ignore_progress()).unwrap();
    assert_eq!(queue.read_backlog().unwrap().to_go(), 0);
    assert!(!dir.path().join("queue.redb.new").exists());
}

#[test]
fn a_batch_in_flight_keeps_id_sequence_and_attempt_over_restarts() {
    let mut bench = QueueBench::new();
    bench.append((1..=3).map(|number| record(number, None)).collect());
    let first = bench.claim(2).unwrap();
    let keep =
        Disposition::Keep { phase: BatchPhase::Waiting, lone_failures: 2, error: Some(test_error("504")) };
    bench.settle(first.open.id, keep);
    let mut sent = bench.dispatch(first.open.id).unwrap();
    assert_eq!((sent.sequence, sent.open.attempt), (first.sequence, 2));
    for end in [QueueBench::crash_process, QueueBench::reopen_queue, QueueBench::crash_process] {
        end(&mut bench);
        assert_eq!(bench.queue().open_batches(), std::slice::from_ref(&sent.open));
        let again = bench.dispatch(sent.open.id).unwrap();
        assert_eq!((again.sequence, again.open.attempt), (sent.sequence, sent.open.attempt + 1));
        assert_eq!(ids(&again), [1, 2]);
        sent = again;
    }
    assert_eq!(ids(&bench.claim(5).unwrap()), [3], "nothing is claimed twice");
    bench.close_batch(sent.open.id, Outcome::Synced(None));
    assert_eq!(bench.attempts_of(id(1)), 2, "the sends that a crash cut off are not known to have failed");
    audit(bench.queue_mut());
}

#[test]
fn an_idle_queue_that_is_closed_and_reopened_is_complete() {
    let mut bench = QueueBench::new();
    let device = bench.queue().device_id();
    bench.append(vec![record(1, Some("key")), record(2, None)]);
    bench.run(SaveNote { name: "note", note: vec![1, 2, 3] });
    bench.queue_mut().save_allocator_state(&mut WaitingNotes::default()).unwrap();
    bench.reopen_queue();
    assert_eq!(bench.queue().device_id(), device);
    assert_eq!(bench.queue().read_note("note").unwrap(), Some(vec![1, 2, 3]));
    assert_eq!(ids(&bench.claim(5).unwrap()), [1, 2]);
    audit(bench.queue_mut());
}

#[test]
fn an_operation_whose_reply_was_lost_can_be_repeated() {
    use crate::policy::scheduler::{Disposition as D, Outcome as O};
    use crate::store::Settle;
    use std::sync::Arc;

    let mut bench = QueueBench::new();
    bench.append((1..=9).map(|number| record(number, None)).collect());
    let claim = Arc::new(Claim::new(super::support::claim_order(4, u64::MAX)));
    let first = bench.run(Arc::clone(&claim)).unwrap();
    let again = bench.run(claim).unwrap();
    assert_eq!((again.open.id, ids(&again)), (first.open.id, vec![1, 2, 3, 4]));

    let settle = |disposition, then| {
        Arc::new(Settle {
            batch: first.open.id,
            disposition,
            retry: super::support::retry_config(),
            then,
            note: None,
        })
    };
    let cut = D::Cut { cut: crate::policy::isolation::cut_in_half(4), error: Some(test_error("504")) };
    let settle = settle(cut, Some(Claim::new(super::support::claim_order(3, u64::MAX))));
    let first_reply = bench.run(Arc::clone(&settle));
    bench.crash_process();
    let second_reply = bench.run(settle);
    assert_eq!(second_reply.opened, first_reply.opened);
    assert_eq!(second_reply.claimed.unwrap().open.id, first_reply.claimed.unwrap().open.id);
    assert_eq!(bench.queue().open_batches().len(), 3, "two halves, and the batch that was claimed along");
    bench.close_batch(first_reply.opened[0].id, O::Synced(None));
    audit(bench.queue_mut());
}

/// The names in the directory of a queue.
fn file_names(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn nothing_is_acknowledged_after_the_file_was_deleted_and_no_new_file_is_created() {
    let mut bench = QueueBench::new();
    bench.append(vec![record(1, None)]);
    std::fs::remove_file(bench.dir.path().join("queue.redb")).unwrap();
    assert!(matches!(bench.try_run(Append::new(vec![record(2, None)], 0)), Err(StoreError::FileGone(_))));
    for _ in 0..2 {
        assert!(matches!(bench.queue_mut().reopen_and_verify(), Err(StoreError::FileGone(_))));
    }
    assert_eq!(file_names(bench.dir.path()), ["lock"]);
}

#[test]
fn a_file_that_is_moved_away_and_back_is_used_again() {
    let mut bench = QueueBench::new();
    bench.append(vec![record(1, None)]);
    let (file, elsewhere) = (bench.dir.path().join("queue.redb"), bench.dir.path().join("elsewhere"));
    std::fs::rename(&file, &elsewhere).unwrap();
    // Another file under its name does not count.
    std::fs::copy(&elsewhere, &file).unwrap();
    assert!(matches!(bench.try_run(Append::new(vec![record(2, None)], 0)), Err(StoreError::FileGone(_))));
    assert!(matches!(bench.queue_mut().reopen_and_verify(), Err(StoreError::FileGone(_))));
    std::fs::rename(&elsewhere, &file).unwrap();
    bench.queue_mut().reopen_and_verify().unwrap();
    assert_eq!(bench.append(vec![record(1, None)]).duplicates, 1);
    audit(bench.queue_mut());
}

#[test]
fn a_moved_directory_takes_its_queue_with_it() {
    let home = tempfile::tempdir().unwrap();
    let (dir, elsewhere) = (home.path().join("state"), home.path().join("elsewhere"));
    std::fs::create_dir(&dir).unwrap();
    let mut queue = super::support::open_queue_in(&dir);
    std::fs::rename(&dir, &elsewhere).unwrap();
    // A second daemon creates its own queue at the old path.
    let second = super::support::open_queue_in(&dir);
    let limits = QueueBench::new().limits;
    let now = QueueBench::new().now();
    let mut append = crate::store::SingleOp::new(Append::new(vec![record(1, None)], 0));
    assert!(matches!(queue.commit(limits, now, &mut append), Err(StoreError::FileGone(_))));
    assert!(matches!(queue.reopen_and_verify(), Err(StoreError::FileGone(_))));
    drop(second);
}

#[test]
fn a_queue_stays_locked_although_its_lock_file_was_deleted() {
    let bench = QueueBench::new();
    std::fs::remove_file(bench.dir.path().join("lock")).unwrap();
    let second = Queue::open(bench.dir.path(), KeySpace::default(), std::sync::Arc::new(|_| ()));
    assert!(matches!(second, Err(OpenError::InUse(_))));
}
