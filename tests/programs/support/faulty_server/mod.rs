//! A server of the protocol that is correct, except for the faults that a test switches on.
//!
//! It keeps everything in memory, serves each connection by a thread, and takes some time for large batches, so that
//! requests meet batches that are being processed.

mod books;
mod validation;
mod wire;

use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fieldsync::protocol::wire::BATCH_PATH;
use serde_json::{Value, json};

use books::{Books, Outcome};
use validation::validate_batch;
use wire::{Arrived, Response, read_request, send_interim, wait_for_hang_up};

/// 2⁶⁴ − 1.
const ENDLESS_WAIT_S: &str = "18446744073709551615";

/// What a server can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerFault {
    /// Looks for known records, and applies the others only later.
    AppliesTwiceConcurrently,
    /// Keeps a response until it was repeated once.
    ForgetsAfterReplay,
    /// Repeats a response with `duplicate` instead of `applied`.
    ReplaysOtherResults,
    /// Repeats the response to a batch id whatever the body is.
    IgnoresOtherBody,
    /// Takes a known id with another payload for a duplicate.
    IgnoresConflicts,
    /// Applies a record behind a rejected one of its key.
    OvertakesRejected,
    /// Gives up a batch when its client hangs up.
    StopsOnHangUp,
    /// Responds to a query for an unknown batch as to any unknown path.
    PlainNotFound,
    /// Applies the records that it finds in a body that breaks off.
    TakesTruncatedBody,
    /// Refuses requests with a page.
    HtmlErrors,
    /// Decodes a body of any size.
    DecodesWithoutLimit,
    /// Believes the ids in the headers, whatever the body says.
    IgnoresHeaderMismatch,
    /// Knows batches by their id alone.
    SharesBatchIds,
    /// Names no time with its 409.
    OmitsRetryAfter,
    /// Responds to an unknown encoding as to a malformed body.
    UnknownEncodingIs400,
    /// Compares the record ids of a known batch id, and nothing else of the body.
    ComparesIdsOnly,
    /// Names a time with its 409 that is none.
    MalformedRetryAfter,
    /// Holds only one record behind a rejected one.
    HoldsOneRecord,
    /// Sends an interim response before each response.
    SendsInterim,
    /// Takes the id of a batch that it refuses with 415.
    KeepsRefusedId,
    /// Closes the connection instead of refusing a decompression bomb.
    StopsAtBomb,
    /// Never responds to a body of more than 16 MiB.
    HangsOnLargeBody,
    /// Allowed: refuses more than 100 records with 413, and names no limit.
    TakesFewRecords,
    /// Allowed: limits the body, and names a smaller number of bytes of payloads.
    TakesFewBytes,
    /// Never settles a batch, and asks for a wait of as many seconds as the header can name.
    AsksForEndlessWaits,
}

/// The server; it listens until it is dropped.
pub(crate) struct FaultyServer {
    address: SocketAddr,
    has_ended: Arc<AtomicBool>,
}

/// What the connections share.
struct Service {
    books: Books,
    faults: Vec<ServerFault>,
}

impl FaultyServer {
    /// Starts it with these faults.
    pub(crate) fn start(faults: &[ServerFault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::new(Service { books: Books::new(faults), faults: faults.to_vec() });
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&has_ended);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, service) = (stream.unwrap(), Arc::clone(&service));
                // Clients that disconnect are a part of the tests.
                thread::spawn(move || drop(service.serve(&stream)));
            }
        });
        Self { address, has_ended }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::SeqCst);
        // The listener waits for a connection; this one ends the wait.
        drop(TcpStream::connect(self.address));
    }
}

