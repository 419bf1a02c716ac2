//! The client against a scripted daemon.

use super::scripted::{ScriptStep, ScriptedDaemon, response_step, stream_step};
use super::*;

#[tokio::test]
async fn a_request_names_its_host_and_carries_its_body() {
    let daemon = ScriptedDaemon::new(vec![response_step(201, "{\"accepted\":1}")]);
    let client = Client::new(daemon.socket());
    let body = Bytes::from_static(b"{\"type\":\"T\"}\n");
    let response = client.post("/v1/records", NDJSON, body).await.unwrap();
    assert_eq!(&response[..], b"{\"accepted\":1}");
    let call = daemon.into_calls().remove(0);
    let head = call.head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/records http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: localhost\r\n"), "{head}");
    assert!(head.contains("content-type: application/x-ndjson"), "{head}");
    assert_eq!(call.body, b"{\"type\":\"T\"}\n");
}

#[tokio::test]
async fn a_socket_without_a_daemon_has_an_error_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Client::new(dir.path().join("none.sock"));
    let error = missing.get("/v1/status").await.unwrap_err();
    assert!(
        matches!(&error, ClientError::NoDaemon { source, .. } if source.kind() == io::ErrorKind::NotFound),
        "{error}"
    );
    let path = dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = Client::new(path).get("/v1/status").await.unwrap_err();
    assert!(
        matches!(&error, ClientError::NoDaemon { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused),
        "{error}"
    );
}

#[tokio::test]
async fn refusals_keep_code_message_and_position() {
    let refusal = "{\"error\":{\"code\":\"id_conflict\",\"message\":\"known\",\"position\":3}}";
    let daemon =
        ScriptedDaemon::new(vec![response_step(409, refusal), response_step(400, "bad request line")]);
    let client = Client::new(daemon.socket());
    let error = client.get("/v1/status").await.unwrap_err();
    let ClientError::Refused { status, code, message, position } = error else { panic!("{error}") };
    assert_eq!((status, code.as_str(), message.as_str(), position), (409, "id_conflict", "known", Some(3)));
    let error = client.get("/v1/status").await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused { status: 400, message, .. } if message == "bad request line"),
        "{error}"
    );
}

#[tokio::test]
async fn an_incomplete_response_is_lost_and_an_invalid_one_is_not() {
    let half = ScriptStep::Respond(vec![b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec()]);
    let nonsense = ScriptStep::Respond(vec![b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()]);
    let daemon = ScriptedDaemon::new(vec![ScriptStep::HangUp, half, nonsense]);
    let client = Client::new(daemon.socket());
    for _ in 0..2 {
        let error = client.get("/v1/status").await.unwrap_err();
        assert!(matches!(error, ClientError::Lost { .. }), "{error}");
    }
    let error = client.get("/v1/status").await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol(_)), "{error}");
}

#[tokio::test]
async fn events_arrive_one_by_one_until_the_daemon_ends_them() {
    let pieces = ["event: status\nda", "ta: {}\n\nevent: progress\ndata: 1\n\n"];
    let daemon = ScriptedDaemon::new(vec![stream_step(&pieces, true), stream_step(&pieces[..1], false)]);
    let client = Client::new(daemon.socket());
    let mut events = client.events().await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().name, "status");
    assert_eq!(events.next().await.unwrap().unwrap().data, "1");
    assert_eq!(events.next().await.unwrap(), None);
    let mut events = client.events_after(Some("a-7")).await.unwrap();
    let error = events.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error}");
    let asked = daemon.into_calls().into_iter().map(|call| call.head.contains("\r\nlast-event-id: a-7\r\n"));
    assert_eq!(asked.collect::<Vec<_>>(), [false, true]);
}

#[test]
fn queries_are_encoded() {
    let pairs = [("type", "Site visit&more"), ("limit", "5")];
    assert_eq!(with_query("/v1/records", &pairs), "/v1/records?type=Site+visit%26more&limit=5");
    assert_eq!(with_query("/v1/records", &[]), "/v1/records");
}
