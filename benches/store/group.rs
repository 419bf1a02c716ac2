//! Group commit for the rivals, in the simplest and fastest form: a thread that takes all that waits,
//! commits it at once and replies, as our store's actor does.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::record::Record;

/// Producers await their reply before they send again, so that none ever waits for room.
const QUEUE_CAPACITY: usize = 4096;

/// What a group is committed to.
pub(crate) trait GroupSink: Send + 'static {
    fn commit_group(&mut self, group: &[Record]);
}

type Job = (Record, oneshot::Sender<()>);

/// The thread, and the way to it.
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