impl Service {
    fn has(&self, fault: ServerFault) -> bool {
        self.faults.contains(&fault)
    }

    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader)? {
            let is_whole = !request.is_truncated;
            if !is_whole && !self.has(ServerFault::TakesTruncatedBody) {
                return Ok(());
            }
            let Some(response) = self.respond(&request, stream) else { return Ok(()) };
            if self.has(ServerFault::SendsInterim) {
                send_interim(stream)?;
            }
            self.dress(response).send(stream)?;
            if !is_whole {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Adds what all responses have.
    fn dress(&self, mut response: Response) -> Response {
        let is_about_content = matches!(response.status, 400 | 413 | 415);
        if is_about_content && self.has(ServerFault::HtmlErrors) {
            response.kind = "text/html";
            response.body = format!("<html><h1>{}</h1></html>", response.status);
        }
        if self.has(ServerFault::TakesFewBytes) {
            response = response.with("x-sync-max-bytes", "4096");
        }
        response.with("accept-encoding", "zstd, gzip").with("x-sync-holds-keys", "true")
    }

    /// `None` if the server gives up the connection.
    fn respond(&self, request: &Arrived, stream: &TcpStream) -> Option<Response> {
        let Some(rest) = request.path.strip_prefix(BATCH_PATH) else {
            return Some(Response::error(404, "NOT_FOUND"));
        };
        if self.has(ServerFault::AsksForEndlessWaits) {
            let id = rest.trim_start_matches('/');
            let response = match request.method.as_str() {
                "GET" => Response::json(202, &json!({"batch_id": id, "state": "processing"})),
                _ => Response::error(504, "TIMEOUT"),
            };
            return Some(response.with("retry-after", ENDLESS_WAIT_S));
        }
        match (request.method.as_str(), rest.strip_prefix('/')) {
            ("POST", None) => self.take_batch(request, stream),
            ("GET", Some(id)) => Some(self.query_outcome(request, id)),
            _ => Some(Response::error(405, "METHOD_NOT_ALLOWED")),
        }
    }

    fn take_batch(&self, request: &Arrived, stream: &TcpStream) -> Option<Response> {
        let batch = match validate_batch(request, &self.faults) {
            Ok(batch) => batch,
            Err((413, _)) if request.is_encoded() && self.has(ServerFault::StopsAtBomb) => return None,
            Err((413, _)) if !request.is_encoded() && self.has(ServerFault::HangsOnLargeBody) => {
                wait_for_hang_up(stream);
                return None;
            }
            Err((status, code)) => {
                if status == 415 && self.has(ServerFault::KeepsRefusedId) {
                    self.books.keep_id(request.header("x-sync-device-id"), request.header("x-sync-batch-id"));
                }
                return Some(Response::error(status, code));
            }
        };
        Some(match self.books.submit(&batch, stream)? {
            Outcome::Completed { results, is_replayed } => results_of(&batch.id, &results, is_replayed),
            Outcome::InFlight if self.has(ServerFault::OmitsRetryAfter) => Response::error(409, "PROCESSING"),
            Outcome::InFlight if self.has(ServerFault::MalformedRetryAfter) => {
                Response::error(409, "PROCESSING").with("retry-after", "soon")
            }
            Outcome::InFlight => Response::error(409, "PROCESSING").with("retry-after", "1"),
            Outcome::IdReused => Response::error(422, "BATCH_ID_REUSED"),
        })
    }

    fn query_outcome(&self, request: &Arrived, id: &str) -> Response {
        let device = request.header("x-sync-device-id");
        if [id, device].iter().any(|id| id.parse::<uuid::Uuid>().is_err()) {
            return Response::error(400, "INVALID_REQUEST");
        }
        match self.books.look_up(device, id) {
            Some(Outcome::Completed { results, .. }) => results_of(id, &results, true),
            Some(_) => Response::json(202, &json!({"batch_id": id, "state": "processing"})),
            None if self.has(ServerFault::PlainNotFound) => {
                Response { status: 404, kind: "text/plain", headers: Vec::new(), body: "Not Found\n".into() }
            }
            None => Response::error(404, "UNKNOWN_BATCH"),
        }
    }
}

fn results_of(batch: &str, results: &[Value], is_replayed: bool) -> Response {
    Response::json(200, &json!({"batch_id": batch, "replayed": is_replayed, "results": results}))
}
