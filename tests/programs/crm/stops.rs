//! Trouble that no record causes: a module is gone, a permission or a scope is missing, the domain or the secret is wrong.
//! No record is rejected. Records wait, device and gateway say why, and go through when it is mended.

use serde_json::json;

use super::chain::{Chain, device_settings};
use super::records::{CrmRecord, crm_records};
use crate::support::crm_stand_in::CrmKind;
use crate::support::daemon::Counts;
use crate::support::wait::wait_for;

/// 85 accounts, and deals.
const RECORD_COUNT: usize = 120;
const STOPPED_TYPES: &str = "fieldsync_gateway_destination_stopped_types";
const STOPPED: &str = "fieldsync_gateway_destination_condition{condition=\"stopped\"}";

/// Waits until everyone says why records wait; none of them is rejected, and `settled` of all are synced.
#[track_caller]
fn assert_waits(chain: &Chain, reason: &str, ids: &[String], settled: u64) {
    wait_for("the device to say why", || {
        chain.daemon.status()["sync"]["last_error"].to_string().contains(reason).then_some(())
    });
    let shown = chain.daemon.cli(&["status"]);
    assert!(shown.stdout.contains(reason), "{shown:?}");
    chain.wait_until("what passes", |counts| counts.synced == settled);
    let waiting = ids.iter().map(|id| chain.daemon.detail(id)).find(|detail| detail["state"] != "SYNCED");
    let waiting = waiting.expect("a record waits");
    assert!(waiting["last_error"]["message"].to_string().contains(reason), "{waiting}");
    let health = chain.gateway.get("/healthz").text();
    assert!(health.contains(reason), "{health}");
    assert!(chain.gateway.metric(STOPPED_TYPES) > 0 || chain.gateway.metric(STOPPED) == 1, "{health}");
    assert!(chain.gateway_log().contains(reason), "{}", chain.gateway_log());
    assert_eq!(chain.daemon.counts().quarantined, 0, "{}", chain.daemon.status());
}

#[track_caller]
fn assert_goes_through(chain: &Chain, records: &[CrmRecord], ids: &[String]) {
    assert_eq!(chain.wait_until_settled(ids.len()), Counts::all_synced(ids.len() as u64));
    chain.assert_outcome(records, ids);
    wait_for("the gateway to forget the trouble", || {
        let is_over = chain.gateway.metric(STOPPED_TYPES) == 0 && chain.gateway.metric(STOPPED) == 0;
        is_over.then_some(())
    });
}

fn wait_for_each_refusal(kind: CrmKind, codes: &[&str]) {
    let mut chain = Chain::start(kind, &[], &device_settings());
    let all = crm_records(RECORD_COUNT * codes.len(), 0);
    let mut ids = Vec::new();
    for (number, code) in codes.iter().enumerate() {
        let settled = ids.len() as u64;
        chain.crm.set_faults(&json!({ "refuse": { *code: 1.0 } }));
        ids.extend(chain.enqueue(&all[ids.len()..][..RECORD_COUNT]));
        assert_waits(&chain, code, &ids, settled);
        chain.crm.clear_faults();
        // Otherwise it would find out within a minute.
        chain.reload_gateway(|_| {});
        assert_goes_through(&chain, &all[..RECORD_COUNT * (number + 1)], &ids);
    }
}

#[test]
fn a_refusal_of_zoho_that_no_record_causes_rejects_none() {
    let codes = ["INVALID_MODULE", "NO_PERMISSION", "OAUTH_SCOPE_MISMATCH", "AUTHORIZATION_FAILED"];
    wait_for_each_refusal(CrmKind::Zoho, &codes);
}

#[test]
fn a_refusal_of_salesforce_that_no_record_causes_rejects_none() {
    let codes = ["INSUFFICIENT_ACCESS", "NOT_FOUND", "API_DISABLED_FOR_ORG"];
    wait_for_each_refusal(CrmKind::Salesforce, &codes);
}

/// All that is not a deal is synced meanwhile.
#[test]
fn a_module_that_is_gone_holds_back_its_own_records_only() {
    let mut chain = Chain::start(CrmKind::Zoho, &[], &device_settings());
    chain.reload_gateway(|configuration| configuration.deals_module = Some("Offers"));
    wait_for("the reload", || chain.gateway_log().contains("was read again").then_some(()));
    let records = crm_records(RECORD_COUNT, 0);
    let accounts = records.iter().filter(|record| record.record_type() == "Accounts").count();
    let ids = chain.enqueue(&records);
    assert_waits(&chain, "INVALID_MODULE", &ids, accounts as u64);
    assert_eq!(chain.gateway.get("/readyz").status, 200, "others pass");
    chain.reload_gateway(|configuration| configuration.deals_module = None);
    assert_goes_through(&chain, &records, &ids);
}

#[test]
fn a_wrong_domain_and_a_wrong_secret_stop_all_until_they_are_mended() {
    let mut chain = Chain::start(CrmKind::Zoho, &[], &device_settings());
    let records = crm_records(2 * RECORD_COUNT, 0);
    let port = chain.crm.url().rsplit_once(':').unwrap().1.to_owned();
    // The stand-in listens there, and has another name.
    chain.reload_gateway(|configuration| {
        configuration.api_domain = Some(format!("http://localhost:{port}"));
    });
    wait_for("the reload", || chain.gateway_log().contains("was read again").then_some(()));
    let mut ids = chain.enqueue(&records[..RECORD_COUNT]);
    assert_waits(&chain, "INVALID_HOST", &ids, 0);
    chain.reload_gateway(|configuration| configuration.api_domain = None);
    assert_goes_through(&chain, &records[..RECORD_COUNT], &ids);

    chain.crm.set_faults(&json!({ "expire-tokens": { "next": 1 } }));
    chain.reload_gateway(|configuration| configuration.client_secret = "wrong");
    wait_for("the third reload", || {
        (chain.gateway_log().matches("the configuration was read again").count() >= 3).then_some(())
    });
    ids.extend(chain.enqueue(&records[RECORD_COUNT..]));
    assert_waits(&chain, "invalid_client", &ids, RECORD_COUNT as u64);
    assert_eq!(chain.gateway.get("/readyz").status, 503);
    chain.reload_gateway(|configuration| configuration.client_secret = "stand-in-secret");
    assert_goes_through(&chain, &records, &ids);
}
