//! A CRM that a mapping file describes: the example for `HubSpot`, as it is shipped.

use fieldsync::protocol::wire::RecordStatus;
use serde_json::{Value, json};

use crate::gateway::configuration::Setup;
use crate::support::device::{Batch, Record};
use crate::support::gateway::Gateway;
use crate::support::http::statuses;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::wait::wait_for;

const TOKEN: &str = "pat-eu1-s3cret";

/// Responds as `HubSpot`: results in an order of its own, errors beside them.
fn hubspot(request: &Request) -> Reply {
    if request.header("authorization") != format!("Bearer {TOKEN}") {
        let body = json!({"status": "error", "category": "INVALID_AUTHENTICATION", "message": "not valid"});
        return Reply::json(401, &body);
    }
    let body = request.json();
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for (number, input) in body["inputs"].as_array().unwrap().iter().enumerate().rev() {
        assert_eq!(
            (&input["idProperty"], &input["id"]),
            (&json!("fieldsync_id"), &input["objectWriteTraceId"])
        );
        let trace = &input["objectWriteTraceId"];
        if input["properties"]["numberofemployees"].is_string() {
            errors.push(json!({
                "status": "error", "category": "VALIDATION_ERROR", "message": "many was not a valid number",
                "context": {"objectWriteTraceId": [trace], "propertyName": ["numberofemployees"]},
            }));
        } else {
            let id = (901 + number).to_string();
            results.push(json!({"id": id, "new": true, "objectWriteTraceId": trace}));
        }
    }
    let status = if errors.is_empty() { 200 } else { 207 };
    let response =
        json!({"status": "COMPLETE", "results": results, "numErrors": errors.len(), "errors": errors});
    Reply::json(status, &response)
}

/// The shipped example, with the address of this server, and records of the type that the tests send.
fn start(server: &ScriptedServer) -> (Setup, Gateway) {
    let setup = Setup::with("");
    let token = setup.place("hubspot.token", TOKEN);
    let example = std::fs::read_to_string("docs/examples/hubspot.toml").unwrap();
    let mapping = example
        .replace("https://api.hubapi.com", &server.url())
        .replace("/etc/fieldsync-gateway/hubspot-token", &token);
    assert!(mapping.contains(&server.url()) && mapping.contains(&token), "{mapping}");
    setup.place("hubspot.toml", &mapping);
    configure(&setup, "companies");
    let gateway = setup.start(&[]);
    (setup, gateway)
}

fn configure(setup: &Setup, module: &str) {
    let mapping = setup.path("hubspot.toml");
    setup.write(&format!(
        "[destination]\nkind = \"http\"\nmapping_file = '{}'\n[[destination.type]]\nname = \"Visits\"\n\
         module = \"{module}\"\nid_field = \"fieldsync_id\"\n\
         fields = {{ account = \"name\", employees = \"numberofemployees\" }}\n",
        mapping.display()
    ));
}

#[test]
fn the_example_for_hubspot_delivers_records_and_reports_the_field_at_fault() {
    let server = ScriptedServer::start(hubspot);
    let (_setup, gateway) = start(&server);
    let batch = Batch::of(&[
        r#"{"account":"Acme","employees":12}"#,
        r#"{"account":"Initech","employees":"many"}"#,
        r#"{"account":"Hooli"}"#,
    ]);
    let response = gateway.post(&batch).batch();
    assert_eq!(statuses(&response), [RecordStatus::Applied, RecordStatus::Rejected, RecordStatus::Applied]);
    let receipt = |at: usize| -> Value {
        serde_json::from_str(response.results[at].receipt.as_ref().unwrap().as_str()).unwrap()
    };
    assert_eq!([0, 2].map(|at| receipt(at)["id"].clone()), [json!("901"), json!("903")]);
    let rejected = &response.results[1];
    assert_eq!(rejected.code.as_deref(), Some("VALIDATION_ERROR"));
    assert_eq!(rejected.field.as_deref(), Some("/employees"));
    let request = &server.requests()[0];
    assert_eq!(request.path, "/crm/objects/2026-03/companies/batch/upsert");
    assert_eq!(request.json()["inputs"][0]["properties"], json!({"name": "Acme", "numberofemployees": 12}));
}

#[test]
fn after_a_reload_records_go_where_the_new_configuration_says() {
    let server = ScriptedServer::start(hubspot);
    let (setup, gateway) = start(&server);
    gateway.post(&Batch::with(vec![Record::new("{}")])).batch();
    configure(&setup, "contacts");
    gateway.signal("HUP");
    wait_for("the reload", || setup.log().contains("the destination was read again").then_some(()));
    gateway.post(&Batch::with(vec![Record::new("{}")])).batch();
    // A mapping with a mistake leaves the former one in use.
    setup.place("hubspot.toml", "method = \"GET\"\n");
    gateway.signal("HUP");
    wait_for("the mistake", || setup.log().contains("the former one stays in use").then_some(()));
    assert!(setup.log().contains("hubspot.toml"), "{}", setup.log());
    gateway.post(&Batch::with(vec![Record::new("{}")])).batch();
    let modules: Vec<String> =
        server.requests().iter().map(|request| request.path.split('/').nth(4).unwrap().to_owned()).collect();
    assert_eq!(modules, ["companies", "contacts", "contacts"]);
}
