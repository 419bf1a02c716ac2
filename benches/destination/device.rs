//! A device that sends batches over one connection and uses little processor time, because it competes with the gateway
//! for the processor.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use fieldsync::protocol::wire::BATCH_PATH;
use memchr::memmem::find_iter;
use uuid::Uuid;

/// What a result of the gateway contains for a record that is stored now.
const APPLIED: &[u8] = br#""status":"applied""#;

pub(crate) struct Device {
    id: Uuid,
    stream: BufReader<TcpStream>,
    response: Vec<u8>,
}

impl Device {
    pub(crate) fn connect(gateway: SocketAddr) -> Self {
        let stream = TcpStream::connect(gateway).expect("the gateway listens");
        stream.set_nodelay(true).expect("the connection is open");
        Self { id: Uuid::new_v4(), stream: BufReader::new(stream), response: Vec::new() }
    }

    /// Sends a batch of new records, which must all be applied.
    pub(crate) fn send_batch(&mut self, records: usize) {
        let batch = Uuid::new_v4();
        let body = self.body(batch, records);
        let head = format!(
            "POST {BATCH_PATH} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nX-Sync-Batch-ID: {batch}\r\n\
             X-Sync-Device-ID: {}\r\nX-Batch-Sequence: 1/1\r\nX-Sync-Attempt: 1\r\nContent-Length: {}\r\n\r\n{body}",
            self.id,
            body.len()
        );
        self.stream.get_mut().write_all(head.as_bytes()).expect("the gateway reads");
        self.read_response();
        let applied = find_iter(&self.response, APPLIED).count();
        assert_eq!(applied, records, "{}", String::from_utf8_lossy(&self.response));
    }

    /// Records of the size of a CRM's.
    fn body(&self, batch: Uuid, records: usize) -> String {
        let mut body = format!(
            r#"{{"batch_id":"{batch}","device_id":"{}","sequence":{{"index":1,"total":1}},"records":["#,
            self.id
        );
        for number in 0..records {
            let separator = if number == 0 { "" } else { "," };
            write!(
                body,
                r#"{separator}{{"id":"{}","type":"Deals","created_at":"2026-03-01T08:15:30.120Z","payload":{{"Deal_Name":"ZNBS69V{number}","Sales_Agent":"Anna Snelling","Product":"MG Special","Account_Name":"Ron-tech","Stage":"Won","Engage_Date":"10/29/2016","Close_Date":"3/1/2017","Amount":49}}}}"#,
                Uuid::now_v7()
            )
            .expect("a text grows");
        }
        body + "]}"
    }

    fn read_response(&mut self) {
        let mut length = 0;
        let status = self.line();
        loop {
            let line = self.line().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(bytes) = line.strip_prefix("content-length: ") {
                length = bytes.parse().expect("a number");
            }
        }
        self.response.resize(length, 0);
        self.stream.read_exact(&mut self.response).expect("the response continues");
        assert!(status.starts_with("HTTP/1.1 200"), "{status}: {}", String::from_utf8_lossy(&self.response));
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the gateway responds");
        line.trim_end().to_owned()
    }
}
