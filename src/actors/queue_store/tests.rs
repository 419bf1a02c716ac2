//! The replies of the store actor.

use std::sync::Arc;

use super::*;
use crate::config::Config;
use crate::model::{NewRecord, RecordId};
use crate::store::{Append, KeySpace};
use crate::telemetry::metrics::sources::commit_times;

#[actix_rt::test]
async fn the_reply_to_a_ping_follows_the_commit_of_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(dir.path(), KeySpace::default(), Arc::new(|_| ())).unwrap();
    let (_config, config) = watch::channel(Arc::new(Config::default()));
    let (backlog, waiting) = watch::channel(Backlog::default());
    let store = QueueStore::new(
        queue,
        config,
        SteadyClock::continue_from(0),
        backlog,
        watch::channel(None).0,
        watch::channel(commit_times()).0,
    )
    .start();
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
