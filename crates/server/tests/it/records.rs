//! What is kept of calls and of what happened, how it is written without holding anybody up, and for how long it is kept.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use database::Engine;
use database::events::event_list;
use domain::call::{CallStatus, Ingress};
use domain::id::CallId;
use jiff::Timestamp;
use serde_json::{Value, json};
use server::background::driver::{Outcome, Task as _};
use server::background::prune_rows::{BATCH_ROWS, PruneRows};
use server::clock::Clock as _;
use server::record::{Entry, Told, keep, tell, write};

use crate::harness::{Node, PATIENCE, on_both_engines, run, run_with};

on_both_engines!(a_batch_asks_for_its_events_at_once, what_is_old_is_forgotten);

/// A report that a call has ended, which is the first of it.
fn ended(node: &Node, call: u128, at: Timestamp) -> Entry {
    Entry {
        id: CallId::from_bits(call),
        ingress: Ingress::STORE,
        carrier_call_id: format!("CA{call:032}"),
        workspace: Some(node.workspace),
        number_id: None,
        from: "+15145550100".to_owned(),
        to: "+14155550101".to_owned(),
        route: None,
        status: Some(CallStatus::Completed),
        outcome: None,
        decision: None,
        answered_at: None,
        ended_at: Some(at),
        duration_s: Some(1),
        kind: "status".to_owned(),
        dedupe_key: "status completed".to_owned(),
        detail: Value::Null,
        happened_at: at,
        at,
    }
}

/// From the first event on, everybody's changes in the workspace wait for the batch; so that part is the same for many calls as
/// for one.
async fn a_batch_asks_for_its_events_at_once(node: Arc<Node>) {
    let now = node.clock.now();
    let mut asked = Vec::new();
    for calls in [0..1, 1..101] {
        let entries: Vec<Entry> = calls.map(|call| ended(&node, call, now)).collect();
        let told = node.app.database.write(move |tx| {
            let mut told = Told::new();
            entries.iter().try_for_each(|entry| keep(tx, entry, &mut told))?;
            let before = tx.asked();
            tell(tx, &told)?;
            Ok(tx.asked() - before)
        });
        asked.push(told.await.unwrap());
    }
    assert_eq!(asked, [3, 3]);
    let listed = node.get("/v1/calls?limit=200").await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 101);
    let workspace = node.workspace;
    let events = node.app.database.read(move |read| event_list(read, workspace, 0, 500)).await.unwrap();
    let of_calls: Vec<&str> = events
        .iter()
        .map(|entry| entry.event.kind.as_str())
        .filter(|kind| kind.starts_with("call."))
        .collect();
    assert_eq!(of_calls, ["call.started", "call.ended"].repeat(101));
    // The same batch again tells nothing.
    let again = vec![ended(&node, 0, now), ended(&node, 1, now)];
    node.app.database.write(move |tx| write(tx, &again)).await.unwrap();
    let last = node.app.database.read(move |read| database::events::event_last(read, workspace)).await;
    assert_eq!(last.unwrap(), events.last().unwrap().seq);
}

/// On PostgreSQL transactions run beside each other: while the calls of a batch are written, changes go through.
#[test]
fn a_change_does_not_wait_for_the_calls_of_a_batch() {
    run(Engine::Postgres, async |node: Arc<Node>| {
        let entries: Vec<Entry> = (0..100).map(|call| ended(&node, call, node.clock.now())).collect();
        let (kept, is_kept) = sync_channel(1);
        let (go_on, may_go_on) = sync_channel(1);
        let may_go_on = std::sync::Mutex::new(may_go_on);
        let patient = node.app.database.within(PATIENCE);
        let batch = patient.write(move |tx| {
            let mut told = Told::new();
            entries.iter().try_for_each(|entry| keep(tx, entry, &mut told))?;
            kept.send(()).unwrap();
            may_go_on.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            tell(tx, &told)
        });
        let change = async {
            tokio::task::spawn_blocking(move || is_kept.recv_timeout(PATIENCE).unwrap()).await.unwrap();
            let changed = node.patch("/v1/workspace", json!({"default_country": "CA"})).await;
            go_on.send(()).unwrap();
            changed
        };
        let (batch, changed) = tokio::join!(batch, change);
        assert_eq!(changed.status, 200, "{}", changed.text);
        batch.unwrap();
    });
}

async fn count(node: &Node) -> (usize, usize) {
    let workspace = node.workspace;
    let events = node.app.database.read(move |read| event_list(read, workspace, 0, 10_000)).await.unwrap();
    let calls = node.get("/v1/calls?limit=200").await.json()["data"].as_array().unwrap().len();
    (events.len(), calls)
}

/// More than one batch of calls, and their two events each, over ten days; and one call of today.
async fn filled(node: &Node) {
    let (now, most) = (node.clock.now(), u128::from(BATCH_ROWS));
    for call in 0..=most + 10 {
        let days = i64::from(call <= most + 5) * 10;
        let entry = ended(node, call, now - jiff::SignedDuration::from_hours(24 * days));
        node.app.database.write(move |tx| write(tx, std::slice::from_ref(&entry))).await.unwrap();
    }
}

async fn what_is_old_is_forgotten(node: Arc<Node>) {
    filled(&node).await;
    let (events, calls) = count(&node).await;
    assert_eq!(PruneRows.run_once(&node.app).await.unwrap(), Outcome::Idle);
    assert_eq!(count(&node).await, (events, calls), "nothing is thirty days old");
    node.clock.advance(Duration::from_secs(20 * 24 * 3600 + 1));
    PruneRows.run_once(&node.app).await.unwrap();
    let old = 2 * (BATCH_ROWS as usize + 6);
    assert_eq!(
        count(&node).await,
        (events - old, calls),
        "calls are kept for good unless the settings say else"
    );
    let audit = node.get("/v1/audit").await.json();
    assert!(!audit["data"].as_array().unwrap().is_empty(), "the audit log is never touched");
}

#[test]
fn calls_are_forgotten_where_the_settings_say_so() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        run_with(
            engine,
            "retention.calls_days = 9\nretention.events_days = 11\n",
            async |node: Arc<Node>| {
                filled(&node).await;
                let (events, _) = count(&node).await;
                PruneRows.run_once(&node.app).await.unwrap();
                assert_eq!(count(&node).await, (events, 5));
            },
        );
    }
}
