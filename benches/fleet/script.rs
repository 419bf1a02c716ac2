//! What the gateway with PostgreSQL is compared to: a script that writes the rows of a batch by multi-row inserts, with a
//! commit for each batch. Its tables have the columns and indexes of the gateway's; it receives no requests, and checks
//! nothing.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use fieldsync::clock::{Clock, wall_ms};
use fieldsync::model::{BatchId, RecordId};
use fieldsync::protocol::wire::{BatchResponse, RecordResult, RecordStatus};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::generator::{Batch, BatchShape, run_fleet};
use crate::postgres::connect;

const CREATE_TABLES: &str = "
    CREATE SEQUENCE record_seq;
    CREATE TABLE records (
        id uuid PRIMARY KEY, seq bigint NOT NULL DEFAULT nextval('record_seq'), digest bytea NOT NULL,
        device_id uuid NOT NULL, batch_id uuid NOT NULL, type text NOT NULL, key text,
        applied_at_ms bigint NOT NULL, receipt text
    );
    CREATE UNIQUE INDEX records_by_seq ON records (seq);
    CREATE INDEX records_by_age ON records (applied_at_ms);
    CREATE TABLE responses (
        device_id uuid, batch_id uuid, fingerprint bytea NOT NULL, answered_at_ms bigint NOT NULL,
        answer text NOT NULL, PRIMARY KEY (device_id, batch_id)
    );
    CREATE INDEX responses_by_age ON responses (answered_at_ms);
";
const INSERT_RECORDS: &str = "
    INSERT INTO records (id, digest, device_id, batch_id, type, key, applied_at_ms)
    SELECT id, digest, $3, $4, 'Visits', key, $6
    FROM unnest($1::uuid[], $2::bytea[], $5::text[]) AS rows (id, digest, key)";
const INSERT_RESPONSE: &str = "INSERT INTO responses VALUES ($1, $2, $3, $4, $5)";
const DIGEST_BYTES: usize = 32;

/// The database of the script.
pub(crate) struct Script {
    url: String,
    pub(crate) sessions: usize,
}

/// The times of the batches that the script committed.
pub(crate) struct ScriptRun {
    pub(crate) latencies: Vec<Duration>,
    pub(crate) time: Duration,
}

impl Script {
    /// Creates the tables.
    pub(crate) fn new(url: String, sessions: usize) -> Self {
        run_fleet(async {
            let client = connect(&url).await.expect("the server accepts sessions");
            client.batch_execute(CREATE_TABLES).await.expect("the database is new");
        });
        Self { url, sessions }
    }

    /// Writes batch after batch in all sessions.
    pub(crate) fn write_for(&self, time: Duration, shape: BatchShape) -> ScriptRun {
        run_fleet(async {
            let latencies = Rc::new(RefCell::new(Vec::new()));
            let mut clients = Vec::new();
            for _ in 0..self.sessions {
                clients.push(connect(&self.url).await.expect("the server accepts sessions"));
            }
            let clock = Clock::start();
            let mut tasks = JoinSet::new();
            for client in clients {
                tasks.spawn_local(write_batches(client, clock, time, shape, Rc::clone(&latencies)));
            }
            while let Some(ended) = tasks.join_next().await {
                ended.expect("a session ends without an error");
            }
            ScriptRun { latencies: latencies.take(), time: clock.now() }
        })
    }
}

async fn write_batches(
    mut client: Client,
    clock: Clock,
    end: Duration,
    shape: BatchShape,
    latencies: Rc<RefCell<Vec<Duration>>>,
) {
    let insert_records = client.prepare(INSERT_RECORDS).await.expect("the tables exist");
    let insert_response = client.prepare(INSERT_RESPONSE).await.expect("the tables exist");
    let mut rng = Rng::new();
    let keys: Vec<String> = (0..shape.records).map(|number| format!("account-{number}")).collect();
    while clock.now() < end {
        let began = clock.now();
        let batch = Batch::new(random_device(&mut rng), shape, wall_ms(), &mut rng);
        let ids: Vec<Uuid> = batch.record_ids().collect();
        let digests: Vec<Vec<u8>> = ids.iter().map(|_| random_digest(&mut rng)).collect();
        let (now, response) = (wall_ms_of_row(), response_text(batch.id, &ids));
        let transaction = client.transaction().await.expect("the server runs");
        transaction
            .execute(&insert_records, &[&ids, &digests, &batch.device, &batch.id, &keys, &now])
            .await
            .expect("the rows are new");
        let fingerprint = random_digest(&mut rng);
        transaction
            .execute(&insert_response, &[&batch.device, &batch.id, &fingerprint, &now, &response])
            .await
            .expect("the row is new");
        transaction.commit().await.expect("the server commits");
        latencies.borrow_mut().push(clock.now().saturating_sub(began));
    }
}

fn wall_ms_of_row() -> i64 {
    i64::try_from(wall_ms()).expect("a time of this century")
}

fn random_device(rng: &mut Rng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.u128(..).to_ne_bytes()).into_uuid()
}

fn random_digest(rng: &mut Rng) -> Vec<u8> {
    let mut digest = vec![0; DIGEST_BYTES];
    rng.fill(&mut digest);
    digest
}

fn response_text(batch: Uuid, ids: &[Uuid]) -> String {
    let results = ids.iter().map(|id| RecordResult::new(RecordId(*id), RecordStatus::Applied)).collect();
    let response = BatchResponse { batch_id: BatchId(batch), replayed: false, results };
    serde_json::to_string(&response).expect("a response is JSON")
}
