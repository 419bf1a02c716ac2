//! The pictures of the page in the documentation: `docs/pictures/make` writes them again.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::support::chromium::{Browser, Tab};
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::directory;
use crate::support::web::{CODE, Page, with_code};

const SIZE: (u32, u32) = (1000, 820);

/// Rejects the records of one account.
fn reject_one_account(request: &Request) -> Reply {
    if !request.is_batch() {
        return Reply::correct(request);
    }
    let rejected = json!({"status": "rejected", "code": "ACCOUNT_CLOSED", "message": "Farm 9 closed its account in May"});
    let records = request.records();
    let is_rejected = |id: &str| records.iter().any(|record| record["id"] == id && record["key"] == "Farm 9");
    Reply::results(request.batch_id(), &request.ids(), |id| {
        Some(if is_rejected(id) { rejected.clone() } else { json!({"status": "applied"}) })
    })
}

#[test]
#[ignore = "needs chromium"]
fn the_page_of_a_device_whose_server_is_busy_and_that_is_paused_then() {
    let scratch = directory();
    let target = std::env::var_os("FIELDSYNC_PICTURES").map_or(scratch.path().to_owned(), PathBuf::from);
    let save = |tab: &Tab<'_>, name: &str| {
        let picture = tab.take_picture();
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "{name} shows something");
        fs::write(target.join(name), picture).unwrap();
    };
    let server = ScriptedServer::start(reject_one_account);
    let settings = Settings::for_server(&server.url())
        .with("device.name", "tablet-17")
        .with("retry.max_retry_after", "1h");
    let daemon = with_code(&settings, &[]);
    let enqueue = |record_type: &str, farm: u32| {
        daemon.enqueue(&[json!({"type": record_type, "key": format!("Farm {farm}"), "payload": {}})]);
    };
    for (record_type, farm) in
        [("Visit", 1), ("Visit", 2), ("Sample", 2), ("Visit", 3), ("Order", 3), ("Order", 9), ("Visit", 6)]
    {
        enqueue(record_type, farm);
    }
    daemon.wait_until("all but one to be sent", |status| status["records"]["synced"] == 6);
    server.set_script(|request| {
        let busy = Reply::error(503, "BUSY").with("retry-after", "1200");
        if request.is_batch() { busy } else { Reply::unknown_batch() }
    });
    enqueue("Visit", 7);
    enqueue("Sample", 7);
    daemon.wait_until("the wait of both", |status| {
        status["sync"]["reason"] == "server_busy" && status["records"]["syncing"] == 0
    });
    let browser = Browser::start();
    let url = format!("{}#token={CODE}", Page::of(&daemon).url());
    for (name, scheme) in [("page.png", "light"), ("page-dark.png", "dark")] {
        let tab = browser.open_in("en", &url, SIZE);
        tab.prefer(&[("prefers-color-scheme", scheme)]);
        tab.wait_for_text("#sent-count", "6");
        tab.wait_for_text("#waiting li .key", "Farm 7");
        save(&tab, name);
    }
    assert_eq!(daemon.cli(&["pause"]).code, Some(0));
    let tab = browser.open_in("de", &url, SIZE);
    tab.wait_for_text("#sent-count", "6");
    tab.wait_for_text("#remedy", "um wieder zu senden: „Fortsetzen“");
    tab.wait_for_text("#waiting li .key", "Farm 7");
    save(&tab, "page-de.png");
}
