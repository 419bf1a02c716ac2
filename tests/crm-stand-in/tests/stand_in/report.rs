//! What the report counts.

use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::support::{RunningStandIn, account, account_with, accounts, salesforce_account, wait_until};

#[test]
fn the_report_is_printed_at_the_end_and_counts_calls_and_records() {
    for signal in ["TERM", "INT"] {
        let crm = RunningStandIn::zoho(&["--seed", "9"]);
        let token = crm.zoho_token();
        crm.zoho_upsert(&token, "Accounts", &accounts(3)).expect(200);
        crm.zoho_upsert(&token, "Accounts", &accounts(2)).expect(200);
        crm.zoho_upsert(&token, "Accounts", &json!([account_with("x", json!({ "Employees": "many" }))]))
            .expect(400);
        let asked = crm.report();
        let report = crm.end(signal);
        assert_eq!(asked, report);
        assert_eq!((&report["crm"], &report["seed"]), (&json!("zoho"), &json!(9)));
        let module = &report["modules"]["Accounts"];
        for (name, expected) in [
            ("records", 3),
            ("creates", 3),
            ("updates", 2),
            ("repeats", 2),
            ("calls", 3),
            ("records_in_calls", 6),
            ("largest_call", 3),
            ("duplicates", 0),
            ("merges", 0),
            ("order_violations", 0),
            ("races", 0),
        ] {
            assert_eq!(module[name], expected, "{name}");
        }
        assert_eq!(module["refused"], json!({ "INVALID_DATA": 1 }));
        assert_eq!(report["responses"], json!({ "200": 2, "400": 1 }));
        assert_eq!(report["violations"], json!({}));
        assert_eq!((&report["token_requests"], &report["tokens_issued"]), (&json!(1), &json!(1)));
        assert_eq!(report["modules"]["Deals"]["calls"], 0);
    }
}

#[test]
fn calls_without_a_duplicate_check_of_their_own_merge_records() {
    let crm = RunningStandIn::zoho(&[]);
    let token = crm.zoho_token();
    let named = |id: &str| json!({ "Account_Name": "One name", "Fieldsync_Id": id });
    for fields in [None, Some(json!([])), Some(json!(["Account_Name"]))] {
        let mut body = json!({ "data": [named(&format!("{fields:?}"))] });
        if let Some(fields) = fields {
            body["duplicate_check_fields"] = fields;
        }
        crm.zoho_call(&token, "Accounts", &body).expect(200);
    }
    let report = crm.report();
    assert_eq!(report["violations"], json!({ "default_duplicate_check": 3 }));
    assert_eq!(report["violation_notes"].as_array().unwrap().len(), 3);
    let module = &report["modules"]["Accounts"];
    assert_eq!((&module["records"], &module["merges"]), (&json!(1), &json!(2)));
    // The same content under different unique values is no duplicate.
    crm.zoho_upsert(&token, "Accounts", &json!([named("a"), named("b")])).expect(200);
    assert_eq!(crm.report()["modules"]["Accounts"]["duplicates"], 0);
}

#[test]
fn workflows_run_by_default_and_not_with_an_empty_trigger() {
    let crm = RunningStandIn::zoho(&[]);
    let token = crm.zoho_token();
    let call = |trigger: Option<Value>| {
        let mut body = json!({ "data": [account("1")], "duplicate_check_fields": ["Fieldsync_Id"] });
        if let Some(trigger) = trigger {
            body["trigger"] = trigger;
        }
        crm.zoho_call(&token, "Accounts", &body).expect(200);
        crm.report()["modules"]["Accounts"]["workflow_runs"].clone()
    };
    assert_eq!(call(Some(json!([]))), json!({}));
    let once = json!({ "create": 0, "update": 1 });
    assert_eq!(call(None), json!({ "approval": once, "blueprint": once, "workflow": once }));
    let runs = call(Some(json!(["workflow"])));
    assert_eq!(runs["workflow"], json!({ "create": 0, "update": 2 }));
}

#[test]
fn records_out_of_order_are_counted_and_repeats_are_not() {
    let options = ["--key-field", "Fieldsync_Key", "--order-field", "Fieldsync_Seq"];
    let crm = RunningStandIn::zoho(&options);
    let token = crm.zoho_token();
    let send = |id: &str, key: &str, order: u64| {
        let data = json!([account_with(id, json!({ "Fieldsync_Key": key, "Fieldsync_Seq": order }))]);
        crm.zoho_upsert(&token, "Accounts", &data).expect(200);
        crm.report()["modules"]["Accounts"]["order_violations"].as_u64().unwrap()
    };
    assert_eq!(send("1", "a", 1), 0);
    assert_eq!(send("3", "a", 3), 0);
    assert_eq!(send("1", "a", 1), 0, "a repeat");
    assert_eq!(send("9", "b", 1), 0, "another key");
    assert_eq!(send("2", "a", 2), 1);
    let both = ["4", "5"].map(|id| account_with(id, json!({ "Fieldsync_Key": "a" })));
    crm.zoho_upsert(&token, "Accounts", &json!(both)).expect(200);
    assert_eq!(crm.report()["violations"], json!({ "key_twice_in_call": 1 }));
}

