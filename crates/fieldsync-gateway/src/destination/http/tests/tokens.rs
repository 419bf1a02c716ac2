//! How long a token is used, and who shares it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::super::driver::HttpDestination;
use super::super::reload_cache::ReloadCache;
use super::super::token_budget::LocalTokenBudget;
use super::crm_process::TestCrm;
use super::support::{account, refusal};
use crate::destination::Verdict;

const BUDGET: Duration = Duration::from_secs(10);

#[test]
fn a_reload_keeps_the_token_until_a_secret_or_a_setting_of_it_changes() {
    let crm = TestCrm::zoho(&[], |_| {});
    let cache = ReloadCache::new(Arc::new(LocalTokenBudget::new()));
    let deliver = |number, window: Option<Duration>| -> Verdict {
        let mut mapping = crm.mapping.clone();
        mapping.limits.max_in_flight = 1;
        if let Some(window) = window {
            mapping.auth.token_window = window;
        }
        let destination = HttpDestination::new(mapping, &cache).unwrap();
        crm.deliver_through(&destination, &[account(number, None, "")], BUDGET).remove(0)
    };
    let tokens_issued = || crm.report()["tokens_issued"].as_u64().unwrap();
    for number in 1..=12 {
        assert!(deliver(number, None).is_applied(), "{number}");
    }
    assert_eq!(tokens_issued(), 1);
    let window = Some(Duration::from_mins(20));
    assert!(deliver(13, window).is_applied());
    assert_eq!(tokens_issued(), 2);
    crm.write_secret("secret", "wrong");
    assert_eq!(refusal(&deliver(14, window)), ("DESTINATION_STOPPED", false));
    // A reload after the cause was removed at the CRM does not wait.
    crm.write_secret("secret", "stand-in-secret");
    assert!(deliver(15, window).is_applied());
}

#[test]
fn a_token_that_comes_after_its_delivery_has_ended_is_used_by_the_next_one() {
    let crm = TestCrm::zoho(&[], |_| {});
    crm.set_faults(&json!({ "token-slow": { "next": 1 } }));
    let late = crm.deliver(&[account(1, None, "")], Duration::from_millis(300)).remove(0);
    assert_eq!(refusal(&late), ("DESTINATION_BUSY", false));
    assert!(crm.deliver(&[account(1, None, "")], BUDGET).remove(0).is_applied());
    assert_eq!(crm.report()["tokens_issued"], 1);
}
