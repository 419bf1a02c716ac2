//! The replies of the store actor.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::config::Config;
use crate::model::{NewRecord, RecordId};
use crate::store::{Append, Group, KeySpace, NoteChange, QueueLimits};
use crate::telemetry::metrics::sources::commit_times;

fn start_store(dir: &Path, config: ConfigWatch, backlog: watch::Sender<Backlog>) -> Addr<QueueStore> {
    let queue = Queue::open(dir, KeySpace::default(), Arc::new(|_| ())).unwrap();
    let (fatal, commit_times) = (watch::channel(None).0, watch::channel(commit_times()).0);
    QueueStore::new(queue, config, SteadyClock::continue_from(0), backlog, fatal, commit_times).start()
}

#[actix_rt::test]
async fn the_reply_to_a_ping_follows_the_commit_of_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let (_config, config) = watch::channel(Arc::new(Config::default()));
    let (backlog, waiting) = watch::channel(Backlog::default());
    let store = start_store(dir.path(), config, backlog);
    let record = NewRecord {
        id: RecordId::new(),
        record_type: "T".into(),
        key: None,
        priority: 5,
        payload: "{}".into(),
    };
    let append = store.send(Write(Append::new(vec![record], 0)));
    store.send(Ping).await.unwrap();
    assert_eq!(waiting.borrow().pending, 1, "what was sent before the ping is on disk");
    append.await.unwrap().unwrap().unwrap();
}

fn note(content: &[u8]) -> NoteChange {
    NoteChange { name: "telemetry/day/2026-03-01".into(), note: Some(content.to_vec()) }
}

#[test]
fn notes_without_operations_cause_no_commit_and_join_the_one_of_maintenance() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(dir.path(), KeySpace::default(), Arc::new(|_| ())).unwrap();
    let (limits, now) = (QueueLimits::from(&Config::default()), SteadyClock::continue_from(0).now());
    let mut group = PendingGroup::default();
    group.notes.add_change(note(b"old"));
    group.notes.add_change(note(b"new"));
    assert_eq!(group.added_bytes(), 0, "they do not take the space of records");
    assert!(!queue.commit(limits, now, &mut group).unwrap(), "nothing else is written");
    group.notes = group.notes.after_commit(false);
    assert_eq!(queue.read_notes("telemetry").unwrap(), []);
    queue.run_idle_maintenance(limits, now, &mut group.notes).unwrap();
    let saved = queue.read_notes("telemetry").unwrap();
    assert_eq!(saved, [("telemetry/day/2026-03-01".to_owned(), b"new".to_vec())]);
    assert!(group.notes.is_empty(), "none waits any more");
}

#[actix_rt::test]
async fn notes_share_the_next_commit_and_the_last_ones_are_saved_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (_config, config) = watch::channel(Arc::new(Config::default()));
    let backlog = watch::channel(Backlog::default()).0;
    let store = start_store(dir.path(), config, backlog);
    store.send(SaveWithNextCommit(vec![note(b"first")])).await.unwrap();
    store.send(Write(crate::store::SetPaused(None))).await.unwrap().unwrap();
    let removed = NoteChange { name: "telemetry/day/2026-03-01".into(), note: None };
    let last = NoteChange { name: "telemetry/day/2026-03-02".into(), note: Some(b"last".to_vec()) };
    store.send(SaveWithNextCommit(vec![removed, last])).await.unwrap();
    store.send(Drain).await.unwrap();
    let queue = Queue::open(dir.path(), KeySpace::default(), Arc::new(|_| ())).unwrap();
    let saved = queue.read_notes("telemetry").unwrap();
    assert_eq!(saved, [("telemetry/day/2026-03-02".to_owned(), b"last".to_vec())]);
}

#[actix_rt::test]
async fn free_space_is_measured_after_a_reload_without_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (reload, config) = watch::channel(Arc::new(Config::default()));
    let (backlog, mut published) = watch::channel(Backlog::default());
    let store = start_store(dir.path(), config, backlog);
    store.send(Ping).await.unwrap();
    published.mark_unchanged();
    reload.send_replace(Arc::new(Config::default()));
    // These messages publish nothing: they let the others take their turns.
    for _ in 0..100 {
        store.send(SaveWithNextCommit(Vec::new())).await.unwrap();
    }
    assert!(published.has_changed().unwrap());
    assert!(published.borrow().storage.disk_free_bytes.is_some());
}
