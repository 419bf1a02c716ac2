//! Paths and query strings of the local API. An input is the target of a `GET` request.
#![no_main]

use fieldsync::ipc::fuzzing::{
    read_batches_query, read_events_query, read_list_query, read_manifest_query, read_record_id,
    read_show_query,
};
use fieldsync::store::Filter;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use uuid::Uuid;

/// The limits that the documentation of the API promises.
const MAX_PAGE: usize = 1000;
const DEFAULT_PAGE: usize = 100;

fuzz_target!(|target: &str| {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = QueryPairs(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect());
    match path {
        "/v1/records" => check_list(query, &pairs),
        "/v1/batches" => match read_batches_query(query) {
            Ok(limit) => {
                assert_eq!(limit, pairs.one("limit").map(|limit| limit.parse().expect("it was accepted")))
            }
            Err(message) => assert!(!message.is_empty()),
        },
        "/v1/manifest" => {
            if let Ok(all) = read_manifest_query(query) {
                assert_eq!(all, pairs.one("all").map(|all| all == "true"));
            }
        }
        "/v1/events" => {
            if let Ok(last_seen) = read_events_query(query) {
                assert_eq!(last_seen.as_deref(), pairs.one("last_event_id"));
            }
        }
        _ => {
            let Some(id) = path.strip_prefix("/v1/records/") else { return };
            assert_eq!(read_record_id(id).ok().map(|id| id.0), Uuid::parse_str(id).ok());
            if let Ok(asked) = read_show_query(query) {
                let has = |name| pairs.one(name) == Some("true");
                assert_eq!(asked, (has("payload"), has("lineage")));
            }
        }
    }
});

fn check_list(query: &str, pairs: &QueryPairs) {
    let (filter, all) = match read_list_query(query) {
        Ok(asked) => asked,
        Err(message) => return assert!(!message.is_empty()),
    };
    let Filter { state, record_type, after, limit, .. } = &filter;
    let known = ["state", "type", "limit", "after", "all"];
    assert!(pairs.0.iter().all(|(name, _)| known.contains(&name.as_str())), "an unknown name was ignored");
    let given = |name| pairs.one(name).filter(|value| !value.is_empty());
    assert_eq!(record_type.as_deref(), given("type"));
    assert_eq!(state.is_some(), given("state").is_some());
    assert_eq!(all, given("all").map(|all| all == "true"));
    assert_eq!(
        after.map(|place| place.0),
        given("after").map(|after| after.parse().expect("it was accepted"))
    );
    let asked = given("limit").map_or(DEFAULT_PAGE, |limit| limit.parse().expect("it was accepted"));
    assert_eq!(*limit, asked.clamp(1, MAX_PAGE));

    let mut again = url::form_urlencoded::Serializer::new(String::new());
    again.append_pair("limit", &limit.to_string());
    again.append_pair("after", &after.map_or(String::new(), |place| place.0.to_string()));
    again.append_pair("type", record_type.as_deref().unwrap_or_default());
    again.append_pair(
        "state",
        state.map(|state| json!(state)).as_ref().and_then(|state| state.as_str()).unwrap_or_default(),
    );
    again.append_pair("all", &all.map_or(String::new(), |all| all.to_string()));
    let again = read_list_query(&again.finish()).expect("what was read is valid");
    assert_eq!(format!("{again:?}"), format!("{:?}", (filter, all)));
}

/// The pairs of the query string.
struct QueryPairs(Vec<(String, String)>);

impl QueryPairs {
    /// The value of a name, which must not occur twice.
    fn one(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert!(values.next().is_none(), "a repeated name was accepted");
        first
    }
}
