//! Readers on other threads: no commit waits for them, and they never see part of one.

use std::sync::mpsc;
use std::thread;

use super::support::{QueueBench, id, record};
use crate::model::{QueuePosition, RecordState};
use crate::store::{Filter, StoreError};

#[test]
fn a_commit_does_not_wait_for_a_reader_and_the_reader_sees_no_change() {
    let mut bench = QueueBench::new();
    bench.append(vec![record(1, None)]);
    let (reader, now) = (bench.queue().reader(), bench.now());
    let ((begun, begins), (committed, commits)) = (mpsc::channel(), mpsc::channel());
    thread::scope(|scope| {
        let read = scope.spawn(move || {
            let read = reader.with_view(now, |view| {
                begun.send(()).unwrap();
                commits.recv().unwrap();
                Ok((view.find_entry(id(1))?.map(|entry| entry.state), view.find_entry(id(2))?))
            });
            (read.unwrap(), reader)
        });
        begins.recv().unwrap();
        bench.append(vec![record(2, None)]);
        bench.claim(1).unwrap();
        committed.send(()).unwrap();
        let ((first, second), reader) = read.join().unwrap();
        assert_eq!((first, second), (Some(RecordState::Pending), None));
        let state = reader.with_view(now, |view| view.find_entry(id(1))).unwrap().map(|entry| entry.state);
        assert_eq!(state, Some(RecordState::Syncing), "a read after the commit sees it");
    });
}

#[test]
fn a_reader_does_not_keep_the_file_of_a_closed_queue_open() {
    let mut bench = QueueBench::new();
    bench.append(vec![record(1, None)]);
    let (reader, now) = (bench.queue().reader(), bench.now());
    bench.reopen_queue();
    assert!(matches!(
        reader.with_view(now, |view| view.list_page(&Filter::default())),
        Err(StoreError::Closed)
    ));
    let page = bench.with_view(|view| view.list_page(&Filter { limit: 1, ..Filter::default() }));
    assert_eq!(page.entries.len(), 1);
}

#[test]
fn a_page_after_the_last_possible_position_is_empty() {
    let mut bench = QueueBench::new();
    bench.append(vec![record(1, None)]);
    let after = Some(QueuePosition(u64::MAX));
    let page = bench.with_view(|view| view.list_page(&Filter { after, limit: 10, ..Filter::default() }));
    assert_eq!((page.entries.len(), page.next), (0, None));
}
