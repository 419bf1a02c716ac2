//! The devices of gateways that share a ledger.

use fieldsync::model::DeviceId;
use fieldsync::protocol::device_status::status_path;
use fieldsync::protocol::wire::BATCH_PATH;
use hyper::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::device::Batch;
use crate::support::gateway::Gateway;
use crate::support::postgres::Postgres;
use crate::support::wait::{directory, wait_for};

const TOKEN: &str = "s3cret-of-the-operator";

fn list(gateway: &Gateway) -> Vec<Value> {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let response = gateway.send(Method::GET, "/admin/devices", &headers, Vec::new());
    response.expect_json(200)["devices"].as_array().unwrap().clone()
}

fn report(gateway: &Gateway, device: Uuid, version: &str) {
    let path = status_path(BATCH_PATH, DeviceId(device));
    let body = json!({"version": version}).to_string();
    assert_eq!(gateway.send(Method::POST, &path, &[], body.into()).status, 204);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn all_gateways_show_the_devices_of_all() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    let directory = directory();
    let token_file = directory.path().join("admin-token");
    std::fs::write(&token_file, TOKEN).unwrap();
    let arguments = ["--admin-token-file", token_file.to_str().unwrap()];
    let gateways = [(); 2].map(|()| Gateway::start_on(&store, &arguments));
    let [one, other] = &gateways;
    let device = Uuid::new_v4();
    report(one, device, "1");
    assert_eq!(list(one)[0]["version"], "1");
    report(other, device, "2");
    let batch = Batch { device, ..Batch::of(&["{}"]) };
    one.post(&batch).batch();
    one.post(&Batch::of(&["{}"])).batch();
    wait_for("both devices at both gateways", || {
        let lists = [list(one), list(other), list(one)];
        let newest = |devices: &Vec<Value>| {
            devices.iter().any(|listed| listed["device_id"] == device.to_string() && listed["version"] == "2")
        };
        (lists.iter().skip(1).all(|devices| devices.len() == 2 && newest(devices))).then_some(())
    });
    assert_eq!(one.metric("fieldsync_gateway_devices"), 2);
    // A contact that was noted while a clock was ahead does not outlast the next one.
    let future = 1_u64 << 45;
    postgres.query("sync", &format!("UPDATE fieldsync.devices SET last_contact_ms = {future}"));
    postgres.query(
        "sync",
        &format!("UPDATE fieldsync.devices SET last_status_ms = {future} WHERE status IS NOT NULL"),
    );
    report(one, device, "2a");
    let listed = list(one);
    assert_eq!((&listed[0]["device_id"], &listed[0]["version"]), (&json!(device.to_string()), &json!("2a")));
    assert_eq!(listed[0]["last_status_at"], listed[0]["last_contact_at"]);
    // What was reported is there after both have ended.
    report(one, device, "3");
    for gateway in gateways {
        gateway.signal("TERM");
        assert!(gateway.wait_for_exit().success());
    }
    let rows = "SELECT count(*), count(status) FROM fieldsync.devices";
    assert_eq!(postgres.query("sync", rows), "2|1");
    assert_eq!(
        postgres
            .query("sync", "SELECT status::json->>'version' FROM fieldsync.devices WHERE status IS NOT NULL"),
        "3"
    );
}
