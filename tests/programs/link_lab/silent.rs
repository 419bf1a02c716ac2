//! The link is up, but no response arrives, no server runs, or the name does not resolve.

use super::{
    all_synced, assert_attempts, assert_untouched, enqueue_large, offline_until, settings_for_silence, start,
    wait_for_link,
};
use crate::support::ledger::Ledger;
use crate::support::netns::{Lab, SERVER};
use crate::support::server::{Reply, Request, ScriptedServer};

/// A server that does this with the first batch.
fn server(ledger: &Ledger, first: impl Fn(&Ledger, &Request) -> Reply + Send + 'static) -> ScriptedServer {
    let (books, mut is_first) = (ledger.clone(), true);
    ScriptedServer::start_at(SERVER.parse().unwrap(), move |request| {
        if request.is_batch() && std::mem::take(&mut is_first) {
            first(&books, request)
        } else {
            books.respond(request)
        }
    })
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_silence_in_the_middle_of_a_body_loses_and_duplicates_nothing() {
    let (lab, ledger) = (Lab::new(), Ledger::default());
    let server = server(&ledger, Ledger::respond);
    lab.slow_down(800);
    let daemon = start(&lab, &settings_for_silence());
    let batch = enqueue_large(&daemon);
    server.wait_for_body_bytes(50_000);
    lab.swallow_answers();
    let others = daemon.enqueue_many(5);
    daemon.wait_until("the batch to be given up", |status| status["records"]["failed"] == batch.len());
    assert_attempts(&daemon, &batch, 1);
    assert_untouched(&daemon, &others);
    lab.let_answers_through();
    ledger.assert_holds(&all_synced(&daemon, &[&batch, &others]));
    assert_attempts(&daemon, &batch, 2);
    assert_attempts(&daemon, &others, 1);
    wait_for_link(&daemon, "online");
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_silence_in_the_middle_of_a_response_leaves_the_outcome_to_a_query() {
    let (lab, ledger) = (Lab::new(), Ledger::default());
    let server = server(&ledger, |books, request| books.respond(request).dripping());
    let daemon = start(&lab, &settings_for_silence());
    let batch = daemon.enqueue_many(3);
    server.wait_for_batches(1);
    lab.swallow_answers();
    let others = daemon.enqueue_many(5);
    daemon.wait_until("the batch to be given up", |status| status["records"]["failed"] == batch.len());
    assert_untouched(&daemon, &others);
    lab.let_answers_through();
    ledger.assert_holds(&all_synced(&daemon, &[&batch, &others]));
    assert_attempts(&daemon, &[batch, others].concat(), 1);
    assert_eq!(server.sizes(), [3, 5]);
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn after_a_reset_connection_the_outcome_is_queried_and_the_batch_sent_again() {
    let (lab, ledger) = (Lab::new(), Ledger::default());
    let server = server(&ledger, |_, _| Reply::Reset);
    // A query whose response takes too long is repeated, and this counts queries.
    let settings =
        settings_for_silence().with("server.request_timeout", "15s").with("server.answer_timeout", "10s");
    let daemon = start(&lab, &settings);
    let ids = daemon.enqueue_many(3);
    ledger.assert_holds(&all_synced(&daemon, &[&ids]));
    assert_attempts(&daemon, &ids, 2);
    assert_eq!(
        (server.sizes(), server.count_outcome_queries(server.batches()[0].batch_id())),
        (vec![3, 3], 1)
    );
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn an_unresolvable_name_is_offline_until_it_resolves() {
    let settings = settings_for_silence().with("server.url", "http://crm.field.test:8080");
    // No name resolves from the beginning.
    offline_until(&settings, |_| {}, |lab| lab.name_server("crm.field.test"));
}

#[test]
#[ignore = "needs root and network namespaces: cargo test --test programs link_lab:: -- --ignored"]
fn a_stopped_server_is_offline_until_it_runs() {
    offline_until(&settings_for_silence(), Lab::hide_server, Lab::show_server);
}
