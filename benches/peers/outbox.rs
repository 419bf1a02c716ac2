//! An outbox in SQLite as a good engineer writes it in an hour: a table, a thread that commits what waits, and a thread
//! that posts batches and deletes them once the server has applied them.
//!
//! It runs in a process of its own, in which the producers are threads, as in the app that contains such an outbox. So it
//! is spared what it costs to hand records over to another process.

use std::io::{BufRead, Write, stdin, stdout};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::contestant::{Contestant, Intake, Setup};
use crate::hand_over::Load;
use crate::http_client::HttpClient;
use crate::record::write_record;
use crate::server::PLAIN_PATH;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY, record BLOB NOT NULL);
";
/// Jobs that wait for the writer. Each producer waits for its own.
const JOBS_MAX: usize = 1024;
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(1);
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Outbox {
    /// Records in a batch.
    pub(crate) batch: usize,
}

impl Contestant for Outbox {
    fn name(&self) -> String {
        format!("SQLite outbox, batch {}", self.batch)
    }

    fn is_synced(&self) -> bool {
        true
    }

    fn command(&self, setup: &Setup<'_>) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        let Load { records, producers, bulk } = setup.load;
        command.arg("outbox").arg(setup.dir).arg(setup.server.to_string());
        command.args([self.batch, records, producers, bulk].map(|number| number.to_string()));
        command
    }

    fn intake(&self, _dir: &Path) -> Intake {
        Intake::Own
    }
}

/// The process of an outbox.
#[derive(clap::Args)]
pub(crate) struct OutboxProcess {
    dir: PathBuf,
    server: SocketAddr,
    batch: usize,
    records: usize,
    producers: usize,
    bulk: usize,
}

/// What the writer does in its next transaction, and a sender to which it reports the commit.
struct Job {
    change: Change,
    committed: SyncSender<()>,
}

enum Change {
    Insert(Vec<Vec<u8>>),
    /// All records up to this id.
    Delete(i64),
}

impl OutboxProcess {
    /// Runs until the process is killed.
    pub(crate) fn run(self) {
        let file = self.dir.join("outbox.sqlite");
        let open = || Connection::open(&file).expect("SQLite opens");
        let connection = open();
        connection.execute_batch(SCHEMA).expect("the schema is made");
        let (jobs, waiting) = sync_channel(JOBS_MAX);
        let (new_records, wake) = sync_channel(1);
        thread::spawn(move || run_writer(connection, &waiting, &new_records));
        let sender =
            Sender { connection: open(), server: self.server, batch: self.batch, jobs: jobs.clone() };
        thread::spawn(move || sender.run(&wake));
        let mut line = String::new();
        stdin().lock().read_line(&mut line).expect("the bench writes a line");
        let load = Load { records: self.records, producers: self.producers, bulk: self.bulk };
        load.run_producers(|portions| {
            for portion in portions {
                commit(&jobs, Change::Insert(portion.into_iter().map(new_record).collect()));
            }
            Ok(())
        })
        .expect("producers do not fail");
        writeln!(stdout(), "accepted").expect("the bench reads");
        loop {
            thread::park();
        }
    }
}

fn new_record(number: usize) -> Vec<u8> {
    let mut record = Vec::new();
    write_record(number, &mut record);
    record
}

/// Returns when the change is on disk.
fn commit(jobs: &SyncSender<Job>, change: Change) {
    let (committed, done) = sync_channel(1);
    jobs.send(Job { change, committed }).expect("the writer runs");
    done.recv().expect("the writer commits");
}

/// Commits all changes that wait in one transaction.
fn run_writer(mut connection: Connection, jobs: &Receiver<Job>, new_records: &SyncSender<()>) {
    while let Ok(first) = jobs.recv() {
        let group: Vec<Job> = std::iter::once(first).chain(jobs.try_iter().take(JOBS_MAX)).collect();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .expect("it is the only writer");
        for job in &group {
            match &job.change {
                Change::Insert(records) => {
                    let mut insert = transaction
                        .prepare_cached("INSERT INTO outbox (record) VALUES (?)")
                        .expect("the table exists");
                    for record in records {
                        insert.execute([record]).expect("a record is inserted");
                    }
                }
                Change::Delete(last) => {
                    transaction
                        .execute("DELETE FROM outbox WHERE id <= ?", [last])
                        .expect("records are deleted");
                }
            }
        }
        transaction.commit().expect("the disk is well");
        for job in group {
            job.committed.send(()).expect("the caller waits");
        }
        match new_records.try_send(()) {
            // Full: the sender has not noticed the last wake-up yet.
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => return,
        }
    }
}

/// Posts the oldest records until the server has applied them, then the next.
struct Sender {
    connection: Connection,
    server: SocketAddr,
    batch: usize,
    jobs: SyncSender<Job>,
}

impl Sender {
    fn run(self, new_records: &Receiver<()>) {
        let mut client = None;
        loop {
            let Some((last, body)) = self.next_batch() else {
                new_records.recv().expect("the writer runs");
                continue;
            };
            let mut backoff = FIRST_BACKOFF;
            while !self.post(&mut client, &body) {
                thread::park_timeout(backoff);
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
            commit(&self.jobs, Change::Delete(last));
        }
    }

    /// The id of the last record of the batch, and the body.
    fn next_batch(&self) -> Option<(i64, Vec<u8>)> {
        let mut select = self
            .connection
            .prepare_cached("SELECT id, record FROM outbox ORDER BY id LIMIT ?")
            .expect("the table exists");
        let batch = i64::try_from(self.batch).expect("a batch is small");
        let mut rows = select.query([batch]).expect("the table is readable");
        let (mut last, mut body) = (None, Vec::new());
        while let Some(row) = rows.next().expect("the table is readable") {
            body.push(if last.is_none() { b'[' } else { b',' });
            last = Some(row.get(0).expect("an id"));
            body.extend_from_slice(
                row.get_ref(1).and_then(|record| Ok(record.as_blob()?)).expect("a record"),
            );
        }
        body.push(b']');
        Some((last?, body))
    }

    /// Whether the server has applied the batch.
    fn post(&self, client: &mut Option<HttpClient<TcpStream>>, body: &[u8]) -> bool {
        if client.is_none() {
            *client = self.connect();
        }
        let status =
            client.as_mut().and_then(|client| client.post(PLAIN_PATH, "application/json", body).ok());
        if status.is_none() {
            *client = None;
        }
        status.is_some_and(|status| (200..300).contains(&status))
    }

    fn connect(&self) -> Option<HttpClient<TcpStream>> {
        let stream = TcpStream::connect(self.server).ok()?;
        stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(RESPONSE_TIMEOUT))).ok()?;
        Some(HttpClient::new(stream))
    }
}