/// Two calls at the same time with the same new record.
fn race(options: &[&str]) -> (Vec<(u16, Value)>, Value) {
    let crm = RunningStandIn::zoho(&[&["--call-cost", "2s"], options].concat());
    let token = crm.zoho_token();
    let mut answers = thread::scope(|scope| {
        let send = || {
            let answer = crm.zoho_upsert(&token, "Accounts", &accounts(1));
            (answer.status, answer.json()["data"][0].clone())
        };
        let threads = [scope.spawn(send), scope.spawn(send)];
        threads.map(|thread| thread.join().unwrap()).to_vec()
    });
    answers.sort_by_key(|(status, _)| *status);
    (answers, crm.report()["modules"]["Accounts"].clone())
}

#[test]
fn of_two_calls_with_the_same_new_value_one_is_refused_or_both_create() {
    let (answers, module) = race(&[]);
    assert_eq!((answers[0].0, answers[1].0), (200, 400));
    let (created, refused) = (&answers[0].1, &answers[1].1);
    assert_eq!(refused["code"], "DUPLICATE_DATA");
    assert_eq!(refused["details"]["duplicate_record"]["id"], created["details"]["id"]);
    assert_eq!(
        (&module["records"], &module["races"], &module["duplicates"]),
        (&json!(1), &json!(1), &json!(0))
    );
    let (answers, module) = race(&["--parallel-creates", "duplicate"]);
    assert_eq!((answers[0].0, answers[1].0), (200, 200));
    assert_eq!(
        (&module["records"], &module["races"], &module["duplicates"]),
        (&json!(2), &json!(1), &json!(1))
    );
}

#[test]
fn salesforce_refuses_an_external_id_that_several_records_have() {
    let crm = RunningStandIn::salesforce(&["--call-cost", "2s", "--parallel-creates", "duplicate"]);
    let token = crm.salesforce_token();
    let record = [salesforce_account("1", json!({}))];
    thread::scope(|scope| {
        let send = || crm.salesforce_upsert(&token, &record).entry(200);
        let threads = [scope.spawn(send), scope.spawn(send)];
        assert!(threads.map(|thread| thread.join().unwrap()).iter().all(|entry| entry["created"] == true));
    });
    let entry = crm.salesforce_upsert(&token, &record).entry(200);
    assert_eq!(entry["errors"][0]["statusCode"], "DUPLICATE_EXTERNAL_ID");
}

#[test]
fn a_client_that_hangs_up_does_not_stop_its_call() {
    let crm = RunningStandIn::zoho(&["--call-cost", "2s"]);
    let token = crm.zoho_token();
    let body = json!({ "data": accounts(1), "duplicate_check_fields": ["Fieldsync_Id"] }).to_string();
    let address = &crm.address;
    let request = format!(
        "POST /crm/v8/Accounts/upsert HTTP/1.1\r\nHost: {address}\r\nAuthorization: Zoho-oauthtoken {token}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    wait_until(|| crm.report()["modules"]["Accounts"]["calls"] == 1);
    drop(stream);
    wait_until(|| !crm.records("Accounts").is_empty());
}

#[test]
fn stored_records_are_listed_in_pages() {
    let crm = RunningStandIn::zoho(&["--max-records", "1200"]);
    crm.zoho_upsert(&crm.zoho_token(), "Accounts", &accounts(1200)).expect(200);
    assert_eq!(crm.records("Accounts").len(), 1200);
    assert_eq!(crm.send("GET", "/stand-in/records?module=None", &[], "").status, 404);
    assert_eq!(crm.send("GET", "/stand-in/records", &[], "").status, 400);
}

#[test]
fn the_schema_is_printed_and_read_from_a_file() {
    let program = env!("CARGO_BIN_EXE_fieldsync-crm-stand-in");
    for crm in ["zoho", "salesforce"] {
        let printed = Command::new(program).args([crm, "--print-schema"]).output().unwrap();
        let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{crm}.toml"));
        std::fs::write(&file, &printed.stdout).unwrap();
        RunningStandIn::start(crm, &["--schema", file.to_str().unwrap()]).end("TERM");
        std::fs::write(&file, "[Visits]\nid_field = \"Uuid\"\nfields = {}\n").unwrap();
        let refused = Command::new(program).args([crm, "--schema"]).arg(&file).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(String::from_utf8(refused.stderr).unwrap().contains("module Visits has no field Uuid"));
    }
}
