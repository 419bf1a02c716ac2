//! Group commit for the other contestants, in its simplest and fastest form: a thread takes all waiting records,
//! commits them and replies, as our store's actor does.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::record::Record;

/// Producers wait for their reply before they send again, so the queue is never full.
const QUEUE_CAPACITY: usize = 4096;

/// Commits groups of records.
pub(crate) trait GroupSink: Send + 'static {
    fn commit_group(&mut self, group: &[Record]);
}

type Job = (Record, oneshot::Sender<()>);

/// A thread that commits groups, and the queue to it.
pub(crate) struct Writer {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
}

impl Writer {
    pub(crate) fn start(sink: impl GroupSink) -> Self {
        let (jobs, waiting) = sync_channel(QUEUE_CAPACITY);
        Self { jobs, thread: std::thread::spawn(move || run_writer(sink, &waiting)) }
    }

    /// Returns when the record is on disk.
    pub(crate) async fn append_record(&self, record: Record) {
        let (done, reply) = oneshot::channel();
        self.jobs.send((record, done)).expect("the writer is there");
        reply.await.expect("the writer replies");
    }

    pub(crate) fn join_thread(self) {
        drop(self.jobs);
        self.thread.join().expect("the writer ends well");
    }
}

fn run_writer(mut sink: impl GroupSink, waiting: &Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        let (group, replies): (Vec<_>, Vec<_>) = std::iter::once(first).chain(waiting.try_iter()).unzip();
        sink.commit_group(&group);
        for reply in replies {
            reply.send(()).expect("the producer waits");
        }
    }
}
