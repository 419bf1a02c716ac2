//! A CRM that speaks as much of Zoho's API as the gateway calls, accepts everything, and answers at once.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use memchr::memmem::find_iter;

/// The field with the id of a record, as the gateway writes it.
const ID_FIELD: &[u8] = br#""Fieldsync_Id":"#;
const TOKEN_PATH: &str = "/oauth/v2/token";
const FIRST_ID: u64 = 4_150_868_000_000_000_000;

pub(crate) struct InstantCrm {
    pub(crate) address: SocketAddr,
}

impl InstantCrm {
    /// It serves until the process ends.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let last_id = Arc::new(AtomicU64::new(FIRST_ID));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let last_id = Arc::clone(&last_id);
                thread::spawn(move || serve(stream, address, &last_id));
            }
        });
        Self { address }
    }
}

/// Answers the requests of a connection, until the client closes it.
fn serve(stream: TcpStream, address: SocketAddr, last_id: &AtomicU64) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut stream = BufReader::new(stream);
    loop {
        let (path, body) = read_request(&mut stream)?;
        let answer = if path == TOKEN_PATH {
            format!(
                r#"{{"access_token":"token","api_domain":"http://{address}","token_type":"Bearer","expires_in":3600}}"#
            )
        } else {
            let records = find_iter(&body, ID_FIELD).count();
            confirm_records(records, last_id)
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        );
        stream.get_mut().write_all(head.as_bytes()).ok()?;
    }
}

fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut line = String::new();
    let mut path = None;
    let mut length = 0;
    loop {
        line.clear();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let text = line.trim_end().to_ascii_lowercase();
        if text.is_empty() {
            break;
        }
        if path.is_none() {
            path = Some(line.split(' ').nth(1)?.to_owned());
        } else if let Some(bytes) = text.strip_prefix("content-length: ") {
            length = bytes.parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((path?, body))
}

fn confirm_records(records: usize, last_id: &AtomicU64) -> String {
    let mut answer = r#"{"data":["#.to_owned();
    for number in 0..records {
        let separator = if number == 0 { "" } else { "," };
        let id = last_id.fetch_add(1, Ordering::Relaxed) + 1;
        write!(
            answer,
            r#"{separator}{{"code":"SUCCESS","status":"success","action":"insert","duplicate_field":null,"message":"record added","details":{{"id":"{id}","Created_Time":"2026-03-01T08:15:30+00:00","Modified_Time":"2026-03-01T08:15:30+00:00"}}}}"#
        )
        .expect("a text grows");
    }
    answer + "]}"
}
